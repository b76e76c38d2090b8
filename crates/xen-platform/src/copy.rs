//! Copying to and from a peer's pages without mapping them.

use crate::{GrantRef, PAGE_SIZE};

/// Some bytes of one page that a peer granted, and where they go or come from: see [`Platform::copy`].
///
/// [`Platform::copy`]: crate::Platform::copy
#[derive(Debug)]
pub struct Piece<'a> {
    gref: GrantRef,
    at: usize,
    bytes: Bytes<'a>,
    status: i16,
}

/// The private end of a copy.
#[derive(Debug)]
pub enum Bytes<'a> {
    /// The peer's bytes come here.
    FromPeer(&'a mut [u8]),
    /// These go to the peer, whose grant must permit it.
    ToPeer(&'a [u8]),
}

impl<'a> Piece<'a> {
    /// To read the peer's page `gref` from the byte at `at` on. Panics if that passes the page's end.
    pub fn from_peer(gref: GrantRef, at: usize, to: &'a mut [u8]) -> Self {
        Self::new(gref, at, Bytes::FromPeer(to))
    }

    /// To write the peer's page `gref` from the byte at `at` on. Panics if that passes the page's end.
    pub fn to_peer(gref: GrantRef, at: usize, from: &'a [u8]) -> Self {
        Self::new(gref, at, Bytes::ToPeer(from))
    }

    fn new(gref: GrantRef, at: usize, bytes: Bytes<'a>) -> Self {
        let piece = Piece { gref, at, bytes, status: Self::NOT_TRIED };
        let inside = at <= PAGE_SIZE && piece.len() <= PAGE_SIZE - at;
        assert!(inside, "{} bytes at {at} of a page of {PAGE_SIZE}", piece.len());
        piece
    }

    /// `GNTST_general_error` (grant_table.h): a piece counts as failed until it has been copied.
    const NOT_TRIED: i16 = -1;

    /// The peer's page.
    pub fn gref(&self) -> GrantRef {
        self.gref
    }

    /// Where in the page, in bytes.
    pub fn at(&self) -> usize {
        self.at
    }

    /// How many bytes: with [`Piece::at`], no more than the page has.
    pub fn len(&self) -> usize {
        match &self.bytes {
            Bytes::FromPeer(to) => to.len(),
            Bytes::ToPeer(from) => from.len(),
        }
    }

    /// Whether there is nothing to copy.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The private end, for the platform that copies.
    pub fn bytes(&mut self) -> &mut Bytes<'a> {
        &mut self.bytes
    }

    /// Notes the outcome, for the platform that copies: `GNTST_*` of grant_table.h, 0 for success.
    pub fn set_status(&mut self, status: i16) {
        self.status = status;
    }

    /// The outcome: 0 once it is copied, otherwise the negative `GNTST_*` (grant_table.h) that says why not.
    pub fn status(&self) -> i16 {
        self.status
    }

    /// Whether it was copied.
    pub fn is_copied(&self) -> bool {
        self.status == 0
    }
}
