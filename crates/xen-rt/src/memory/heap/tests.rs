use super::*;
use crate::memory::{Frames, PAGE, Ranges};
use proptest::prelude::*;
use std::alloc::System;
use std::boxed::Box;
use std::vec::Vec;

/// Returns a heap with a range of `size` bytes, and the range's start. Both stay for ever.
fn heap(size: usize) -> (&'static KernelHeap, usize) {
    let heap: &KernelHeap = Box::leak(Box::new(KernelHeap::new()));
    // SAFETY: a block of this size, used by nothing else and never freed.
    let bottom = unsafe { System.alloc(Layout::from_size_align(size, 4096).unwrap()) } as usize;
    // SAFETY: as above.
    unsafe { heap.init(bottom, bottom + size) };
    (heap, bottom)
}

#[test]
fn heap_and_frames_share_one_range() {
    const SIZE: usize = 2 << 20;
    let (heap, bottom) = heap(SIZE);
    assert_eq!(heap.claim_top(4096), Some(bottom + SIZE - 4096));
    let layout = Layout::from_size_align(1 << 20, 16).unwrap();
    // SAFETY: the layout is not empty.
    let block = unsafe { heap.alloc(layout) };
    assert!(!block.is_null(), "the heap grows over what is unclaimed");
    // SAFETY: as above.
    assert!(unsafe { heap.alloc(layout) }.is_null(), "but not over frames");
    assert_eq!(heap.claim_top(SIZE), None, "nor do frames eat the heap");
    // SAFETY: the block came from this heap with this layout.
    unsafe { heap.dealloc(block, layout) };
    assert_eq!(heap.usage().0, 0);
}

#[test]
fn frames_given_back_are_the_heaps_again() {
    const SIZE: usize = 2 << 20;
    let (heap, bottom) = heap(SIZE);
    let frames = Frames::new(heap);
    let all: Vec<u64> = std::iter::from_fn(|| frames.take(16)).collect();
    assert!(heap.usage().2 + heap.usage().1 >= RESERVE, "small allocations have a reserve");
    let layout = Layout::from_size_align(1 << 20, 16).unwrap();
    // SAFETY: the layout is not empty.
    assert!(unsafe { heap.alloc(layout) }.is_null(), "a large one is refused");
    // In any order: every second one first.
    let (even, odd): (Vec<_>, Vec<_>) = all.iter().enumerate().partition(|(i, _)| i % 2 == 0);
    for (_, &address) in even.into_iter().chain(odd) {
        frames.give(address, 16);
    }
    assert_eq!((heap.top(), frames.free_bytes()), (bottom + SIZE, 0));
    // SAFETY: as above.
    assert!(!unsafe { heap.alloc(layout) }.is_null(), "the heap may grow there again");
}

/// The memory of one client: the pages of its rings, its buffer, and small things.
struct Client {
    frames: (u64, usize),
    buffer: (*mut u8, Layout),
    small: Vec<(*mut u8, Layout)>,
}

/// The heap and the frames of a domain, and its clients.
struct Domain {
    heap: &'static KernelHeap,
    frames: Frames,
    clients: Vec<Client>,
}

impl Domain {
    /// Lets a client in, or turns it away. Panics where the kernel would.
    fn admit(&mut self, pages: usize, buffer: usize, small: &[usize]) -> bool {
        let Some(address) = self.frames.take(pages) else { return false };
        let layout = Layout::from_size_align(buffer, 8).unwrap();
        // SAFETY: the layout is not empty.
        let block = unsafe { self.heap.alloc(layout) };
        if block.is_null() {
            assert!(buffer > LARGE, "an allocation of {buffer} bytes, which cannot fail, failed");
            self.frames.give(address, pages);
            return false;
        }
        let small = small.iter().map(|&size| {
            let layout = Layout::from_size_align(size, 8).unwrap();
            // SAFETY: as above.
            let block = unsafe { self.heap.alloc(layout) };
            assert!(!block.is_null(), "an allocation of {size} bytes, which cannot fail, failed");
            (block, layout)
        });
        let small = small.collect();
        self.clients.push(Client { frames: (address, pages), buffer: (block, layout), small });
        true
    }

    fn leave(&mut self, number: usize) {
        let client = self.clients.swap_remove(number);
        self.frames.give(client.frames.0, client.frames.1);
        for (block, layout) in client.small.into_iter().chain([client.buffer]) {
            // SAFETY: the block came from this heap with this layout.
            unsafe { self.heap.dealloc(block, layout) };
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any clients that come and go, in a domain of any size: what cannot be refused never fails,
    /// and everything comes back.
    #[test]
    fn clients_of_any_kind_are_refused_before_memory_is_gone(
        size in 2usize..24,
        steps in prop::collection::vec(
            (any::<bool>(), 1usize..520, 1usize..(128 << 10),
             prop::collection::vec(16usize..4096, 1..6)),
            1..200
        )
    ) {
        let (heap, bottom) = heap(size << 20);
        let frames = Frames::new(heap);
        // Frames elsewhere, as small ranges of RAM are.
        let mut elsewhere = Ranges::default();
        elsewhere.add(1 << 50, 16 * PAGE);
        frames.init(&elsewhere, 0..0);
        let mut domain = Domain { heap, frames, clients: Vec::new() };
        for (leave, pages, buffer, small) in steps {
            if leave && !domain.clients.is_empty() {
                domain.leave(pages % domain.clients.len());
            } else {
                domain.admit(pages, buffer, &small);
            }
        }
        // And then small ones until nothing more goes in.
        while domain.admit(1, LARGE + 8, &[4000; 4]) {}
        while !domain.clients.is_empty() {
            domain.leave(0);
        }
        prop_assert_eq!(heap.usage().0, 0);
        prop_assert_eq!(heap.top(), bottom + (size << 20));
        let layout = Layout::from_size_align(64 << 10, 8).unwrap();
        // SAFETY: the layout is not empty.
        prop_assert!(!unsafe { heap.alloc(layout) }.is_null(), "there is room again");
    }
}
