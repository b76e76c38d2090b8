//! A disk in memory with one defect or none, and a site that stands on it without a protocol between.
#![allow(dead_code, reason = "each test file uses a part")]

use std::cell::{Cell, RefCell};
use std::fmt::Arguments;
use std::rc::Rc;
use std::time::Duration;
use xen_blk::front::{DiscardInfo, Info, Stats, Units, Wishes};
use xen_blk::wire::{Abi, Response};
use xen_exercise::{Boxed, Device, Failure, Io, Kind, Page, Plan, Raw, SECTOR, Site, Usage, Verdict, run};
use xen_platform::{Clock, DomId, EventCounter, Time, sleep};
use xen_sim::{Domain, Sim};

/// What a backend may get wrong.
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
    /// What was there before the last write; what is safe, of a disk that loses what was not flushed.
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

    /// Whether it is the turn of a defect that comes every so often.
    fn nth(&self, defect: Defect, every: u32) -> bool {
        if !self.has(defect) {
            return false;
        }
        self.count.set(self.count.get() + 1);
        self.count.get().is_multiple_of(every)
    }

    fn place(&self, sector: u64) -> usize {
        let half = self.sectors() / 2;
        let sector = if self.has(Defect::Aliases) && sector >= half { sector - half } else { sector };
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
        let of_discarded =
            self.discarded.borrow().iter().any(|(first, count)| sector < first + count && *first < sector + 1);
        if self.nth(Defect::Damages, 7) || of_discarded && self.nth(Defect::DiscardsUnstable, 3) {
            to[17] ^= 4;
        }
        true
    }

    pub fn write(&self, sector: u64, from: &[u8], barrier: bool) {
        if self.has(Defect::Stale) && (sector / 8).is_multiple_of(5) {
            self.before.replace(self.bytes.borrow().clone());
        }
        self.discarded
            .borrow_mut()
            .retain(|(first, count)| sector >= first + count || *first >= sector + (from.len() / SECTOR) as u64);
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

/// A backend that gives the same answer to everything, or none.
struct Parrot {
    says: Option<i16>,
    unanswered: u32,
}

impl Raw for Parrot {
    fn send(&mut self, _: &[u8]) {
        self.unanswered += 1;
    }
    fn move_index(&self, _: u32) {}
    fn ring_bell(&self) {}
    fn answer(&mut self, _: Duration) -> Boxed<'_, Option<Response>> {
        let status = self.says.filter(|_| self.unanswered > 0);
        self.unanswered -= u32::from(status.is_some());
        Box::pin(async move { status.map(|status| Response { id: 1, operation: 0, status }) })
    }
    fn gref(&self, _: Page) -> u32 {
        8
    }
    fn write(&self, _: usize, _: usize, _: &[u8]) {}
    fn read(&self, _: usize, _: usize, to: &mut [u8]) {
        to.fill(0xee);
    }
    fn state<'a>(&'a self, _: &'a str) -> Boxed<'a, ()> {
        Box::pin(async {})
    }
    fn close(self: Box<Self>) -> Boxed<'static, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
}

/// A site whose disks are plain arrays.
pub struct Arrays {
    pub domain: Domain,
    pub disks: Vec<(u32, Rc<Contents>)>,
    pub discard: bool,
    pub text: Rc<RefCell<String>>,
    pub published: Rc<RefCell<Vec<(String, String)>>>,
    /// Disks grow to this many sectors after some reads.
    pub grows_to: Option<u64>,
    used: Rc<Cell<u32>>,
    /// What the rings of these disks answer, if they have any.
    pub answers: Option<Option<i16>>,
}

struct Array {
    vdev: u32,
    contents: Rc<Contents>,
    discard: bool,
    wishes: Wishes,
    grows_to: Option<u64>,
    sectors: Cell<u64>,
    reads: Cell<u32>,
    closed: Cell<bool>,
    change: EventCounter,
    used: Rc<Cell<u32>>,
    domain: Domain,
}

impl Array {
    fn fail(&self, kind: Kind) -> Result<(), Failure> {
        Err(Failure::new(kind, format!("{kind:?}")))
    }

    async fn carry_out(&self, io: Io<'_>) -> Result<(), Failure> {
        sleep(&self.domain, Duration::from_micros(10)).await;
        if self.closed.get() {
            return self.fail(Kind::Gone);
        }
        let range = match &io {
            Io::Read(sector, to) => (*sector, (to.len() / SECTOR) as u64),
            Io::Write(sector, from) | Io::Barrier(sector, from) => (*sector, (from.len() / SECTOR) as u64),
            Io::Flush => (0, 0),
            Io::Discard { sector, count, .. } => (*sector, *count),
        };
        let discards = matches!(io, Io::Discard { .. });
        if discards && !self.discard && self.contents.defect != Some(Defect::DiscardsUnasked) {
            return self.fail(Kind::Unsupported);
        }
        if range.0.checked_add(range.1).is_none_or(|end| end > self.sectors.get()) {
            let lies = discards && self.contents.defect == Some(Defect::DiscardsBeyond);
            return if lies { Ok(()) } else { self.fail(Kind::OutOfRange) };
        }
        match io {
            Io::Read(sector, to) => {
                self.reads.set(self.reads.get() + 1);
                if let Some(sectors) = self.grows_to.filter(|_| self.reads.get() == 5) {
                    self.contents.grow(sectors);
                    self.sectors.set(sectors);
                    self.change.signal();
                }
                let new = self.contents.defect == Some(Defect::GrowsOnPaper) && sector + 1 == self.sectors.get();
                if new || !self.contents.read(sector, to) {
                    return self.fail(Kind::Failed);
                }
            }
            Io::Write(..) | Io::Barrier(..) if self.contents.read_only => return self.fail(Kind::ReadOnly),
            Io::Write(sector, from) => self.contents.write(sector, from, false),
            Io::Barrier(sector, from) => self.contents.write(sector, from, true),
            Io::Flush => self.contents.flush(),
            Io::Discard { sector, count, .. } => self.contents.discard(sector, count),
        }
        Ok(())
    }
}

impl Device for Array {
    fn info(&self) -> Info {
        Info {
            vdev: self.vdev,
            backend: DomId(0),
            backend_path: "/local/domain/0/backend/array/1/51712".into(),
            sectors: self.sectors.get(),
            sector_size: self.contents.sector_size,
            physical_sector_size: self.contents.sector_size,
            read_only: self.contents.read_only,
            removable: false,
            cdrom: false,
            flush: true,
            barrier: true,
            discard: self.discard.then_some(DiscardInfo { granularity: 4096, alignment: 0, secure: true }),
            indirect_segments: self.wishes.indirect_segments,
            ring_pages: self.wishes.ring_pages,
            queues: self.wishes.queues,
            persistent: self.wishes.persistent,
            abi: Abi::X86_64,
            units: Units::HEADER,
            max_transfer: 1 << 20,
            notes: vec![],
        }
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn io<'a>(&'a self, io: Io<'a>) -> Boxed<'a, Result<(), Failure>> {
        Box::pin(self.carry_out(io))
    }

    fn changed<'a>(&'a self, seen: &'a mut u32) -> Boxed<'a, ()> {
        Box::pin(std::future::poll_fn(|cx| self.change.poll_after(seen, cx)))
    }

    fn close(&self) -> Boxed<'_, Result<(), Failure>> {
        self.closed.set(true);
        self.contents.cut();
        let left = u32::from(self.contents.defect == Some(Defect::Leaks));
        self.used.set(self.used.get() - 9 + left);
        Box::pin(async { Ok(()) })
    }
}

impl Site for Arrays {
    fn now(&self) -> Time {
        self.domain.now()
    }
    fn sleep(&self, time: Duration) -> Boxed<'_, ()> {
        Box::pin(sleep(&self.domain, time))
    }
    fn print(&self, text: Arguments<'_>) {
        self.text.borrow_mut().push_str(&text.to_string());
    }
    fn shown(&self) -> Boxed<'_, ()> {
        Box::pin(async {})
    }
    fn usage(&self) -> Option<Usage> {
        Some(Usage { grants: self.used.get(), ..Usage::default() })
    }
    fn disks(&self) -> Boxed<'_, Vec<u32>> {
        Box::pin(async { self.disks.iter().map(|(vdev, _)| *vdev).collect() })
    }
    fn attach<'a>(&'a self, vdev: u32, wishes: &'a Wishes) -> Boxed<'a, Result<Rc<dyn Device>, Failure>> {
        Box::pin(async move {
            let found = self.disks.iter().find(|(number, _)| *number == vdev);
            let (_, contents) = found.ok_or_else(|| Failure::other("there is no such disk"))?;
            self.used.set(self.used.get() + 9);
            Ok(Rc::new(Array {
                vdev,
                contents: contents.clone(),
                discard: self.discard,
                wishes: wishes.clone(),
                grows_to: self.grows_to,
                sectors: Cell::new(contents.sectors()),
                reads: Cell::new(0),
                closed: Cell::new(false),
                change: EventCounter::new(),
                used: self.used.clone(),
                domain: self.domain.clone(),
            }) as Rc<dyn Device>)
        })
    }
    fn keys(&self, _: u32) -> Boxed<'_, Result<Vec<(String, String)>, Failure>> {
        Box::pin(async { Ok(vec![("sectors".to_string(), "1".to_string())]) })
    }
    fn raw<'a>(&'a self, _: u32, _: &'a [(&'a str, &'a str)]) -> Boxed<'a, Result<Box<dyn Raw>, Failure>> {
        Box::pin(async {
            let says = self.answers.ok_or_else(|| Failure::other("an array has no ring"))?;
            Ok(Box::new(Parrot { says, unanswered: 0 }) as Box<dyn Raw>)
        })
    }
    fn publish<'a>(&'a self, key: &'a str, value: &'a str) -> Boxed<'a, ()> {
        self.published.borrow_mut().push((key.into(), value.into()));
        Box::pin(async {})
    }
}

pub const XVDA: u32 = 51712;

/// What a run came to: the verdict, the text, and what was published.
pub struct Ran {
    pub verdict: Verdict,
    pub text: String,
    pub published: Vec<(String, String)>,
}

/// Runs the plan of `line` on an array.
pub fn on_array(line: &str, contents: Rc<Contents>, change: impl FnOnce(&mut Arrays)) -> Ran {
    let mut sim = Sim::new();
    let mut site = Arrays {
        domain: sim.domain(1),
        disks: vec![(XVDA, contents)],
        discard: true,
        text: Rc::default(),
        published: Rc::default(),
        grows_to: None,
        used: Rc::default(),
        answers: None,
    };
    change(&mut site);
    let (text, published) = (site.text.clone(), site.published.clone());
    let plan = plan(line);
    let verdict = sim.run(async move { run(&site, &plan).await });
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
