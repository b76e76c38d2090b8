//! A world with its xenstored, from which a test may not leave anything behind.

use crate::xenstore::Xenstored;
use crate::{Domain, Sim};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;
use xen_platform::{Clock, DomId, deadline};

/// The most virtual time that one [`Bench::run`] takes.
const LIMIT: Duration = Duration::from_secs(86400);

/// A [`Sim`] with its [`Xenstored`]. When it is dropped, it fails the test if xenstore does not
/// hold what it held at first, beside looking for leaked grants, mappings and ports as a [`Sim`]
/// does.
pub struct Bench {
    /// The world.
    pub sim: Sim,
    /// Its xenstore daemon.
    pub xs: Xenstored,
    /// Contents of xenstore at the beginning, which are to be those at the end.
    nodes: Option<String>,
    destroyed: Rc<RefCell<Vec<DomId>>>,
}

impl Bench {
    /// Returns a world in which `set_up` introduces the domains and makes nodes, as a toolstack
    /// does. Of a domain that is destroyed, the toolstack removes the folder.
    pub fn new(sim: Sim, set_up: impl FnOnce(&Xenstored)) -> Self {
        let xs = Xenstored::new();
        set_up(&xs);
        let destroyed = Rc::new(RefCell::new(Vec::new()));
        let (nodes, graves, toolstack) = (Some(xs.dump()), destroyed.clone(), xs.clone());
        sim.world().on_destroy(move |domain| {
            toolstack.release(domain);
            toolstack.remove(&format!("/local/domain/{domain}"));
            graves.borrow_mut().push(domain);
        });
        Bench { sim, xs, nodes, destroyed }
    }

    /// Lets the test leave keys behind.
    pub fn leaves_keys(mut self) -> Self {
        self.nodes = None;
        self
    }

    /// Returns a world in which `set_up` alone cares for xenstore: nothing is removed with a domain
    /// that is destroyed or suspended, and keys may be left behind.
    pub fn without_toolstack(sim: Sim, set_up: impl FnOnce(&Xenstored)) -> Self {
        let xs = Xenstored::new();
        set_up(&xs);
        Bench { sim, xs, nodes: None, destroyed: Rc::default() }
    }

    /// Runs all tasks until `main` ends, which must not take a day of the world's time.
    pub fn run<T: 'static>(&mut self, main: impl Future<Output = T> + 'static) -> T {
        let clock: Domain = self.sim.domain(0);
        let limit = Some(clock.now() + LIMIT);
        self.sim.run(async move { deadline(&clock, limit, main).await.expect("the test hangs") })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let (Some(nodes), false) = (&self.nodes, std::thread::panicking()) else { return };
        let destroyed = self.destroyed.borrow();
        let is_left = |line: &&str| {
            !destroyed.iter().any(|domain| line.starts_with(&format!("/local/domain/{domain}")))
        };
        let nodes: Vec<&str> = nodes.lines().filter(is_left).collect();
        assert_eq!(self.xs.dump().lines().collect::<Vec<_>>(), nodes, "xenstore is not as it was");
    }
}
