//! The check that nothing is left.

use super::port::Link;
use crate::World;

impl World {
    /// Panics if any domain still holds a grant, a mapping or a port, or if a page that was taken
    /// back is still mapped, with a list of it all.
    #[track_caller]
    pub fn assert_clean(&self) {
        let leaks = self.leaks();
        assert!(leaks.is_empty(), "{} things leaked:\n  {}", leaks.len(), leaks.join("\n  "));
    }

    /// Returns the complaints of [`World::assert_clean`], one line each.
    pub fn leaks(&self) -> Vec<String> {
        let state = self.0.state.borrow();
        let mut leaks = Vec::new();
        for holding in state.holdings.values() {
            let refs: Vec<_> = holding.refs.iter().map(|gref| gref.0).collect();
            leaks.push(match holding.is_map {
                true => format!(
                    "domain {} maps grants {refs:?} of domain {}",
                    holding.by, holding.owner
                ),
                false => format!("domain {} grants {refs:?}", holding.by),
            });
        }
        for (domid, domain) in &state.domains {
            for (gref, entry) in domain.grants.iter().filter(|(_, entry)| entry.revoked) {
                let to = entry.to;
                leaks.push(format!(
                    "domain {domid} took back grant {gref}, which domain {to} still maps"
                ));
            }
            for (number, port) in &domain.ports {
                leaks.push(match port.link {
                    Link::Unbound { peer } => {
                        format!("domain {domid} has port {number} open for domain {peer}")
                    }
                    Link::Bound { peer, port } => {
                        format!(
                            "domain {domid} has port {number} bound to port {port} of domain {peer}"
                        )
                    }
                });
            }
        }
        leaks
    }
}
