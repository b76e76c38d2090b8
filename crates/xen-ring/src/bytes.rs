//! One byte ring: a producer's and a consumer's end.
//!
//! Both indices run freely through all 2^32 values; what is in the ring is `prod - cons` modulo
//! 2^32, and a byte lies at its index modulo the ring's size (io/libxenvchan.h, io/xs_wire.h and
//! io/console.h agree in this). Each end keeps its own index to itself and only ever writes a copy
//! of it to the page, so a peer that overwrites the copy changes nothing here. The peer's index is
//! read once in each call, and checked before anything is done with it.

use core::fmt;
use xen_platform::{IndexMemory, SharedMem};

/// Offsets of a ring's fields, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The producer's index in the control area, aligned to 4.
    pub prod: usize,
    /// The consumer's index in the control area, aligned to 4.
    pub cons: usize,
    /// The ring's first byte in the data area.
    pub data: usize,
    /// The ring's size in bytes: a power of two, at most 2^31.
    pub size: u32,
}

impl Layout {
    fn checked(self) -> Self {
        assert!(self.size.is_power_of_two(), "ring size {} is not a power of two", self.size);
        self
    }

    /// Returns the offset in the data area of the byte with this index, and the number of bytes
    /// before the ring starts over.
    #[inline(always)]
    fn place(&self, index: u32) -> (usize, usize) {
        let within = index & (self.size - 1);
        (self.data + within as usize, (self.size - within) as usize)
    }

    #[cold]
    fn corrupt(&self, field: Field, fault: Fault, prod: u32, cons: u32) -> Corrupt {
        Corrupt { field, fault, prod, cons, size: self.size }
    }

    /// Checks two indices against each other; `peer` is the one to blame.
    fn check(&self, prod: u32, cons: u32, peer: Field) -> Result<(), Corrupt> {
        match prod.wrapping_sub(cons) > self.size {
            true => Err(self.corrupt(peer, Fault::Overfull, prod, cons)),
            false => Ok(()),
        }
    }
}

/// One of a ring's two indices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// The producer's index.
    Prod,
    /// The consumer's index.
    Cons,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Prod => "producer index",
            Field::Cons => "consumer index",
        })
    }
}

/// A fault of an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The two indices are further apart than the ring is large.
    Overfull,
    /// The index was here before and has moved back since.
    Backwards {
        /// The value it had before.
        from: u32,
    },
}

/// The peer wrote an index that cannot be true. Nothing was copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Corrupt {
    /// The peer's index, which is to blame.
    pub field: Field,
    /// Its fault.
    pub fault: Fault,
    /// The producer's index.
    pub prod: u32,
    /// The consumer's index.
    pub cons: u32,
    /// The ring's size in bytes.
    pub size: u32,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Corrupt { field, fault, prod, cons, size } = *self;
        match fault {
            Fault::Overfull => write!(
                f,
                "{field} is wrong: producer {prod:#010x} and consumer {cons:#010x} are \
                 {} bytes apart in a ring of {size}",
                prod.wrapping_sub(cons)
            ),
            Fault::Backwards { from } => write!(
                f,
                "{field} moved back from {from:#010x}: producer {prod:#010x}, \
                 consumer {cons:#010x} in a ring of {size}"
            ),
        }
    }
}

impl core::error::Error for Corrupt {}

impl embedded_io_async::Error for Corrupt {
    fn kind(&self) -> embedded_io_async::ErrorKind {
        embedded_io_async::ErrorKind::InvalidData
    }
}

/// The end that puts bytes in.
#[derive(Debug)]
pub struct Producer {
    layout: Layout,
    prod: u32,
    /// The consumer's index when last seen: never more than `size` behind `prod`.
    cons: u32,
}

impl Producer {
    /// The end of an empty ring, in whose page both indices are `start`. Panics if the size is not
    /// a power of two.
    pub fn new(layout: Layout, start: u32) -> Self {
        Producer { layout: layout.checked(), prod: start, cons: start }
    }

    /// Goes on from the indices found in the page. Panics if the size is not a power of two.
    pub fn resume(layout: Layout, ctl: &impl IndexMemory) -> Result<Self, Corrupt> {
        Self::at(layout, ctl.load(layout.prod), ctl.load(layout.cons))
    }

    /// Goes on from indices that were copied out of the page before. Panics if the size is not a
    /// power of two.
    pub fn at(layout: Layout, prod: u32, cons: u32) -> Result<Self, Corrupt> {
        layout.checked().check(prod, cons, Field::Cons)?;
        Ok(Producer { layout, prod, cons })
    }

    /// Bytes that are in the ring: written, and not yet taken out by the peer.
    #[inline(always)]
    fn used(&mut self, ctl: &impl IndexMemory) -> Result<u32, Corrupt> {
        let cons = ctl.load(self.layout.cons);
        let used = self.prod.wrapping_sub(cons);
        if used > self.layout.size {
            return Err(self.layout.corrupt(Field::Cons, Fault::Overfull, self.prod, cons));
        }
        if used > self.prod.wrapping_sub(self.cons) {
            let fault = Fault::Backwards { from: self.cons };
            return Err(self.layout.corrupt(Field::Cons, fault, self.prod, cons));
        }
        self.cons = cons;
        Ok(used)
    }

    /// Returns the number of bytes that can be written now.
    #[inline(always)]
    pub fn space(&mut self, ctl: &impl IndexMemory) -> Result<usize, Corrupt> {
        Ok((self.layout.size - self.used(ctl)?) as usize)
    }

    /// Returns true if the peer has taken out everything.
    pub fn is_empty(&mut self, ctl: &impl IndexMemory) -> Result<bool, Corrupt> {
        Ok(self.used(ctl)? == 0)
    }

    /// Copies in as much of `from` as there is space for, tells the peer's index, and returns the
    /// count; 0 if the ring is full. Whether the peer wants an event now is for
    /// [`notify::wanted`](crate::notify::wanted) to say.
    #[inline(always)]
    pub fn write(
        &mut self,
        ctl: &impl IndexMemory,
        data: &impl SharedMem,
        from: &[u8],
    ) -> Result<usize, Corrupt> {
        let n = self.space(ctl)?.min(from.len());
        self.put(ctl, data, &from[..n]);
        Ok(n)
    }

    /// Copies in all of `from` if there is space for it, and nothing otherwise; says which.
    #[inline(always)]
    pub fn write_all(
        &mut self,
        ctl: &impl IndexMemory,
        data: &impl SharedMem,
        from: &[u8],
    ) -> Result<bool, Corrupt> {
        let fits = from.len() <= self.space(ctl)?;
        if fits {
            self.put(ctl, data, from);
        }
        Ok(fits)
    }

    /// Copies in what there is space for, and tells the peer.
    #[inline(always)]
    fn put(&mut self, ctl: &impl IndexMemory, data: &impl SharedMem, from: &[u8]) {
        if from.is_empty() {
            return;
        }
        let (at, until_end) = self.next();
        let (first, second) = from.split_at(from.len().min(until_end));
        data.write(at, first);
        if !second.is_empty() {
            data.write(self.layout.data, second);
        }
        self.advance(from.len());
        self.publish(ctl);
    }

    /// Returns the offset of the next byte, and the number of bytes before the ring starts over.
    #[inline(always)]
    pub(crate) fn next(&self) -> (usize, usize) {
        self.layout.place(self.prod)
    }

    /// Counts `len` bytes as put in; the peer is not told.
    #[inline(always)]
    pub(crate) fn advance(&mut self, len: usize) {
        self.prod = self.prod.wrapping_add(len as u32);
    }

    /// Tells the peer what was put in.
    #[inline(always)]
    pub(crate) fn publish(&self, ctl: &impl IndexMemory) {
        ctl.store(self.layout.prod, self.prod);
    }
}

/// The end that takes bytes out.
#[derive(Debug)]
pub struct Consumer {
    layout: Layout,
    cons: u32,
    /// The producer's index when last seen: never more than `size` ahead of `cons`.
    prod: u32,
}

impl Consumer {
    /// The end of an empty ring, in whose page both indices are `start`. Panics if the size is not
    /// a power of two.
    pub fn new(layout: Layout, start: u32) -> Self {
        Consumer { layout: layout.checked(), cons: start, prod: start }
    }

    /// Goes on from the indices found in the page. Panics if the size is not a power of two.
    pub fn resume(layout: Layout, ctl: &impl IndexMemory) -> Result<Self, Corrupt> {
        Self::at(layout, ctl.load(layout.prod), ctl.load(layout.cons))
    }

    /// Goes on from indices that were copied out of the page before. Panics if the size is not a
    /// power of two.
    pub fn at(layout: Layout, prod: u32, cons: u32) -> Result<Self, Corrupt> {
        layout.checked().check(prod, cons, Field::Prod)?;
        Ok(Consumer { layout, cons, prod })
    }

    /// Returns the number of bytes that can be read now.
    #[inline(always)]
    pub fn available(&mut self, ctl: &impl IndexMemory) -> Result<usize, Corrupt> {
        let prod = ctl.load(self.layout.prod);
        let available = prod.wrapping_sub(self.cons);
        if available > self.layout.size {
            return Err(self.layout.corrupt(Field::Prod, Fault::Overfull, prod, self.cons));
        }
        if available < self.prod.wrapping_sub(self.cons) {
            let fault = Fault::Backwards { from: self.prod };
            return Err(self.layout.corrupt(Field::Prod, fault, prod, self.cons));
        }
        self.prod = prod;
        Ok(available as usize)
    }

    /// Copies out as much as `to` holds and the ring has, tells the peer's index, and returns the
    /// count; 0 if the ring is empty. Whether the peer wants an event now is for
    /// [`notify::wanted`](crate::notify::wanted) to say.
    #[inline(always)]
    pub fn read(
        &mut self,
        ctl: &impl IndexMemory,
        data: &impl SharedMem,
        to: &mut [u8],
    ) -> Result<usize, Corrupt> {
        let n = self.available(ctl)?.min(to.len());
        self.take(ctl, data, &mut to[..n]);
        Ok(n)
    }

    /// Fills all of `to` if the ring has so much, and copies nothing otherwise; says which.
    #[inline(always)]
    pub fn read_all(
        &mut self,
        ctl: &impl IndexMemory,
        data: &impl SharedMem,
        to: &mut [u8],
    ) -> Result<bool, Corrupt> {
        let is_there = to.len() <= self.available(ctl)?;
        if is_there {
            self.take(ctl, data, to);
        }
        Ok(is_there)
    }

    /// Copies out what is there, and tells the peer.
    #[inline(always)]
    fn take(&mut self, ctl: &impl IndexMemory, data: &impl SharedMem, to: &mut [u8]) {
        if to.is_empty() {
            return;
        }
        let (at, until_end) = self.next();
        let n = to.len();
        let (first, second) = to.split_at_mut(n.min(until_end));
        data.read(at, first);
        if !second.is_empty() {
            data.read(self.layout.data, second);
        }
        self.advance(n);
        self.publish(ctl);
    }

    /// Returns the offset of the next byte, and the number of bytes before the ring starts over.
    #[inline(always)]
    pub(crate) fn next(&self) -> (usize, usize) {
        self.layout.place(self.cons)
    }

    /// Counts `len` bytes as taken out; the peer is not told.
    #[inline(always)]
    pub(crate) fn advance(&mut self, len: usize) {
        self.cons = self.cons.wrapping_add(len as u32);
    }

    /// Tells the peer what was taken out.
    #[inline(always)]
    pub(crate) fn publish(&self, ctl: &impl IndexMemory) {
        ctl.store(self.layout.cons, self.cons);
    }
}
