//! The platform itself: sharing, mapping, event channels.

use crate::{Clock, CopySegment, DomId, EventCounter, GrantRef, Port, SharedMem};
use alloc::rc::Rc;
use core::task::{Context, Poll};

/// Rights of a mapping of a peer's pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// The peer's pages can only be read; writing to such a mapping is a bug of the caller.
    ReadOnly,
    /// The peer's pages can be read and written.
    ReadWrite,
}

/// Pages of one's own that a peer may map. Dropping them revokes the grants; pages that the peer
/// still maps are set aside until it lets go, and never used again before.
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
    /// Returns the number of events so far, modulo 2^32.
    fn seen(&self) -> u32;
    /// Ready, with `seen` brought up to date, once an event came that is newer than `seen`.
    fn poll_after(&self, seen: &mut u32, cx: &mut Context<'_>) -> Poll<()>;
    /// Returns whether the peer's end is there: false before the peer binds and after it closed or
    /// died. Where the platform cannot tell (Linux without the privilege), true for as long as the
    /// peer's domain is there.
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

/// The services that a hypervisor gives a domain. A handle: clones refer to the same domain.
pub trait Platform: Clock + Clone + 'static {
    /// Pages shared with a peer.
    type Grant: Granted + 'static;
    /// A peer's pages, mapped here; dropping it unmaps them.
    type Map: SharedMem + 'static;
    /// One end of an event channel.
    type Channel: Channel + 'static;
    /// The reason for which the platform refused; its text names the operation and its operands.
    type Error: core::error::Error + 'static;

    /// Counts the moments at which this domain, with nothing else to do, has let others have the
    /// physical processor and got it back. See [`yield_now`].
    fn yields(&self) -> &EventCounter;
    /// Counts the times that this domain went on in a new hypervisor state, after save and restore
    /// or a migration. Each time, all grants, mappings and channels from before are gone, and
    /// [`Platform::domid`] may be another number.
    ///
    /// Handles from before stay harmless. A grant is private memory with the bytes that it had, a
    /// mapping reads all ones, and a channel is not bound and counts one last event; dropping one
    /// of them touches nothing that was opened since. A cancelled suspend does not count: all is as
    /// before.
    fn resumes(&self) -> &EventCounter;
    /// Returns whether the cause of `error` lies in this domain, as a missing module or a limit
    /// does: then the peer has no part in it, and waiting for the peer is in vain.
    fn is_local(error: &Self::Error) -> bool {
        let _ = error;
        false
    }
    /// Returns the own domain's number, where the platform can tell.
    fn domid(&self) -> Option<DomId>;
    /// Shares `pages` zeroed pages, contiguous here, with `peer`, which may read and write them.
    fn share(&self, peer: DomId, pages: usize) -> Result<Self::Grant, Self::Error>;
    /// Shares `pages` zeroed pages, contiguous here, with `peer`, which may only read them.
    fn share_read_only(&self, peer: DomId, pages: usize) -> Result<Self::Grant, Self::Error>;
    /// Maps pages of `peer`, contiguous here, in the order of `refs`.
    fn map(&self, peer: DomId, refs: &[GrantRef], access: Access)
    -> Result<Self::Map, Self::Error>;
    /// Copies between private memory and pages that `peer` granted, without mapping them: each
    /// piece on its own, in any order, with the outcome noted in it. An error means that none was
    /// tried.
    fn copy(&self, peer: DomId, pieces: &mut [CopySegment<'_>]) -> Result<(), Self::Error>;
    /// Opens a port that only `peer` may bind to.
    fn listen(&self, peer: DomId) -> Result<Self::Channel, Self::Error>;
    /// Binds to a port of `peer` that it opened for this domain.
    fn connect(&self, peer: DomId, port: Port) -> Result<Self::Channel, Self::Error>;

    /// Arranges that, when this side dies or drops `grant`, the byte at `at` becomes 0 and
    /// `channel` sends an event, so that the peer learns of a crash.
    fn clear_grant_on_death(
        &self,
        grant: &Self::Grant,
        at: usize,
        channel: &Self::Channel,
    ) -> Result<(), Self::Error>;
    /// The same for a byte in pages mapped from a peer.
    fn clear_map_on_death(
        &self,
        map: &Self::Map,
        at: usize,
        channel: &Self::Channel,
    ) -> Result<(), Self::Error>;
}

/// Lets all other tasks do what they can, and then other domains, for a moment: long enough for a
/// peer that waits for the same processor to do its part, and no longer than a hypercall takes if
/// there is none.
///
/// A task that expects an answer soon yields a few times before it asks for an event and sleeps: if
/// the answer comes meanwhile, no event is sent, and no task is woken.
pub async fn yield_now(platform: &impl Platform) {
    let mut seen = platform.yields().count();
    core::future::poll_fn(|cx| platform.yields().poll_after(&mut seen, cx)).await
}
