//! Copying to and from a peer's pages without mapping them.

use crate::{GrantRef, PAGE_SIZE};

/// Bytes of one page that a peer granted, and the private buffer of the copy: see
/// [`Platform::copy`].
///
/// [`Platform::copy`]: crate::Platform::copy
#[derive(Debug)]
pub struct CopySegment<'a> {
    gref: GrantRef,
    at: usize,
    buffer: CopyBuffer<'a>,
    status: i16,
}

/// The private end of a copy.
#[derive(Debug)]
pub enum CopyBuffer<'a> {
    /// The peer's bytes are copied here.
    FromPeer(&'a mut [u8]),
    /// These bytes are copied to the peer, whose grant must permit it.
    ToPeer(&'a [u8]),
}

impl<'a> CopySegment<'a> {
    /// Creates a segment that reads the peer's page `gref` from the byte at `at` on. Panics if that
    /// passes the page's end.
    pub fn from_peer(gref: GrantRef, at: usize, to: &'a mut [u8]) -> Self {
        Self::new(gref, at, CopyBuffer::FromPeer(to))
    }

    /// Creates a segment that writes the peer's page `gref` from the byte at `at` on. Panics if
    /// that passes the page's end.
    pub fn to_peer(gref: GrantRef, at: usize, from: &'a [u8]) -> Self {
        Self::new(gref, at, CopyBuffer::ToPeer(from))
    }

    fn new(gref: GrantRef, at: usize, buffer: CopyBuffer<'a>) -> Self {
        let piece = CopySegment { gref, at, buffer, status: Self::NOT_TRIED };
        let inside = at <= PAGE_SIZE && piece.len() <= PAGE_SIZE - at;
        assert!(inside, "{} bytes at {at} of a page of {PAGE_SIZE}", piece.len());
        piece
    }

    /// `GNTST_general_error` (grant_table.h): a piece counts as failed until it has been copied.
    const NOT_TRIED: i16 = -1;

    /// Returns the grant reference of the peer's page.
    pub fn gref(&self) -> GrantRef {
        self.gref
    }

    /// Returns the offset in the page, in bytes.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Returns the length in bytes: with [`CopySegment::at`], no more than the page has.
    pub fn len(&self) -> usize {
        match &self.buffer {
            CopyBuffer::FromPeer(to) => to.len(),
            CopyBuffer::ToPeer(from) => from.len(),
        }
    }

    /// Returns whether there is nothing to copy.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the private end, for the platform that copies.
    pub fn buffer(&mut self) -> &mut CopyBuffer<'a> {
        &mut self.buffer
    }

    /// Notes the outcome, for the platform that copies: `GNTST_*` of grant_table.h, 0 for success.
    pub fn set_status(&mut self, status: i16) {
        self.status = status;
    }

    /// Returns the outcome: 0 once it is copied, otherwise the negative `GNTST_*` (grant_table.h)
    /// that says why not.
    pub fn status(&self) -> i16 {
        self.status
    }

    /// Returns whether it was copied.
    pub fn is_copied(&self) -> bool {
        self.status == 0
    }
}
