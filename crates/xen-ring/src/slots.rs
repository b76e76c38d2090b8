//! The ring of requests and responses (io/ring.h): a frontend's and a backend's end.
//!
//! Requests and responses share the slots: a response goes where the oldest request lay that has no
//! response yet, so a backend copies a request before it answers any. Both ends keep their indices
//! to themselves and only ever write copies of them to the page; the peer's index is read once in
//! each call and checked before anything is done with it.
//!
//! ```text
//!   sleeper:  set event   --fence--  look at the peer's index (nothing new) -> sleep
//!   mover:    move index  --fence--  did it pass the peer's event?          -> notify
//! ```

use core::fmt;
use xen_abi::ring::{self, SLOTS};
use xen_platform::{IndexMemory, SharedMem};

const REQ_PROD: usize = core::mem::offset_of!(ring::Sring, req_prod);
const REQ_EVENT: usize = core::mem::offset_of!(ring::Sring, req_event);
const RSP_PROD: usize = core::mem::offset_of!(ring::Sring, rsp_prod);
const RSP_EVENT: usize = core::mem::offset_of!(ring::Sring, rsp_event);

/// The peer wrote an index that cannot be true.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Corrupt {
    /// Which index: `req_prod` or `rsp_prod`.
    pub field: &'static str,
    /// The value found.
    pub found: u32,
    /// The least it can be: what was taken already.
    pub least: u32,
    /// The most it can be.
    pub most: u32,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Corrupt { field, found, least, most } = self;
        write!(
            f,
            "{field} of the shared ring is {found:#x}, which is not from {least:#x} to {most:#x}"
        )
    }
}

impl core::error::Error for Corrupt {}

/// Number of a ring's slots, and bytes of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    slots: u32,
    slot: usize,
}

impl Shape {
    /// The shape of a ring in `len` bytes of shared memory, with slots as large as the larger of
    /// request and response. Panics if not even one fits.
    pub fn new(len: usize, slot: usize) -> Shape {
        let slots = ring::slots(len, slot);
        assert!(slots > 0, "no slot of {slot} bytes fits a ring of {len}");
        Shape { slots, slot }
    }

    /// Returns the number of slots: a power of two.
    pub fn slots(self) -> u32 {
        self.slots
    }

    fn place(self, index: u32) -> usize {
        SLOTS + (index & (self.slots - 1)) as usize * self.slot
    }

    fn write(self, mem: &impl SharedMem, index: u32, from: &[u8]) {
        assert!(from.len() <= self.slot, "{} bytes for a slot of {}", from.len(), self.slot);
        mem.write(self.place(index), from)
    }

    fn read(self, mem: &impl SharedMem, index: u32, to: &mut [u8]) {
        assert!(to.len() <= self.slot, "{} bytes from a slot of {}", to.len(), self.slot);
        mem.read(self.place(index), to)
    }
}

/// Publishes an index that moved from `old` to `new`, and says whether the peer asked for an event
/// in between.
fn publish(mem: &impl IndexMemory, prod: usize, event: usize, old: u32, new: u32) -> bool {
    mem.store(prod, new);
    mem.fence();
    new.wrapping_sub(mem.load(event)) < new.wrapping_sub(old)
}

/// Reads the peer's index, which can be from `least` to `room` above it.
fn look(
    mem: &impl IndexMemory,
    at: usize,
    field: &'static str,
    least: u32,
    room: u32,
) -> Result<u32, Corrupt> {
    let found = mem.load(at);
    match found.wrapping_sub(least) <= room {
        true => Ok(found),
        false => Err(Corrupt { field, found, least, most: least.wrapping_add(room) }),
    }
}

/// The end that asks.
#[derive(Debug)]
pub struct Front {
    shape: Shape,
    /// Index of the next request.
    req_prod: u32,
    /// The same index as the peer knows it.
    published: u32,
    /// Index of the next response to take.
    rsp_cons: u32,
    /// The peer's index when last seen.
    rsp_prod: u32,
}

impl Front {
    /// Makes a fresh ring (`SHARED_RING_INIT`) and the end for it.
    pub fn new(shape: Shape, mem: &impl IndexMemory) -> Front {
        Self::starting_at(shape, mem, 0)
    }

    /// As [`Front::new`], with indices that begin at `start`. A backend that takes them from the
    /// page, as it should (`BACK_RING_ATTACH`), cannot tell; a test can so see them wrap.
    pub fn starting_at(shape: Shape, mem: &impl IndexMemory, start: u32) -> Front {
        for index in [REQ_PROD, RSP_PROD] {
            mem.store(index, start);
        }
        for event in [REQ_EVENT, RSP_EVENT] {
            mem.store(event, start.wrapping_add(1));
        }
        Front { shape, req_prod: start, published: start, rsp_cons: start, rsp_prod: start }
    }

    /// Returns the number of requests without a response.
    pub fn in_flight(&self) -> u32 {
        self.req_prod.wrapping_sub(self.rsp_cons)
    }

    /// Returns the number of further requests that there is room for.
    pub fn free(&self) -> u32 {
        self.shape.slots - self.in_flight()
    }

    /// The ring's shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Writes a request, which the peer sees after [`Front::push`]. Panics if there is no room.
    pub fn put(&mut self, mem: &impl SharedMem, request: &[u8]) {
        assert!(self.free() > 0, "a request for a full ring");
        self.shape.write(mem, self.req_prod, request);
        self.req_prod = self.req_prod.wrapping_add(1);
    }

    /// Shows the peer all requests; says whether it wants an event for them
    /// (`RING_PUSH_REQUESTS_AND_CHECK_NOTIFY`).
    #[must_use = "the peer sleeps until the event is sent"]
    pub fn push(&mut self, mem: &impl IndexMemory) -> bool {
        let old = core::mem::replace(&mut self.published, self.req_prod);
        publish(mem, REQ_PROD, REQ_EVENT, old, self.req_prod)
    }

    /// Copies the next response out, if there is one. The peer can have answered no more than it
    /// was asked.
    pub fn take(&mut self, mem: &impl SharedMem, response: &mut [u8]) -> Result<bool, Corrupt> {
        if self.rsp_cons == self.rsp_prod && !self.look(mem)? {
            return Ok(false);
        }
        self.shape.read(mem, self.rsp_cons, response);
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        Ok(true)
    }

    /// Asks for an event at the `after`th response from now (at least the first), and looks once
    /// more: true if one is there already, and one must not sleep
    /// (`RING_FINAL_CHECK_FOR_RESPONSES`).
    pub fn arm(&mut self, mem: &impl IndexMemory, after: u32) -> Result<bool, Corrupt> {
        mem.store(RSP_EVENT, self.rsp_cons.wrapping_add(after.max(1)));
        mem.fence();
        self.look(mem)
    }

    fn look(&mut self, mem: &impl IndexMemory) -> Result<bool, Corrupt> {
        let asked = self.published.wrapping_sub(self.rsp_prod);
        self.rsp_prod = look(mem, RSP_PROD, "rsp_prod", self.rsp_prod, asked)?;
        Ok(self.rsp_prod != self.rsp_cons)
    }
}

/// The end that answers.
#[derive(Debug)]
pub struct Back {
    shape: Shape,
    /// Index of the next response.
    rsp_prod: u32,
    /// The same index as the peer knows it.
    published: u32,
    /// Index of the next request to take.
    req_cons: u32,
    /// The peer's index when last seen.
    req_prod: u32,
}

impl Back {
    /// Takes a ring over at the response index found in the page (`BACK_RING_ATTACH`): 0 in a fresh
    /// one. In another, the requests behind that index are as yet unanswered, if the backend before
    /// answered in the order of the ring.
    pub fn attach(shape: Shape, mem: &impl IndexMemory) -> Result<Back, Corrupt> {
        let start = mem.load(RSP_PROD);
        let mut back =
            Back { shape, rsp_prod: start, published: start, req_cons: start, req_prod: start };
        back.look(mem)?;
        Ok(back)
    }

    /// Returns the number of requests that were taken and not answered.
    pub fn unanswered(&self) -> u32 {
        self.req_cons.wrapping_sub(self.rsp_prod)
    }

    /// The ring's shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Copies the next request out, if there is one.
    pub fn take(&mut self, mem: &impl SharedMem, request: &mut [u8]) -> Result<bool, Corrupt> {
        if self.req_cons == self.req_prod && !self.look(mem)? {
            return Ok(false);
        }
        self.shape.read(mem, self.req_cons, request);
        self.req_cons = self.req_cons.wrapping_add(1);
        Ok(true)
    }

    /// Writes a response, which the peer sees after [`Back::push`]. Panics if there is no request
    /// left to answer.
    pub fn put(&mut self, mem: &impl SharedMem, response: &[u8]) {
        assert!(self.unanswered() > 0, "a response without a request");
        self.shape.write(mem, self.rsp_prod, response);
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
    }

    /// Shows the peer all responses; says whether it wants an event for them
    /// (`RING_PUSH_RESPONSES_AND_CHECK_NOTIFY`).
    #[must_use = "the peer sleeps until the event is sent"]
    pub fn push(&mut self, mem: &impl IndexMemory) -> bool {
        let old = core::mem::replace(&mut self.published, self.rsp_prod);
        publish(mem, RSP_PROD, RSP_EVENT, old, self.rsp_prod)
    }

    /// Asks for an event at the next request, and looks once more: true if one is there already,
    /// and one must not sleep (`RING_FINAL_CHECK_FOR_REQUESTS`).
    pub fn arm(&mut self, mem: &impl IndexMemory) -> Result<bool, Corrupt> {
        mem.store(REQ_EVENT, self.req_cons.wrapping_add(1));
        mem.fence();
        self.look(mem)
    }

    /// The peer can have asked as much as there are slots without a response that it has seen
    /// (`RING_REQUEST_PROD_OVERFLOW`), and cannot take back what it asked.
    fn look(&mut self, mem: &impl IndexMemory) -> Result<bool, Corrupt> {
        let room = self.shape.slots - self.req_prod.wrapping_sub(self.rsp_prod);
        self.req_prod = look(mem, REQ_PROD, "req_prod", self.req_prod, room)?;
        Ok(self.req_prod != self.req_cons)
    }
}
