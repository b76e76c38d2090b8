//! All rings of a connection.

use super::grants::Grants;
use super::journal;
use super::keys::Wish;
use super::queue::{Queue, Wiring};
use super::request::Limits;
use super::storage::Storage;
use super::{Config, Handle, PeerError};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::task::{Context, Poll};
use xen_platform::{Access, Channel, DomId, IndexMemory, Platform, SharedMem};
use xen_ring::slots::{Back, Shape};

/// A connection with a frontend. Dropping it unmaps and closes all that is the frontend's.
pub(super) struct Link<'a, P: Platform, S> {
    queues: Vec<Queue<'a, P, S>>,
}

/// What all connections of a disk have in common.
pub(super) struct Common<'a, P, S> {
    pub platform: &'a P,
    pub storage: &'a S,
    pub config: &'a Config,
    pub handle: &'a Handle,
}

impl<'a, P: Platform, S: Storage> Link<'a, P, S> {
    /// Maps the frontend's rings and binds its ports. Where a ring is in use already, it goes on there.
    pub fn new(common: &Common<'a, P, S>, peer: DomId, wish: &Wish, limits: Limits) -> Result<Self, PeerError> {
        let &Common { platform, storage, config, handle } = common;
        let mut queues = Vec::with_capacity(wish.rings.len());
        for (number, keys) in (0..).zip(&wish.rings) {
            let page = platform.map(peer, &keys.refs, Access::ReadWrite);
            let page = page.map_err(|why| PeerError::Map { queue: number, why: why.to_string() })?;
            let shape = Shape::new(page.len(), wish.abi.slot());
            journal::recover(&page, shape.slots(), wish.abi);
            // Should the frontend change it before the ring is attached, only its own journal is of no use.
            let next = page.load(journal::RSP_PROD);
            let ring = Back::attach(shape, &page).map_err(|corrupt| PeerError::Ring { queue: number, corrupt })?;
            let channel = platform.connect(peer, keys.port);
            let channel = channel.map_err(|why| PeerError::Bind { queue: number, why: why.to_string() })?;
            // What was answered before can be news to the frontend, if the backend before was killed then.
            channel.notify();
            let persistent = if wish.persistent { config.persistent } else { 0 };
            let grants = Grants::new(platform, peer, config.reach, persistent);
            let wiring = Wiring { number, abi: wish.abi, ring, next, page, channel, grants };
            queues.push(Queue::new(wiring, platform, storage, config, handle, limits));
        }
        Ok(Link { queues })
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

    /// Takes no more requests; those that were taken are still answered.
    pub fn close(&mut self) {
        self.queues.iter_mut().for_each(Queue::close);
    }

    /// Ready once all that was taken is answered.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let broken = self.poll(cx).is_ready();
        if broken || self.queues.iter().all(Queue::is_idle) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The disk is of another size.
    pub fn set_limits(&mut self, limits: Limits) {
        self.queues.iter_mut().for_each(|queue| queue.set_limits(limits));
    }

    /// Whether the frontend's end of every event channel is there, as far as the platform can tell.
    pub fn is_bound(&self) -> bool {
        self.queues.iter().all(|queue| queue.channel().is_bound())
    }
}
