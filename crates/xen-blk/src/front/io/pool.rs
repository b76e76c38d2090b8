//! Bounce pages: shared with the backend once and used again and again.
//!
//! They hold data of this disk and lists of segments, never anything else: a backend that reads
//! more of a page than it was told to learns nothing (XSA-403).

use alloc::vec::Vec;
use xen_abi::blkif::SECTOR;
use xen_platform::{DomId, GrantRef, Granted, PAGE_SIZE, Platform, SharedMem};

/// Number of pages that are shared at a time.
const CHUNK: usize = 16;

pub(crate) struct Pool<P: Platform> {
    peer: DomId,
    chunks: Vec<P::Grant>,
    /// Unused pages. The last one is used next: it was used last, and the cache may still have it.
    free: Vec<u32>,
    /// Largest number of pages.
    max: usize,
}

impl<P: Platform> Pool<P> {
    pub fn new(peer: DomId, max: u32) -> Self {
        let max = (max as usize).next_multiple_of(CHUNK).max(2 * CHUNK);
        Pool { peer, chunks: Vec::new(), free: Vec::new(), max }
    }

    /// Sets the domain to share new pages with. There must be none yet.
    pub fn set_peer(&mut self, peer: DomId) {
        debug_assert!(self.chunks.is_empty());
        self.peer = peer;
    }

    /// Returns the largest number of pages that there can be.
    pub fn max_pages(&self) -> usize {
        self.max
    }

    /// Returns the number of pages that there are.
    pub fn pages(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// Takes `count` pages, or none and returns false if too many are in use. Fails only if the
    /// pool has no page and cannot get one: where it cannot grow, its pages have to do.
    pub fn take(
        &mut self,
        platform: &P,
        count: usize,
        to: &mut Vec<u32>,
    ) -> Result<bool, P::Error> {
        while self.free.len() < count && self.pages() < self.max {
            match platform.share(self.peer, CHUNK) {
                Ok(chunk) => {
                    let first = self.pages() as u32;
                    self.chunks.push(chunk);
                    self.free.extend((first..first + CHUNK as u32).rev());
                }
                Err(error) if self.chunks.is_empty() => return Err(error),
                Err(_) => self.max = self.pages(),
            }
        }
        if self.free.len() < count {
            return Ok(false);
        }
        let rest = self.free.len() - count;
        to.extend(self.free.drain(rest..).rev());
        Ok(true)
    }

    /// Gives pages back.
    pub fn give(&mut self, pages: &mut Vec<u32>) {
        self.free.extend(pages.drain(..).rev());
    }

    pub fn gref(&self, page: u32) -> GrantRef {
        let (chunk, at) = self.place(page);
        chunk.refs()[at / PAGE_SIZE]
    }

    /// Writes to a page, from the offset `at` on.
    pub fn write(&self, page: u32, at: usize, from: &[u8]) {
        let (chunk, start) = self.place(page);
        chunk.write(start + at, from);
    }

    /// Clears the page from `at` on.
    pub fn clear_from(&self, page: u32, mut at: usize) {
        while at < PAGE_SIZE {
            let len = (PAGE_SIZE - at).min(SECTOR);
            self.write(page, at, &[0; SECTOR][..len]);
            at += len;
        }
    }

    pub fn read(&self, page: u32, to: &mut [u8]) {
        let (chunk, start) = self.place(page);
        chunk.read(start, to);
    }

    fn place(&self, page: u32) -> (&P::Grant, usize) {
        let page = page as usize;
        (&self.chunks[page / CHUNK], page % CHUNK * PAGE_SIZE)
    }
}
