//! A request on its way through the frontend, and the memory that it moves.

use crate::front::buffer::SharedPages;
use crate::front::error::Op;
use alloc::rc::Rc;
use xen_platform::Platform;

/// A piece of a transfer: still to be sent, or on a ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub op: Op,
    /// First sector, in units of 512 bytes.
    pub sector: u64,
    /// Number of sectors of 512 bytes.
    pub sectors: u64,
    /// Offset of its data in the transfer, in bytes.
    pub at: usize,
    /// Its turn, once it has been tried: see [`super::admission`].
    pub ticket: Option<u64>,
}

impl Request {
    /// A request that was not tried yet, at the start of its transfer.
    pub fn new(op: Op, sector: u64, sectors: u64) -> Request {
        Request { op, sector, sectors, at: 0, ticket: None }
    }

    /// Returns the number of bytes that it moves.
    pub fn len(&self) -> usize {
        match self.op {
            Op::Read | Op::Write | Op::Barrier => self.sectors as usize * 512,
            Op::Flush | Op::Discard | Op::SecureDiscard => 0,
        }
    }
}

/// The memory that a transfer reads into or writes from.
pub(crate) enum Data<'a, P: Platform> {
    None,
    In(&'a mut [u8]),
    Out(&'a [u8]),
    /// Pages that are shared with the backend, from this offset on.
    Shared(Rc<SharedPages<P>>, usize),
}
