//! The pages of a vchan, which are one's own or the peer's.

use crate::Side;
use core::ptr::NonNull;
use xen_platform::{IndexMemory, Platform, SharedMem};

/// Pages of one's own, or of the peer.
pub(crate) enum Memory<P: Platform> {
    Own(P::Grant),
    Peer(P::Map),
}

macro_rules! either {
    ($memory:expr, $method:ident($($argument:expr),*)) => {
        match $memory {
            Memory::Own(pages) => pages.$method($($argument),*),
            Memory::Peer(pages) => pages.$method($($argument),*),
        }
    };
}

impl<P: Platform> IndexMemory for Memory<P> {
    #[inline(always)]
    fn load(&self, at: usize) -> u32 {
        either!(self, load(at))
    }
    #[inline(always)]
    fn store(&self, at: usize, value: u32) {
        either!(self, store(at, value))
    }
    #[inline(always)]
    fn load_u8(&self, at: usize) -> u8 {
        either!(self, load_u8(at))
    }
    #[inline(always)]
    fn store_u8(&self, at: usize, value: u8) {
        either!(self, store_u8(at, value))
    }
    #[inline(always)]
    fn fetch_or(&self, at: usize, bits: u8) -> u8 {
        either!(self, fetch_or(at, bits))
    }
    #[inline(always)]
    fn fetch_and(&self, at: usize, bits: u8) -> u8 {
        either!(self, fetch_and(at, bits))
    }
    #[inline(always)]
    fn fence(&self) {
        either!(self, fence())
    }
}

impl<P: Platform> SharedMem for Memory<P> {
    fn len(&self) -> usize {
        either!(self, len())
    }
    fn read(&self, at: usize, to: &mut [u8]) {
        either!(self, read(at, to))
    }
    fn write(&self, at: usize, from: &[u8]) {
        either!(self, write(at, from))
    }
    fn address(&self) -> Option<NonNull<u8>> {
        either!(self, address())
    }
}

/// The pages of a vchan: the shared one, and those of each ring that does not lie in it.
pub(crate) struct Pages<P: Platform> {
    pub control: Memory<P>,
    pub left: Option<Memory<P>>,
    pub right: Option<Memory<P>>,
}

impl<P: Platform> Pages<P> {
    /// Returns the place of a ring's bytes.
    #[inline(always)]
    pub fn data(&self, side: Side) -> &Memory<P> {
        let own = match side {
            Side::Left => &self.left,
            Side::Right => &self.right,
        };
        own.as_ref().unwrap_or(&self.control)
    }
}
