//! The requests under way, each with a number that goes out as its id and must come back.

use super::Op;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::task::Waker;
use xen_platform::Platform;

/// What a request does, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub op: Op,
    /// In sectors of 512 bytes.
    pub sector: u64,
    pub sectors: u64,
    /// Where its data is in the transfer that it belongs to, in bytes.
    pub at: usize,
    /// Its turn: see [`super::waiting`].
    pub ticket: u64,
}

impl Work {
    /// Bytes that it moves.
    pub fn len(&self) -> usize {
        match self.op {
            Op::Read | Op::Write | Op::Barrier => self.sectors as usize * 512,
            Op::Flush | Op::Discard | Op::SecureDiscard => 0,
        }
    }
}

/// ```text
///   Free --> Flying --> Answered --> Free
///               |`----> Again -------^      (the backend was started anew)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Free,
    /// On a ring.
    Flying,
    /// Its answer is there and was not looked at yet by its transfer.
    Answered(Answer),
    /// The ring it was on is gone; its transfer has to send it again.
    Again,
}

/// What the backend says of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Okay,
    Failed,
    /// It does not know the operation.
    Refused,
}

/// Behind the last request of a transfer.
pub(crate) const NONE: u16 = u16::MAX;

pub(crate) struct Slot<P: Platform> {
    pub stage: Stage,
    /// Its transfer is gone.
    pub abandoned: bool,
    /// It has waited too long.
    pub late: bool,
    /// It is an indirect request.
    pub indirect: bool,
    pub queue: u32,
    /// Tells it from earlier requests in the same slot.
    serial: u32,
    /// When it was sent.
    pub epoch: u32,
    pub work: Work,
    /// The next request of the same transfer.
    pub next: u16,
    /// Pages of the pool: the data's, then those with the list of segments.
    pub pages: Vec<u32>,
    /// The pages that data is moved to or from directly, and where it begins in them.
    pub shared: Option<(Rc<P::Grant>, usize)>,
    /// The transfer's task.
    pub waker: Option<Waker>,
}

pub(crate) struct Slab<P: Platform> {
    pub slots: Vec<Slot<P>>,
    free: Vec<u16>,
}

impl<P: Platform> Slab<P> {
    pub const fn new() -> Self {
        Slab { slots: Vec::new(), free: Vec::new() }
    }

    /// A free slot. There are never more requests than fit all rings, and answers not looked at.
    pub fn take(&mut self) -> Option<u16> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        let index = u16::try_from(self.slots.len()).ok().filter(|&index| index != NONE)?;
        let work = Work { op: Op::Flush, sector: 0, sectors: 0, at: 0, ticket: 0 };
        self.slots.push(Slot {
            stage: Stage::Free,
            abandoned: false,
            late: false,
            indirect: false,
            queue: 0,
            serial: 0,
            epoch: 0,
            work,
            next: NONE,
            pages: Vec::new(),
            shared: None,
            waker: None,
        });
        Some(index)
    }

    pub fn get(&mut self, index: u16) -> &mut Slot<P> {
        &mut self.slots[usize::from(index)]
    }

    /// Makes the slot free. Its pages must have been given back.
    pub fn give(&mut self, index: u16) {
        let slot = self.get(index);
        debug_assert!(slot.pages.is_empty());
        slot.stage = Stage::Free;
        slot.abandoned = false;
        slot.late = false;
        slot.shared = None;
        slot.waker = None;
        self.free.push(index);
    }

    /// A new id for the request in a slot: the slot's number, and how often a request was sent from it.
    pub fn id(&mut self, index: u16) -> u64 {
        let slot = self.get(index);
        slot.serial = slot.serial.wrapping_add(1);
        u64::from(slot.serial) << 16 | u64::from(index)
    }

    /// The request under way on that ring which has this id.
    pub fn find(&mut self, queue: u32, id: u64) -> Option<u16> {
        let index = id as u16;
        let slot = self.slots.get(usize::from(index))?;
        let is_it = slot.stage == Stage::Flying && slot.queue == queue && u64::from(slot.serial) == id >> 16;
        is_it.then_some(index)
    }
}
