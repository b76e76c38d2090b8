//! A connection with a frontend: all of its rings.

use super::grants::Grants;
use super::journal;
use super::operation::Operation;
use super::queue::{Queue, Ring};
use super::request::Limits;
use crate::back::config::Config;
use crate::back::error::PeerError;
use crate::back::handle::Handle;
use crate::back::storage::Storage;
use crate::back::xenbus::keys::Requested;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::task::{Context, Poll};
use xen_exec::TaskSet;
use xen_platform::{Access, Channel, DomId, IndexMemory, Platform, SharedMem};
use xen_ring::slots::{Back, Shape};

/// A connection with a frontend. Dropping it unmaps its pages and closes its ports.
pub(in crate::back) struct Connection<'a, P: Platform, S> {
    queues: Vec<Queue<'a, P, S>>,
}

/// Error that keeps a connection from being made.
pub(in crate::back) enum ConnectError {
    /// The frontend's rings cannot be used.
    Peer(PeerError),
    /// The cause lies in this domain; the platform's text names it and the cure.
    Local(String),
}

impl From<PeerError> for ConnectError {
    fn from(error: PeerError) -> Self {
        ConnectError::Peer(error)
    }
}

/// Tells a refusal that the frontend caused from one whose cause lies in this domain.
fn refused<P: Platform>(error: P::Error, peer: impl FnOnce(String) -> PeerError) -> ConnectError {
    let text = error.to_string();
    match P::is_local(&error) {
        true => ConnectError::Local(text),
        false => ConnectError::Peer(peer(text)),
    }
}

/// References that all connections of a disk share.
pub(in crate::back) struct Shared<'a, P, S> {
    pub platform: &'a P,
    pub storage: &'a S,
    pub config: &'a Config,
    pub handle: &'a Handle,
}

impl<P, S> Clone for Shared<'_, P, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P, S> Copy for Shared<'_, P, S> {}

impl<'a, P: Platform, S: Storage> Connection<'a, P, S> {
    /// Maps the frontend's rings and binds to its ports. A ring that is in use already goes on at
    /// the place that its page says.
    pub fn new(
        shared: &Shared<'a, P, S>,
        peer: DomId,
        requested: &Requested,
        limits: Limits,
    ) -> Result<Self, ConnectError> {
        let &Shared { platform, storage, config, handle } = shared;
        let abi = requested.abi;
        let mut queues = Vec::with_capacity(requested.rings.len());
        for (number, keys) in (0..).zip(&requested.rings) {
            let page = platform
                .map(peer, &keys.refs, Access::ReadWrite)
                .map_err(|why| refused::<P>(why, |why| PeerError::Map { queue: number, why }))?;
            let shape = Shape::new(page.len(), abi.slot());
            journal::recover(&page, shape.slots(), abi);
            // Should the frontend change it before the ring is attached, only its own journal is of
            // no use.
            let next = page.load(journal::RSP_PROD);
            let slots = Back::attach(shape, &page)
                .map_err(|corrupt| PeerError::Ring { queue: number, corrupt })?;
            let channel = platform
                .connect(peer, keys.port)
                .map_err(|why| refused::<P>(why, |why| PeerError::Bind { queue: number, why }))?;
            // Responses that were given before can be new to the frontend, if the backend before
            // was killed then.
            channel.notify();
            let persistent = if requested.persistent { config.persistent } else { 0 };
            let grants = Grants::new(platform, peer, config.data_path, persistent);
            let ring = Ring { number, abi, slots, next, page, channel, grants };
            queues.push(Queue::new(ring, platform, storage, config, handle, limits));
        }
        Ok(Connection { queues })
    }

    /// Moves on as far as it can; ready only when the frontend broke the protocol.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<PeerError> {
        for queue in &mut self.queues {
            if let Poll::Ready(broken) = queue.poll(cx) {
                return Poll::Ready(broken);
            }
        }
        Poll::Pending
    }

    /// Takes no more requests. Those that were taken are still completed.
    pub fn close(&mut self) {
        self.queues.iter_mut().for_each(Queue::close);
    }

    /// Polls until all requests that were taken are completed.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let broken = self.poll(cx).is_ready();
        if broken || self.queues.iter().all(Queue::is_idle) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Lets the frontend's pages and ports go, and returns the operations that the storage has not
    /// ended. Those that were not begun never will be.
    pub fn into_unfinished(self) -> Unfinished<'a> {
        let sets = self.queues.into_iter().map(Queue::into_in_flight);
        Unfinished(sets.filter(|set| !set.is_empty()).collect())
    }

    /// Takes over new limits: the disk has another size.
    pub fn set_limits(&mut self, limits: Limits) {
        self.queues.iter_mut().for_each(|queue| queue.set_limits(limits));
    }

    /// Tells if the frontend's end of every event channel is there, as far as the platform knows.
    pub fn is_bound(&self) -> bool {
        self.queues.iter().all(|queue| queue.channel().is_bound())
    }
}

/// Operations of a connection that is gone, which the storage has not ended yet. A write among them
/// can still reach the disk, so no other connection may be served before.
#[derive(Default)]
pub(in crate::back) struct Unfinished<'a>(Vec<TaskSet<'a, Operation>>);

impl Unfinished<'_> {
    /// Returns the number of operations.
    pub fn len(&self) -> usize {
        self.0.iter().map(TaskSet::len).sum()
    }

    /// Polls until all of them have ended. Their results concern nobody any more.
    pub fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ended = Vec::new();
        self.0.retain_mut(|set| {
            set.poll_all(cx, &mut ended);
            !set.is_empty()
        });
        if self.0.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }
}
