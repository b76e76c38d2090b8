//! Liveness of the peer at the other end of an event channel.
//!
//! A peer whose domain is destroyed sends no event, and only dom0 hears of it from xenstore
//! (`@releaseDomain`). Xen knows how a port stands, but Linux asks it for root in dom0 only: since
//! XSA-482 a guest's programs make no hypercalls, unless `xen_privcmd` was loaded with
//! `unrestricted=1`. For them it shows in what Xen refuses: a page of the peer's cannot be copied
//! once its domain's memory is gone, and nothing can be bound to a domain that there is not. The
//! first works while this program maps pages of the peer's and so keeps what is left of its domain;
//! the second when it maps none.

use crate::{Linux, sys};
use rustix::fd::OwnedFd;
use std::io;
use xen_platform::{CopySegment, DomId, GrantRef, Port};

/// A peer, and the page through which its liveness shows.
pub(crate) struct Liveness {
    pub peer: DomId,
    /// A page of its that this program maps, if there is one.
    pub page: Option<GrantRef>,
}

impl Liveness {
    /// Returns whether the peer's end of `port` is there, or at least its domain; true where
    /// nothing can be told. `evtchn` is any descriptor of that device.
    pub fn is_there(&self, linux: &Linux, port: Port, evtchn: &OwnedFd) -> bool {
        match (linux.is_interdomain(port), self.page) {
            (Some(bound), _) => bound,
            (None, Some(page)) => self.has_memory(linux, page),
            (None, None) => exists(&sys::bind_interdomain(evtchn, self.peer, NO_PORT)),
        }
    }

    fn has_memory(&self, linux: &Linux, page: GrantRef) -> bool {
        let Ok(gntdev) = linux.gntdev() else { return true };
        let mut byte = [0];
        let mut piece = [CopySegment::from_peer(page, 0, &mut byte)];
        let asked = sys::copy_segments(&*gntdev, self.peer, &mut piece);
        asked.is_err() || !is_lost(piece[0].status())
    }
}

/// The port that no domain has (xen/event_channel.h: ports are counted from 1).
const NO_PORT: Port = Port(0);

/// Returns whether a copy ended as it does when the domain or its memory is gone:
/// `GNTST_bad_domain` or `GNTST_bad_page` (xen/grant_table.h).
fn is_lost(status: i16) -> bool {
    matches!(status, -2 | -9)
}

/// Returns whether the domain exists whose port could not be bound to: Xen says ESRCH if there is
/// not, and EINVAL of a port that it does not have.
fn exists(refused: &io::Result<Port>) -> bool {
    const ESRCH: i32 = 3;
    !matches!(refused, Err(reason) if reason.raw_os_error() == Some(ESRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_xen_says_of_a_domain_that_is_gone_counts() {
        // GNTST_okay, _general_error, _bad_gntref, _permission_denied and _eagain.
        assert!([0, -1, -3, -8, -12].into_iter().all(|status| !is_lost(status)));
        assert!(is_lost(-2) && is_lost(-9));
        let refused = |errno| exists(&Err(io::Error::from_raw_os_error(errno)));
        // EPERM, EINVAL, ENOSPC and ENOTTY.
        assert!([1, 22, 28, 25].into_iter().all(refused));
        assert!(!refused(3));
    }
}
