//! A disk in memory with one defect or none, and an environment that stands on it.
#![allow(dead_code, unused_imports, reason = "each test file uses a part")]

mod array;
mod backend;
mod guest;
pub mod mutant;

pub use array::Arrays;
pub use backend::{on_backend, on_platform};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use xen_exercise::{Plan, SECTOR, Verdict, run};
use xen_sim::Sim;

/// Defect of a backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// Every seventh write goes one sector too far.
    Misplaces,
    /// Of a large write, only the first half is done.
    Tears,
    /// In every seventh write, the second half of the first sector is not written.
    TearsSectors,
    /// Every seventh write is not done.
    Drops,
    /// Every seventh read shows what was there some writes before.
    Stale,
    /// The upper half of the disk is the lower half.
    Aliases,
    /// A bit of every seventh read is wrong.
    Damages,
    /// Flushes do nothing, and what was not flushed is lost when the connection ends.
    IgnoresFlush,
    /// Barriers go before the write before them.
    PassesBarriers,
    /// A discard takes a sector too many.
    DiscardsNeighbours,
    /// A discard beyond the end is answered as done.
    DiscardsBeyond,
    /// Discarded sectors read differently each time.
    DiscardsUnstable,
    /// Every fifth read fails.
    FailsReads,
    /// Every fifth write does a half and fails.
    FailsWrites,
    /// Every connection leaves a grant behind.
    Leaks,
    /// A disk that grew still refuses its new sectors.
    GrowsOnPaper,
    /// Says yes to what is not offered.
    DiscardsUnasked,
}

/// The contents of a disk, and how they are treated.
pub struct Contents {
    pub defect: Option<Defect>,
    pub sector_size: u32,
    pub read_only: bool,
    bytes: RefCell<Vec<u8>>,
    /// The contents before the last write; the durable contents, of a disk that loses data that was
    /// not flushed.
    before: RefCell<Vec<u8>>,
    discarded: RefCell<Vec<(u64, u64)>>,
    held: RefCell<Option<(u64, Vec<u8>)>>,
    count: Cell<u32>,
}

impl Contents {
    pub fn new(sectors: u64, sector_size: u32, defect: Option<Defect>) -> Rc<Contents> {
        let bytes = vec![0; sectors as usize * SECTOR];
        Rc::new(Contents {
            defect,
            sector_size,
            read_only: false,
            before: RefCell::new(bytes.clone()),
            bytes: RefCell::new(bytes),
            discarded: RefCell::default(),
            held: RefCell::default(),
            count: Cell::new(0),
        })
    }

    pub fn sectors(&self) -> u64 {
        (self.bytes.borrow().len() / SECTOR) as u64
    }

    pub fn grow(&self, sectors: u64) {
        self.bytes.borrow_mut().resize(sectors as usize * SECTOR, 0);
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// Tells if it is the turn of a defect that comes every so often.
    fn nth(&self, defect: Defect, every: u32) -> bool {
        if !self.has(defect) {
            return false;
        }
        self.count.set(self.count.get() + 1);
        self.count.get().is_multiple_of(every)
    }

    fn place(&self, sector: u64) -> usize {
        let half = self.sectors() / 2;
        let sector =
            if self.has(Defect::Aliases) && sector >= half { sector - half } else { sector };
        sector as usize * SECTOR
    }

    pub fn read(&self, sector: u64, to: &mut [u8]) -> bool {
        if self.nth(Defect::FailsReads, 5) {
            return false;
        }
        let stale = self.nth(Defect::Stale, 7);
        let bytes = if stale { self.before.borrow() } else { self.bytes.borrow() };
        for (number, sector_bytes) in (sector..).zip(to.chunks_mut(SECTOR)) {
            let at = self.place(number);
            sector_bytes.copy_from_slice(&bytes[at..at + SECTOR]);
        }
        let of_discarded = self
            .discarded
            .borrow()
            .iter()
            .any(|(first, count)| sector < first + count && *first < sector + 1);
        if self.nth(Defect::Damages, 7) || of_discarded && self.nth(Defect::DiscardsUnstable, 3) {
            to[17] ^= 4;
        }
        true
    }

    /// Tells if this write is one that fails after its first half.
    pub fn fails_to_write(&self, sector: u64, from: &[u8]) -> bool {
        let fails = self.nth(Defect::FailsWrites, 5);
        if fails {
            self.put(sector, &from[..from.len() / SECTOR / 2 * SECTOR]);
        }
        fails
    }

    pub fn write(&self, sector: u64, from: &[u8], barrier: bool) {
        if self.has(Defect::Stale) && (sector / 8).is_multiple_of(5) {
            self.before.replace(self.bytes.borrow().clone());
        }
        self.discarded.borrow_mut().retain(|(first, count)| {
            sector >= first + count || *first >= sector + (from.len() / SECTOR) as u64
        });
        let (mut sector, mut len) = (sector, from.len());
        if self.nth(Defect::Drops, 7) {
            return;
        }
        if self.nth(Defect::Misplaces, 7) && sector + 1 + (len / SECTOR) as u64 <= self.sectors() {
            sector += 1;
        }
        if self.has(Defect::Tears) && len > 4096 {
            len /= 2;
        }
        if self.has(Defect::PassesBarriers) {
            if !barrier && self.held.borrow().is_none() {
                *self.held.borrow_mut() = Some((sector, from.to_vec()));
                return;
            }
            self.put(sector, &from[..len]);
            if let Some((sector, from)) = self.held.take() {
                self.put(sector, &from);
            }
            return;
        }
        match self.nth(Defect::TearsSectors, 7) {
            true => {
                self.put(sector, &from[..256]);
                let rest = &from[SECTOR..len];
                if !rest.is_empty() {
                    self.put(sector + 1, rest);
                }
            }
            false => self.put(sector, &from[..len]),
        }
    }

    fn put(&self, sector: u64, from: &[u8]) {
        for (number, part) in (sector..).zip(from.chunks(SECTOR)) {
            let at = self.place(number);
            self.bytes.borrow_mut()[at..at + part.len()].copy_from_slice(part);
        }
    }

    pub fn flush(&self) {}

    pub fn discard(&self, sector: u64, count: u64) {
        let count = if self.has(Defect::DiscardsNeighbours) { count + 1 } else { count };
        let count = count.min(self.sectors() - sector);
        self.put(sector, &vec![0; count as usize * SECTOR]);
        self.discarded.borrow_mut().push((sector, count));
    }

    /// The connection ends.
    pub fn cut(&self) {
        if self.has(Defect::IgnoresFlush) {
            self.bytes.replace(self.before.borrow().clone());
        }
    }
}

pub const XVDA: u32 = 51712;

/// Result of a run: the verdict, the text, and the published keys.
pub struct Ran {
    pub verdict: Verdict,
    pub text: String,
    pub published: Vec<(String, String)>,
}

/// Runs the plan of `line` on an array.
pub fn on_array(line: &str, contents: Rc<Contents>, change: impl FnOnce(&mut Arrays)) -> Ran {
    let mut sim = Sim::new();
    let mut env = Arrays {
        domain: sim.domain(1),
        disks: vec![(XVDA, contents)],
        discard: true,
        text: Rc::default(),
        published: Rc::default(),
        grows_to: None,
        used: Rc::default(),
        answers: None,
        broken: false,
    };
    change(&mut env);
    let (text, published) = (env.text.clone(), env.published.clone());
    let plan = plan(line);
    let verdict = sim.run(async move { run(&env, &plan).await });
    Ran { verdict, text: text.take(), published: published.take() }
}

pub fn plan(line: &str) -> Plan {
    let mut plan = Plan::default();
    for word in line.split_whitespace() {
        let (name, value) = word.split_once('=').expect("name=value");
        assert_eq!(plan.set(name, value), Ok(true), "{word}");
    }
    plan
}
