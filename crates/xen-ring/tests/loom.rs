//! Every order in which the two sides of a ring can sleep and wake, tried by a model checker.
//!
//! Bytes lie in cells that only one thread may touch at a time, so a byte read before it was
//! published fails a model as well; a wake-up that gets lost leaves a thread asleep for ever.
//!
//! Seen with `notify` broken on purpose: without the fence in `arm`, and likewise
//! without the one in `wanted`, both models end in loom's "deadlock" with the sleeper blocked.
//! (With an unconditional `fetch_and` in `wanted` in place of the look before it, both fences could
//! go: two atomic changes of one byte are ordered by themselves. The plain look is what needs them,
//! and is cheaper.)

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU8, AtomicU32, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use xen_platform::{IndexMemory, SharedMem};
use xen_ring::bytes::{Consumer, Layout, Producer};
use xen_ring::notify;

const PROD: usize = 0;
const CONS: usize = 4;
/// Consulted by the writer: the reader wants to hear of data.
const WRITER_ASKED: usize = 8;
/// Consulted by the reader: the writer wants to hear of space.
const READER_ASKED: usize = 9;
const BIT: u8 = 1;

struct Page {
    indices: [AtomicU32; 2],
    asked: [AtomicU8; 2],
    data: Vec<UnsafeCell<u8>>,
}

impl Page {
    fn new(size: u32) -> Self {
        Page {
            indices: [AtomicU32::new(0), AtomicU32::new(0)],
            asked: [AtomicU8::new(0), AtomicU8::new(0)],
            data: (0..size).map(|_| UnsafeCell::new(0)).collect(),
        }
    }
}

impl IndexMemory for Page {
    fn load(&self, at: usize) -> u32 {
        self.indices[at / 4].load(Ordering::Acquire)
    }
    fn store(&self, at: usize, value: u32) {
        self.indices[at / 4].store(value, Ordering::Release)
    }
    fn load_u8(&self, at: usize) -> u8 {
        self.asked[at - 8].load(Ordering::Acquire)
    }
    fn store_u8(&self, at: usize, value: u8) {
        self.asked[at - 8].store(value, Ordering::Release)
    }
    fn fetch_or(&self, at: usize, bits: u8) -> u8 {
        self.asked[at - 8].fetch_or(bits, Ordering::AcqRel)
    }
    fn fetch_and(&self, at: usize, bits: u8) -> u8 {
        self.asked[at - 8].fetch_and(bits, Ordering::AcqRel)
    }
    fn fence(&self) {
        fence(Ordering::SeqCst)
    }
}

impl SharedMem for Page {
    fn len(&self) -> usize {
        self.data.len()
    }
    fn read(&self, at: usize, to: &mut [u8]) {
        for (to, cell) in to.iter_mut().zip(&self.data[at..]) {
            // SAFETY: loom checks that no other thread writes the cell meanwhile.
            *to = cell.with(|byte| unsafe { *byte });
        }
    }
    fn write(&self, at: usize, from: &[u8]) {
        for (from, cell) in from.iter().zip(&self.data[at..]) {
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
    layout: Layout,
    to_reader: Events,
    to_writer: Events,
}

impl Ring {
    fn new(size: u32) -> Arc<Self> {
        let layout = Layout { prod: PROD, cons: CONS, data: 0, size };
        Arc::new(Ring {
            page: Page::new(size),
            layout,
            to_reader: Events::default(),
            to_writer: Events::default(),
        })
    }

    /// Writes the bytes 1..=`count` one by one, asleep whenever the ring is full.
    fn write(&self, count: u8) {
        let mut producer = Producer::new(self.layout, 0);
        let mut seen = 0;
        for byte in 1..=count {
            let mut put = || producer.write(&self.page, &self.page, &[byte]).unwrap() == 1;
            while !put() {
                notify::arm(&self.page, READER_ASKED, BIT);
                if put() {
                    break;
                }
                self.to_writer.wait(&mut seen);
            }
            if notify::wanted(&self.page, WRITER_ASKED, BIT) {
                self.to_reader.send();
            }
        }
    }

    /// Reads the bytes 1..=`count` one by one, asleep whenever the ring is empty. With `hold`, it
    /// looks whether the writer wants an event not after each byte, but before it sleeps itself,
    /// and at the end.
    fn read(&self, count: u8, hold: bool) {
        let mut consumer = Consumer::new(self.layout, 0);
        let mut seen = 0;
        let tell = || {
            if notify::wanted(&self.page, READER_ASKED, BIT) {
                self.to_writer.send();
            }
        };
        for byte in 1..=count {
            let mut to = [0];
            let mut take = || consumer.read(&self.page, &self.page, &mut to).unwrap() == 1;
            while !take() {
                if hold {
                    tell();
                }
                notify::arm(&self.page, WRITER_ASKED, BIT);
                if take() {
                    break;
                }
                self.to_reader.wait(&mut seen);
            }
            assert_eq!(to, [byte]);
            if !hold {
                tell();
            }
        }
        tell();
    }
}

/// Sends `count` bytes through a ring of `size`. The threads are switched by force at most four
/// times in one run: that finds a missing fence, and without the limit the models take minutes.
fn no_wake_up_is_lost(size: u32, count: u8, hold: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(move || {
        let ring = Ring::new(size);
        let writer = ring.clone();
        let writing = loom::thread::spawn(move || writer.write(count));
        ring.read(count, hold);
        writing.join().unwrap();
    });
}

#[test]
fn a_reader_asleep_is_woken() {
    no_wake_up_is_lost(2, 2, false);
}

#[test]
fn a_writer_asleep_is_woken() {
    no_wake_up_is_lost(1, 2, false);
}

#[test]
fn a_writer_asleep_is_woken_by_an_event_held_back() {
    no_wake_up_is_lost(1, 2, true);
}
