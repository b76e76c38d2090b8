//! Frames that the domain has no memory for: pure bookkeeping, around calls that its user makes.

use super::free_list::FreeList;
use core::ops::Range;

/// Number of frames in one call to Xen.
const BATCH: usize = 256;

/// The frames without memory, of all that the memory map has.
pub struct Balloon {
    /// Frames in the memory map.
    pages: u64,
    held: FreeList,
}

impl Balloon {
    /// Returns an empty one.
    pub const fn new() -> Self {
        Balloon { pages: 0, held: FreeList::new() }
    }

    /// Sets the number of frames in the memory map.
    pub fn init(&mut self, pages: u64) {
        self.pages = pages;
    }

    /// Returns the number of frames without memory.
    pub fn held(&self) -> u64 {
        self.held.total()
    }

    /// Returns the number of frames with memory.
    pub fn kept(&self) -> u64 {
        self.pages - self.held()
    }

    /// Returns the number of frames to hold for a domain of `target` frames.
    pub fn wanted(&self, target: u64) -> u64 {
        self.pages.saturating_sub(target)
    }

    /// Holds `frames` in any case, and offers them to Xen by `decrease`.
    pub fn hold(&mut self, frames: Range<u64>, mut decrease: impl FnMut(&[u64]) -> usize) {
        for start in frames.clone().step_by(BATCH) {
            let batch = Batch::of(start..frames.end.min(start + BATCH as u64));
            decrease(batch.frames());
        }
        self.held.give(frames.start, frames.end - frames.start);
    }

    /// Takes frames by `take` and gives them to Xen by `decrease`, until `wanted` are held or there
    /// are none to be had. Frames that Xen does not take go back by `put_back`.
    pub fn inflate(
        &mut self,
        wanted: u64,
        mut take: impl FnMut() -> Option<u64>,
        mut decrease: impl FnMut(&[u64]) -> usize,
        mut put_back: impl FnMut(u64),
    ) {
        while self.held() < wanted {
            let mut batch = Batch::default();
            let room = (wanted - self.held()).min(BATCH as u64) as usize;
            while batch.len < room
                && let Some(frame) = take()
            {
                batch.push(frame);
            }
            let done = decrease(batch.frames());
            let (gone, left) = batch.frames().split_at(done.min(batch.len));
            gone.iter().for_each(|&frame| self.held.give(frame, 1));
            left.iter().for_each(|&frame| put_back(frame));
            if done < room {
                return;
            }
        }
    }

    /// Has Xen put memory at frames by `populate` and hands them out by `put_back`, until only
    /// `wanted` are held or there is no more memory.
    pub fn deflate(
        &mut self,
        wanted: u64,
        mut populate: impl FnMut(&[u64]) -> usize,
        mut put_back: impl FnMut(u64),
    ) {
        while self.held() > wanted {
            let mut batch = Batch::default();
            let room = (self.held() - wanted).min(BATCH as u64) as usize;
            while batch.len < room
                && let Some(frame) = self.held.take(1)
            {
                batch.push(frame);
            }
            let done = populate(batch.frames());
            let (come, left) = batch.frames().split_at(done.min(batch.len));
            come.iter().for_each(|&frame| put_back(frame));
            left.iter().for_each(|&frame| self.held.give(frame, 1));
            if done < room {
                return;
            }
        }
    }
}

impl Default for Balloon {
    fn default() -> Self {
        Self::new()
    }
}

/// The frames of one call.
struct Batch {
    frames: [u64; BATCH],
    len: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Batch { frames: [0; BATCH], len: 0 }
    }
}

impl Batch {
    fn of(frames: Range<u64>) -> Self {
        let mut batch = Batch::default();
        frames.for_each(|frame| batch.push(frame));
        batch
    }

    fn push(&mut self, frame: u64) {
        self.frames[self.len] = frame;
        self.len += 1;
    }

    fn frames(&self) -> &[u64] {
        &self.frames[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    proptest! {
        /// Any targets, with a Xen that takes and gives only a part: no frame is lost or used
        /// without memory.
        #[test]
        fn every_frame_is_held_or_usable(
            steps in prop::collection::vec((0u64..2000, 0usize..400, 0u64..2000), 1..20)
        ) {
            let mut balloon = Balloon::new();
            balloon.init(1500);
            balloon.hold(1000..1500, |frames| frames.len());
            let usable: RefCell<BTreeSet<u64>> = RefCell::new((0..1000).collect());
            for (target, xen, kept) in steps {
                let wanted = balloon.wanted(target);
                let before = balloon.held();
                let some = |frames: &[u64]| frames.len().min(xen);
                let take = || {
                    let mut usable = usable.borrow_mut();
                    if usable.len() as u64 > kept { usable.pop_last() } else { None }
                };
                let put_back = |frame| assert!(usable.borrow_mut().insert(frame));
                if wanted > before {
                    balloon.inflate(wanted, take, some, put_back);
                    prop_assert!((before..=wanted).contains(&balloon.held()));
                } else {
                    balloon.deflate(wanted, some, put_back);
                    prop_assert!((wanted..=before).contains(&balloon.held()));
                }
                prop_assert_eq!(balloon.held() + usable.borrow().len() as u64, 1500);
                prop_assert_eq!(balloon.kept(), usable.borrow().len() as u64);
            }
            let all: Vec<u64> = std::iter::from_fn(|| balloon.held.take(1)).collect();
            prop_assert!(all.iter().all(|frame| !usable.borrow().contains(frame)));
        }
    }
}
