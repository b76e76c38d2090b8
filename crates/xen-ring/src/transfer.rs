//! From one ring into another, without a buffer of one's own in between.

use crate::bytes::{Consumer, Corrupt, Producer};
use core::ptr::NonNull;
use xen_platform::{IndexMemory, SharedMem};

/// Bytes to be moved from one ring to another, in one piece on both sides.
#[derive(Clone, Copy)]
pub struct Piece<'a> {
    from: (&'a dyn SharedMem, usize),
    to: (&'a dyn SharedMem, usize),
    len: usize,
}

impl Piece<'_> {
    /// Returns the number of bytes: never 0.
    #[expect(clippy::len_without_is_empty, reason = "a piece is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the addresses of both sides in this program, where they have some: for programs that
    /// read each byte once, as [`SharedMem::read`] does, change it, and write it.
    pub fn addresses(&self) -> Option<(NonNull<u8>, NonNull<u8>)> {
        let ((from, source), (to, target)) = (self.from, self.to);
        // SharedMem has its own checks of what lies inside; the rings lie inside (`Layout`).
        let place = |start: NonNull<u8>, at| NonNull::new(start.as_ptr().wrapping_add(at));
        Some((place(from.address()?, source)?, place(to.address()?, target)?))
    }

    /// Moves the bytes from the offset `at` on, as many of them as `buffer` holds at a time,
    /// through `change`. Panics if it holds none.
    pub fn move_through(&self, at: usize, buffer: &mut [u8], mut change: impl FnMut(&mut [u8])) {
        assert!(!buffer.is_empty(), "bytes cannot be moved through an empty buffer");
        let ((from, source), (to, target)) = (self.from, self.to);
        let mut at = at;
        while at < self.len {
            let n = buffer.len().min(self.len - at);
            let bytes = &mut buffer[..n];
            from.read(source + at, bytes);
            change(bytes);
            to.write(target + at, bytes);
            at += n;
        }
    }
}

impl Consumer {
    /// Has up to `most` bytes moved into another ring by `mover`, as many as are there and as there
    /// is space for; returns the count. Both indices are told at the end, `producer`'s first.
    ///
    /// If an index is wrong, nothing was moved: [`Corrupt::field`] tells of which ring, that of the
    /// producer to blame ([`Field::Prod`](crate::bytes::Field)) being this one.
    #[inline(never)]
    pub fn transfer(
        &mut self,
        producer: &mut Producer,
        ctl: &impl IndexMemory,
        (from, to): (&dyn SharedMem, &dyn SharedMem),
        most: usize,
        mover: &mut dyn FnMut(Piece<'_>),
    ) -> Result<usize, Corrupt> {
        let n = self.available(ctl)?.min(producer.space(ctl)?).min(most);
        let mut left = n;
        while left > 0 {
            let (source, until_end) = self.next();
            let (target, until_full) = producer.next();
            let len = left.min(until_end).min(until_full);
            mover(Piece { from: (from, source), to: (to, target), len });
            self.advance(len);
            producer.advance(len);
            left -= len;
        }
        if n > 0 {
            producer.publish(ctl);
            self.publish(ctl);
        }
        Ok(n)
    }
}
