//! Every order in which the two ends of the ring of slots can sleep and wake, tried by a model
//! checker.
//!
//! Seen with `slots` broken on purpose: without the fence in `publish`, and likewise
//! without the one in `Front::arm` or in `Back::arm`, the models end in loom's "deadlock" with one
//! end asleep.

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use xen_abi::ring::SLOTS;
use xen_platform::{IndexMemory, SharedMem};
use xen_ring::slots::{Back, Front, Shape};

/// A slot holds one byte, so that a ring of two slots is enough.
const SLOT: usize = 1;

struct Page {
    indices: [AtomicU32; 4],
    slots: Vec<UnsafeCell<u8>>,
}

impl Page {
    fn new(slots: usize) -> Self {
        let indices = std::array::from_fn(|_| AtomicU32::new(0));
        Page { indices, slots: (0..slots).map(|_| UnsafeCell::new(0)).collect() }
    }
}

impl IndexMemory for Page {
    fn load(&self, at: usize) -> u32 {
        self.indices[at / 4].load(Ordering::Acquire)
    }
    fn store(&self, at: usize, value: u32) {
        self.indices[at / 4].store(value, Ordering::Release)
    }
    fn load_u8(&self, _: usize) -> u8 {
        unreachable!("the ring has no bytes")
    }
    fn store_u8(&self, _: usize, _: u8) {
        unreachable!("the ring has no bytes")
    }
    fn fetch_or(&self, _: usize, _: u8) -> u8 {
        unreachable!("the ring has no bytes")
    }
    fn fetch_and(&self, _: usize, _: u8) -> u8 {
        unreachable!("the ring has no bytes")
    }
    fn fence(&self) {
        fence(Ordering::SeqCst)
    }
}

impl SharedMem for Page {
    fn len(&self) -> usize {
        SLOTS + self.slots.len()
    }
    fn read(&self, at: usize, to: &mut [u8]) {
        for (to, cell) in to.iter_mut().zip(&self.slots[at - SLOTS..]) {
            // SAFETY: loom checks that no other thread writes the cell meanwhile.
            *to = cell.with(|byte| unsafe { *byte });
        }
    }
    fn write(&self, at: usize, from: &[u8]) {
        for (from, cell) in from.iter().zip(&self.slots[at - SLOTS..]) {
            // SAFETY: loom checks that no other thread touches the cell meanwhile.
            cell.with_mut(|byte| unsafe { *byte = *from });
        }
    }
}

/// An event channel: it counts, and waits for more than was seen.
#[derive(Default)]
struct Events {
    count: Mutex<u32>,
    came: Condvar,
}

impl Events {
    fn send(&self) {
        *self.count.lock().unwrap() += 1;
        self.came.notify_one();
    }

    fn wait(&self, seen: &mut u32) {
        let mut count = self.count.lock().unwrap();
        while *count == *seen {
            count = self.came.wait(count).unwrap();
        }
        *seen = *count;
    }
}

struct Ring {
    page: Page,
    to_front: Events,
    to_back: Events,
}

/// Asks for 1 to `count`, as many at a time as there is room for, and checks that each is answered
/// with its double.
fn ask(ring: &Ring, mut front: Front, count: u8) {
    let (mut asked, mut answered, mut seen) = (0, 0, 0);
    while answered < count {
        while asked < count && front.free() > 0 {
            asked += 1;
            front.put(&ring.page, &[asked]);
        }
        if front.push(&ring.page) {
            ring.to_back.send();
        }
        let mut response = [0];
        while !front.take(&ring.page, &mut response).unwrap() {
            if !front.arm(&ring.page, 1).unwrap() {
                ring.to_front.wait(&mut seen);
            }
        }
        answered += 1;
        assert_eq!(response, [2 * answered]);
    }
}

/// Answers `count` requests, in batches as they are found.
fn answer(ring: &Ring, mut back: Back, count: u8) {
    let (mut answered, mut seen) = (0, 0);
    while answered < count {
        let mut request = [0];
        let mut batch = Vec::new();
        while back.take(&ring.page, &mut request).unwrap() {
            batch.push(request);
        }
        for [request] in &batch {
            back.put(&ring.page, &[2 * request]);
            answered += 1;
        }
        if back.push(&ring.page) {
            ring.to_front.send();
        }
        if batch.is_empty() && !back.arm(&ring.page).unwrap() {
            ring.to_back.wait(&mut seen);
        }
    }
}

/// Passes `count` requests through a ring of `slots`. The threads are switched by force at most
/// twice in one run: that finds a missing fence, and without the limit the models take minutes.
fn no_wake_up_is_lost(slots: usize, count: u8) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let page = Page::new(slots);
        let shape = Shape::new(SLOTS + slots, SLOT);
        let front = Front::new(shape, &page);
        let back = Back::attach(shape, &page).unwrap();
        let ring = Arc::new(Ring { page, to_front: Events::default(), to_back: Events::default() });
        let asking = ring.clone();
        let thread = loom::thread::spawn(move || ask(&asking, front, count));
        answer(&ring, back, count);
        thread.join().unwrap();
    });
}

#[test]
fn both_ends_asleep_are_woken_with_one_slot() {
    no_wake_up_is_lost(1, 2);
}

#[test]
fn both_ends_asleep_are_woken_with_two_slots() {
    no_wake_up_is_lost(2, 2);
}
