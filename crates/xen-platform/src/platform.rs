//! The platform itself: sharing, mapping, event channels.

use crate::{Clock, DomId, EventCounter, GrantRef, Piece, Port, SharedMem};
use alloc::rc::Rc;
use core::task::{Context, Poll};

/// How pages of a peer are mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// The peer's pages can only be read; writing to such a mapping is a bug of the caller.
    ReadOnly,
    /// The peer's pages can be read and written.
    ReadWrite,
}

/// Pages of one's own that a peer may map. Dropping them revokes the grants; pages that the peer still maps are set
/// aside until it lets go, and never used again before.
pub trait Granted: SharedMem {
    /// One grant reference for each page, in the order of the pages.
    fn refs(&self) -> &[GrantRef];
}

/// One's own end of an event channel. Dropping it closes the port.
pub trait Channel {
    /// The port's number in one's own domain.
    fn port(&self) -> Port;
    /// Sends an event to the peer. A peer that is gone is no error here: see [`Channel::is_bound`].
    fn notify(&self);
    /// How many events have come so far, modulo 2^32.
    fn seen(&self) -> u32;
    /// Ready, with `seen` brought up to date, once an event came that is newer than `seen`.
    fn poll_after(&self, seen: &mut u32, cx: &mut Context<'_>) -> Poll<()>;
    /// Whether the peer's end is there: false before the peer binds and after it closed or died. Where the platform
    /// cannot tell (Linux without the privilege), true for as long as the peer's domain is there.
    fn is_bound(&self) -> bool;
}

/// A shared [`Channel`] is one, so that a reader and a writer can each hold it.
impl<C: Channel> Channel for Rc<C> {
    fn port(&self) -> Port {
        (**self).port()
    }
    fn notify(&self) {
        (**self).notify()
    }
    fn seen(&self) -> u32 {
        (**self).seen()
    }
    fn poll_after(&self, seen: &mut u32, cx: &mut Context<'_>) -> Poll<()> {
        (**self).poll_after(seen, cx)
    }
    fn is_bound(&self) -> bool {
        (**self).is_bound()
    }
}

/// The number of events last seen, and the wait for a newer one.
pub struct ReadySince(u32);

impl ReadySince {
    /// Starts from what `channel` has counted by now.
    pub fn now(channel: &impl Channel) -> Self {
        ReadySince(channel.seen())
    }

    /// Waits for an event newer than the last one this value has seen.
    pub async fn wait(&mut self, channel: &impl Channel) {
        core::future::poll_fn(|cx| channel.poll_after(&mut self.0, cx)).await
    }
}

/// What a hypervisor gives a domain. A handle: clones refer to the same domain.
pub trait Platform: Clock + Clone + 'static {
    /// Pages shared with a peer.
    type Grant: Granted + 'static;
    /// A peer's pages, mapped here; dropping it unmaps them.
    type Map: SharedMem + 'static;
    /// One end of an event channel.
    type Channel: Channel + 'static;
    /// Why the platform said no; its text names the operation and its operands.
    type Error: core::error::Error + 'static;

    /// Counts the moments at which this domain, with nothing else to do, has let others have the physical processor and
    /// got it back. See [`pause`].
    fn pauses(&self) -> &EventCounter;
    /// The own domain's number, where the platform can tell.
    fn domid(&self) -> Option<DomId>;
    /// Shares `pages` zeroed pages, contiguous here, with `peer`, which may read and write them.
    fn share(&self, peer: DomId, pages: usize) -> Result<Self::Grant, Self::Error>;
    /// Shares `pages` zeroed pages, contiguous here, with `peer`, which may only read them.
    fn share_read_only(&self, peer: DomId, pages: usize) -> Result<Self::Grant, Self::Error>;
    /// Maps pages of `peer`, contiguous here, in the order of `refs`.
    fn map(&self, peer: DomId, refs: &[GrantRef], access: Access) -> Result<Self::Map, Self::Error>;
    /// Copies between private memory and pages that `peer` granted, without mapping them: each piece on its own, in any
    /// order, with the outcome noted in it. An error means that none was tried.
    fn copy(&self, peer: DomId, pieces: &mut [Piece<'_>]) -> Result<(), Self::Error>;
    /// Opens a port that only `peer` may bind to.
    fn listen(&self, peer: DomId) -> Result<Self::Channel, Self::Error>;
    /// Binds to a port of `peer` that it opened for this domain.
    fn connect(&self, peer: DomId, port: Port) -> Result<Self::Channel, Self::Error>;

    /// Sees to it that, should this side die or drop `grant` without another word, the byte at `at` becomes 0 and
    /// `channel` sends an event: how a peer learns of a crash.
    fn clear_grant_on_death(&self, grant: &Self::Grant, at: usize, channel: &Self::Channel) -> Result<(), Self::Error>;
    /// The same for a byte in pages mapped from a peer.
    fn clear_map_on_death(&self, map: &Self::Map, at: usize, channel: &Self::Channel) -> Result<(), Self::Error>;
}

/// Lets all other tasks do what they can, and then other domains, for a moment: long enough for a peer that waits for the
/// same processor to do its part, and no longer than a hypercall takes if there is none.
///
/// Who expects an answer soon pauses a few times before it asks for an event and sleeps: if the answer comes meanwhile, no
/// event is sent, and nobody is woken.
pub async fn pause(platform: &impl Platform) {
    let mut seen = platform.pauses().count();
    core::future::poll_fn(|cx| platform.pauses().poll_after(&mut seen, cx)).await
}
