//! Pages that data is copied through: shared once with the backend, and kept.
//!
//! Nothing but data of this disk is ever in them, and the lists of segments: a backend that looks where it should not
//! learns nothing (XSA-403).

use alloc::vec::Vec;
use xen_abi::blkif::SECTOR;
use xen_platform::{DomId, GrantRef, Granted, PAGE_SIZE, Platform, SharedMem};

/// Pages that are shared at a time.
const CHUNK: usize = 16;

pub(crate) struct Pool<P: Platform> {
    peer: DomId,
    chunks: Vec<P::Grant>,
    /// The pages that nobody uses, the one to be used next at the end: it was used last, and the cache may still have it.
    free: Vec<u32>,
    /// The most pages there can be.
    most: usize,
}

impl<P: Platform> Pool<P> {
    pub fn new(peer: DomId, most: u32) -> Self {
        let most = (most as usize).next_multiple_of(CHUNK).max(2 * CHUNK);
        Pool { peer, chunks: Vec::new(), free: Vec::new(), most }
    }

    /// How many pages there can be.
    pub fn most(&self) -> usize {
        self.most
    }

    /// How many pages there are.
    pub fn pages(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// Takes `count` pages, all or none: false if they are in use. Fails only if there is not a single page, and none
    /// can be had; where just more cannot be had, those that are there must do.
    pub fn take(&mut self, platform: &P, count: usize, to: &mut Vec<u32>) -> Result<bool, P::Error> {
        while self.free.len() < count && self.pages() < self.most {
            match platform.share(self.peer, CHUNK) {
                Ok(chunk) => {
                    let first = self.pages() as u32;
                    self.chunks.push(chunk);
                    self.free.extend((first..first + CHUNK as u32).rev());
                }
                Err(error) if self.chunks.is_empty() => return Err(error),
                Err(_) => self.most = self.pages(),
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
