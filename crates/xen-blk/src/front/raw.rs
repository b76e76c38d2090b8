//! Rings without a driver, for tests of backends with requests that no driver sends.
//!
//! The handshake is the same as a disk's. The caller decides on the keys, the requests and the
//! indices, and gets responses as they are.

use crate::front::config::Config;
use crate::front::error::{Error, GoneReason};
use crate::front::io::queue::{Queue, create};
use crate::front::xenbus::device::XenbusDevice;
use crate::front::xenbus::keys::keys;
use crate::front::xenbus::negotiate::RingPlan;
use crate::protocol::handshake::{FrontStep, front};
use crate::protocol::wire::{Abi, RESPONSE_MAX, Response, SLOT_MAX};
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
    /// Index of the next request, as the backend sees it.
    ReqProd,
    /// The request at which the backend wants an event.
    ReqEvent,
    /// Index of the next response.
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

/// Ranges of a slot with the fields of a response, in either layout: id and operation, status.
const RESPONSE_FIELDS: [core::ops::Range<usize>; 2] = [0..9, 10..12];

/// Keys and values, to be written to the frontend's folder.
pub type Keys = Vec<(String, String)>;

/// A connection whose rings have no driver.
pub struct RawConnection<P: Platform> {
    platform: P,
    xenbus: XenbusDevice,
    /// The rings. There is at least one.
    pub rings: Vec<RawRing<P>>,
}

/// A ring and its event channel.
pub struct RawRing<P: Platform> {
    platform: P,
    queue: Queue<P>,
    shape: Shape,
    abi: Abi,
    /// Index of the next request.
    req_prod: u32,
    /// Bytes of all slots, as this end or a response left them.
    shadow: Vec<u8>,
    /// Number of bytes that the backend wrote beside the fields of responses.
    stray_bytes: u32,
    /// Index of the next response to be taken.
    rsp_cons: u32,
    /// Number of responses that were there without an event when the wait for one had run out.
    lost_events: u32,
}

impl<P: Platform> RawConnection<P> {
    /// Waits until the backend is ready for rings (a backend that holds older ones is made to let
    /// go), and publishes `queues` rings of `ring_pages` pages. `alter` can change the keys of a
    /// disk, of which the state is the last, before they are written.
    pub async fn publish(
        platform: &P,
        store: &Store,
        vdev: u32,
        config: &Config,
        alter: impl FnOnce(&mut Keys),
    ) -> Result<RawConnection<P>, Error<P::Error>> {
        let mut xenbus = XenbusDevice::find(store, vdev).await?;
        xenbus.begin().await?;
        let until = platform.now() + config.connect_timeout;
        let ready = deadline(platform, Some(until), ready(&mut xenbus)).await;
        ready.unwrap_or_else(|_| {
            Err(Error::NoBackend { path: xenbus.otherend.clone(), state: xenbus.theirs })
        })?;
        let plan = RingPlan { pages: config.ring_pages, queues: config.queues };
        let queues = create(platform, xenbus.otherend_id, plan, config.abi);
        let queues = queues.map_err(Error::Platform)?;
        let mut keys = keys(&queues, config);
        alter(&mut keys);
        xenbus.publish_keys(&keys).await?;
        let rings = queues.into_iter().map(|queue| RawRing::new(platform, queue, config)).collect();
        Ok(RawConnection { platform: platform.clone(), xenbus, rings })
    }

    /// Waits until the backend's state is one of `states`, for the time `within`; returns its state
    /// then.
    pub async fn backend_is(
        &mut self,
        states: &[State],
        within: Duration,
    ) -> Result<State, Error<P::Error>> {
        let until = self.platform.now() + within;
        let xenbus = &mut self.xenbus;
        let wait = async {
            while !states.contains(&xenbus.read_otherend_state().await?) {
                xenbus.changed().await?;
            }
            Ok(())
        };
        let waited: Result<Result<(), Error<P::Error>>, _> =
            deadline(&self.platform, Some(until), wait).await;
        waited.unwrap_or(Ok(()))?;
        Ok(self.xenbus.theirs)
    }

    /// Writes the own state.
    pub async fn write_state(&mut self, state: State) -> Result<(), Error<P::Error>> {
        Ok(self.xenbus.write(state).await?)
    }

    /// Shares pages with the backend, for data or for lists of segments.
    pub fn share(&self, pages: usize) -> Result<P::Grant, Error<P::Error>> {
        self.platform.share(self.xenbus.otherend_id, pages).map_err(Error::Platform)
    }

    /// Closes, and waits until the backend has let go, for the time `within`; tells if it has.
    pub async fn close(mut self, within: Duration) -> bool {
        self.xenbus.close(&self.platform, within).await
    }
}

impl<P: Platform> RawRing<P> {
    fn new(platform: &P, queue: Queue<P>, config: &Config) -> RawRing<P> {
        let shape = Shape::new(config.ring_pages as usize * PAGE_SIZE, config.abi.slot());
        RawRing {
            platform: platform.clone(),
            queue,
            shape,
            abi: config.abi,
            req_prod: 0,
            shadow: alloc::vec![0; shape.slots() as usize * config.abi.slot()],
            stray_bytes: 0,
            rsp_cons: 0,
            lost_events: 0,
        }
    }

    /// Returns the ring's memory: a head of indices, then slots of [`Abi::slot`] bytes.
    pub fn memory(&self) -> &P::Grant {
        &self.queue.mem
    }

    /// Returns the number of slots.
    pub fn slots(&self) -> u32 {
        self.shape.slots()
    }

    /// Reads an index from the ring's head.
    pub fn load(&self, index: Index) -> u32 {
        self.queue.mem.load(index.offset())
    }

    /// Writes an index, valid or not.
    pub fn store(&self, index: Index, value: u32) {
        self.queue.mem.store(index.offset(), value)
    }

    /// Writes bytes to the next slot, which the backend sees after [`RawRing::push`], even if the
    /// slot holds a request that is not completed.
    pub fn put(&mut self, slot: &[u8]) {
        let number = (self.req_prod & (self.slots() - 1)) as usize;
        let at = number * self.abi.slot();
        self.queue.mem.write(SLOTS + at, slot);
        self.shadow[at..at + slot.len()].copy_from_slice(slot);
        self.req_prod = self.req_prod.wrapping_add(1);
    }

    /// Changes bytes of the slot that was put `back` requests ago (the last one: 1), from the byte
    /// `at` on, whether the backend has read it or not.
    pub fn rewrite(&mut self, back: u32, at: usize, bytes: &[u8]) {
        let number = (self.req_prod.wrapping_sub(back) & (self.slots() - 1)) as usize;
        let at = number * self.abi.slot() + at;
        self.queue.mem.write(SLOTS + at, bytes);
        self.shadow[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Shows the backend what was put on the ring, and sends an event.
    pub fn push(&mut self) {
        self.store(Index::ReqProd, self.req_prod);
        self.queue.mem.fence();
        self.notify();
    }

    /// Shows the backend what was put on the ring, and sends an event only if it asked for one.
    pub fn push_if_asked(&mut self) {
        let old = self.load(Index::ReqProd);
        self.store(Index::ReqProd, self.req_prod);
        self.queue.mem.fence();
        let past_event = self.req_prod.wrapping_sub(self.load(Index::ReqEvent));
        if past_event < self.req_prod.wrapping_sub(old) {
            self.notify();
        }
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
        let len = self.abi.slot();
        let at = (self.rsp_cons & (self.slots() - 1)) as usize * len;
        let mut slot = [0; SLOT_MAX];
        self.queue.mem.read(SLOTS + at, &mut slot[..len]);
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        let shadow = &mut self.shadow[at..at + len];
        let is_stray = |(at, (new, old)): (usize, (&u8, &u8))| {
            !RESPONSE_FIELDS.iter().any(|field| field.contains(&at)) && *new != *old && *new != 0
        };
        let stray = slot.iter().zip(shadow.iter()).enumerate().filter(|byte| is_stray(*byte));
        self.stray_bytes += stray.count() as u32;
        shadow.copy_from_slice(&slot[..len]);
        let mut response = [0; RESPONSE_MAX];
        response[..self.abi.response()].copy_from_slice(&slot[..self.abi.response()]);
        Some(Response::decode(&response))
    }

    /// Returns the number of bytes that the backend wrote into slots beside the fields of responses
    /// so far, other than zeros: bytes of its own memory (XSA-216).
    pub fn stray_bytes(&self) -> u32 {
        // Slots of which no response was taken are to be as they were.
        let (mut slot, len) = ([0; SLOT_MAX], self.abi.slot());
        let mut stray = self.stray_bytes;
        for number in self.rsp_cons..self.rsp_cons.wrapping_add(self.slots()) {
            if self.load(Index::RspProd).wrapping_sub(number) as i32 > 0 {
                continue;
            }
            let at = (number & (self.slots() - 1)) as usize * len;
            self.queue.mem.read(SLOTS + at, &mut slot[..len]);
            let changed =
                slot.iter().zip(&self.shadow[at..at + len]).filter(|(new, old)| new != old);
            stray += changed.count() as u32;
        }
        stray
    }

    /// Waits for the next response, for the time `within`.
    pub async fn response(&mut self, within: Duration) -> Option<Response> {
        self.wait_for(1, within).await;
        self.take()
    }

    /// Asks for an event at the `count`th response from here, and waits until as many are there,
    /// for the time `within`.
    pub async fn wait_for(&mut self, count: u32, within: Duration) {
        let until = self.platform.now() + within;
        let platform = self.platform.clone();
        // The task is also woken by timers of earlier waits. It looks after an event alone.
        let mut looks = true;
        let wait = poll_fn(|cx| {
            loop {
                if looks && self.has_responses(count) {
                    return Poll::Ready(());
                }
                looks = self.queue.channel.poll_after(&mut self.queue.seen, cx).is_ready();
                if !looks {
                    return Poll::Pending;
                }
            }
        });
        let waited = deadline(&platform, Some(until), wait).await;
        if waited.is_err() && self.has_responses(count) {
            self.lost_events += 1;
        }
    }

    /// Asks for an event at the `count`th response, and tells if as many are there already.
    fn has_responses(&self, count: u32) -> bool {
        self.store(Index::RspEvent, self.rsp_cons.wrapping_add(count));
        self.queue.mem.fence();
        self.load(Index::RspProd).wrapping_sub(self.rsp_cons) >= count
    }

    /// Returns the number of waits that ran out although the responses were there: the backend sent
    /// no event for them.
    pub fn lost_events(&self) -> u32 {
        self.lost_events
    }
}

/// Goes through the part of the handshake that needs no rings.
async fn ready<E>(xenbus: &mut XenbusDevice) -> Result<(), Error<E>> {
    loop {
        let theirs = xenbus.read_otherend_state().await?;
        match front(xenbus.mine, theirs) {
            FrontStep::Publish => return Ok(()),
            FrontStep::Restart => xenbus.write(State::INITIALISING).await?,
            FrontStep::Reset => xenbus.reset().await?,
            FrontStep::Lost => return Err(Error::Gone(GoneReason::Lost)),
            _ => xenbus.changed().await?,
        }
    }
}
