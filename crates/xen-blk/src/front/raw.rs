//! A ring without a driver: for those who try what a backend does with requests that no driver sends.
//!
//! The handshake is the same as a disk's. What is published, what is put on the ring and where the indices stand is the
//! caller's business, and answers are handed on as they are.

use super::bus::Bus;
use super::keys::keys;
use super::rings::Queue;
use super::{Error, Why, Wishes};
use crate::handshake::{FrontStep, front};
use crate::wire::{Abi, RESPONSE_MAX, Response};
use alloc::string::String;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::mem::offset_of;
use core::task::Poll;
use core::time::Duration;
use xen_abi::ring::{SLOTS, Sring};
use xen_abi::xenbus::State;
use xen_platform::{Channel, IndexMemory, PAGE_SIZE, Platform, SharedMem, deadline};
use xen_ring::slots::Shape;
use xen_store::Store;

/// An index or event in the ring's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Index {
    /// Where the next request goes, as the backend is told.
    ReqProd,
    /// The request at which the backend wants an event.
    ReqEvent,
    /// Where the next response goes.
    RspProd,
    /// The response at which this side wants an event.
    RspEvent,
}

impl Index {
    fn offset(self) -> usize {
        match self {
            Index::ReqProd => offset_of!(Sring, req_prod),
            Index::ReqEvent => offset_of!(Sring, req_event),
            Index::RspProd => offset_of!(Sring, rsp_prod),
            Index::RspEvent => offset_of!(Sring, rsp_event),
        }
    }
}

/// Keys and values, to be written to the frontend's folder.
pub type Keys = Vec<(String, String)>;

/// A ring, its event channel, and the folders of the disk that it is for.
pub struct RawRing<P: Platform> {
    platform: P,
    bus: Bus,
    queue: Queue<P>,
    shape: Shape,
    abi: Abi,
    /// Where the next request goes.
    req_prod: u32,
    /// Where the next response is taken from.
    rsp_cons: u32,
}

impl<P: Platform> RawRing<P> {
    /// Waits until the backend is ready for rings (one that holds older ones is made to let go), and publishes a ring of
    /// `ring_pages` pages, with the keys that `alter` has changed: those that a disk would write, the state at the end.
    pub async fn publish(
        platform: &P,
        store: &Store,
        vdev: u32,
        wishes: &Wishes,
        alter: impl FnOnce(&mut Keys),
    ) -> Result<RawRing<P>, Error<P::Error>> {
        let mut bus = Bus::find(store, vdev).await?;
        bus.begin().await?;
        let until = platform.now() + wishes.connect_timeout;
        let ready = deadline(platform, Some(until), ready(&mut bus)).await;
        ready.unwrap_or_else(|_| Err(Error::NoBackend { path: bus.back.clone(), state: bus.theirs }))?;
        let queue = Queue::new(platform, bus.backend, wishes.ring_pages, wishes.abi).map_err(Error::Platform)?;
        let queues = [queue];
        let mut keys = keys(&queues, wishes);
        alter(&mut keys);
        bus.publish_keys(&keys).await?;
        let shape = Shape::new(wishes.ring_pages as usize * PAGE_SIZE, wishes.abi.slot());
        let [queue] = queues;
        Ok(RawRing { platform: platform.clone(), bus, queue, shape, abi: wishes.abi, req_prod: 0, rsp_cons: 0 })
    }

    /// Waits until the backend's state is one of `states`, in `within` at most; gives the state it is in then.
    pub async fn backend_is(&mut self, states: &[State], within: Duration) -> Result<State, Error<P::Error>> {
        let until = self.platform.now() + within;
        let bus = &mut self.bus;
        let wait = async {
            while !states.contains(&bus.look().await?) {
                bus.changed().await?;
            }
            Ok(())
        };
        let waited: Result<Result<(), Error<P::Error>>, _> = deadline(&self.platform, Some(until), wait).await;
        waited.unwrap_or(Ok(()))?;
        Ok(self.bus.theirs)
    }

    /// Writes the own state.
    pub async fn write_state(&mut self, state: State) -> Result<(), Error<P::Error>> {
        Ok(self.bus.write(state).await?)
    }

    /// The ring's memory: a head of indices, then slots of [`Abi::slot`] bytes.
    pub fn memory(&self) -> &P::Grant {
        &self.queue.mem
    }

    /// How many slots it has.
    pub fn slots(&self) -> u32 {
        self.shape.slots()
    }

    /// Reads an index from the ring's head.
    pub fn load(&self, index: Index) -> u32 {
        self.queue.mem.load(index.offset())
    }

    /// Writes one, whatever it is.
    pub fn store(&self, index: Index, value: u32) {
        self.queue.mem.store(index.offset(), value)
    }

    /// Writes these bytes to the next slot, which the backend sees after [`RawRing::push`]. Nothing keeps it from lying
    /// over a request that was not answered.
    pub fn put(&mut self, slot: &[u8]) {
        let number = (self.req_prod & (self.slots() - 1)) as usize;
        self.queue.mem.write(SLOTS + number * self.abi.slot(), slot);
        self.req_prod = self.req_prod.wrapping_add(1);
    }

    /// Shows the backend what was put on the ring, and sends an event.
    pub fn push(&mut self) {
        self.store(Index::ReqProd, self.req_prod);
        self.queue.mem.fence();
        self.notify();
    }

    /// Sends an event.
    pub fn notify(&self) {
        self.queue.channel.notify();
    }

    /// Takes the next response, unchecked, if the backend says that there is one.
    pub fn take(&mut self) -> Option<Response> {
        let rsp_prod = self.load(Index::RspProd);
        if rsp_prod == self.rsp_cons {
            return None;
        }
        let mut slot = [0; RESPONSE_MAX];
        let number = (self.rsp_cons & (self.slots() - 1)) as usize;
        self.queue.mem.read(SLOTS + number * self.abi.slot(), &mut slot[..self.abi.response()]);
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        Some(Response::decode(&slot))
    }

    /// Waits for the next response, in `within` at most.
    pub async fn response(&mut self, within: Duration) -> Option<Response> {
        let until = self.platform.now() + within;
        let platform = self.platform.clone();
        let wait = poll_fn(|cx| {
            loop {
                if let Some(response) = self.take() {
                    return Poll::Ready(response);
                }
                self.store(Index::RspEvent, self.rsp_cons.wrapping_add(1));
                self.queue.mem.fence();
                let moved = self.load(Index::RspProd) != self.rsp_cons;
                if !moved && self.queue.channel.poll_after(&mut self.queue.seen, cx).is_pending() {
                    return Poll::Pending;
                }
            }
        });
        deadline(&platform, Some(until), wait).await.ok()
    }

    /// Shares pages with the backend, for data or for lists of segments.
    pub fn share(&self, pages: usize) -> Result<P::Grant, Error<P::Error>> {
        self.platform.share(self.bus.backend, pages).map_err(Error::Platform)
    }

    /// Closes, and waits until the backend has let go, in `within` at most; false if it has not by then.
    pub async fn close(mut self, within: Duration) -> bool {
        self.bus.close(&self.platform, within).await
    }
}

/// Goes as far in the handshake as is possible without rings.
async fn ready<E>(bus: &mut Bus) -> Result<(), Error<E>> {
    loop {
        let theirs = bus.look().await?;
        match front(bus.mine, theirs) {
            FrontStep::Publish => return Ok(()),
            FrontStep::Restart => bus.write(State::INITIALISING).await?,
            FrontStep::Reset => bus.reset().await?,
            FrontStep::Lost => return Err(Error::Gone(Why::Lost)),
            _ => bus.changed().await?,
        }
    }
}
