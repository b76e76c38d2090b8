//! An environment whose disks are plain arrays, without a protocol between.

use super::{Contents, Defect};
use std::cell::{Cell, RefCell};
use std::fmt::Arguments;
use std::rc::Rc;
use std::time::Duration;
use xen_blk::front::{Config, Info, Stats};
use xen_blk::protocol::wire::{Abi, Response};
use xen_blk::protocol::{DiscardInfo, Units};
use xen_exercise::{
    Boxed, Device, Direction, Environment, Error, ErrorKind, Io, Page, Pages, Raw, Rings, SECTOR,
    Usage,
};
use xen_platform::{Clock, DomId, EventCounter, Time, sleep};
use xen_sim::Domain;

/// A backend that gives the same answer to everything, or none.
struct Parrot {
    says: Option<i16>,
    unanswered: u32,
    id: std::cell::Cell<u64>,
    last: Response,
}

impl Raw for Parrot {
    fn select(&mut self, _: usize) {}
    fn send(&mut self, request: &[u8]) {
        self.unanswered += 1;
        self.last.id = u64::from_le_bytes(request[8..16].try_into().unwrap());
        self.last.operation = request[0];
    }
    fn send_all(&mut self, requests: &[Vec<u8>]) {
        requests.iter().for_each(|request| self.send(request));
    }
    fn rewrite(&mut self, _: usize, _: &[u8]) {}
    fn wait_for(&mut self, _: u32, _: Duration) -> Boxed<'_, ()> {
        Box::pin(async {})
    }
    fn lost_events(&self) -> u32 {
        0
    }
    fn responses(&self) -> u32 {
        0
    }
    fn renew(&mut self) -> Result<(), Error> {
        Ok(())
    }
    fn next_id(&self) -> u64 {
        self.id.set(self.id.get() + 1);
        self.id.get()
    }
    fn stray_bytes(&self) -> u32 {
        0
    }
    fn move_index(&self, _: u32) {}
    fn notify(&self) {}
    fn response(&mut self, _: Duration) -> Boxed<'_, Option<Response>> {
        let status = self.says.filter(|_| self.unanswered > 0);
        self.unanswered -= u32::from(status.is_some());
        let last = self.last;
        Box::pin(async move { status.map(|status| Response { status, ..last }) })
    }
    fn gref(&self, _: Page) -> u32 {
        8
    }
    fn write(&self, _: usize, _: usize, _: &[u8]) {}
    fn read(&self, _: usize, _: usize, to: &mut [u8]) {
        to.fill(0xc5);
    }
    fn state<'a>(&'a self, _: &'a str) -> Boxed<'a, ()> {
        Box::pin(async {})
    }
    fn close(self: Box<Self>) -> Boxed<'static, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}

/// An environment whose disks are plain arrays.
pub struct Arrays {
    pub domain: Domain,
    pub disks: Vec<(u32, Rc<Contents>)>,
    pub discard: bool,
    pub text: Rc<RefCell<String>>,
    pub published: Rc<RefCell<Vec<(String, String)>>>,
    /// Disks grow to this many sectors after some reads.
    pub grows_to: Option<u64>,
    pub used: Rc<Cell<u32>>,
    /// All reads and writes fail.
    pub broken: bool,
    /// The status of all responses of these disks' rings, if they have rings.
    pub answers: Option<Option<i16>>,
}

struct Array {
    vdev: u32,
    contents: Rc<Contents>,
    discard: bool,
    config: Config,
    grows_to: Option<u64>,
    sectors: Cell<u64>,
    reads: Cell<u32>,
    closed: Cell<bool>,
    broken: bool,
    change: EventCounter,
    used: Rc<Cell<u32>>,
    domain: Domain,
}

impl Array {
    fn fail(&self, kind: ErrorKind) -> Result<(), Error> {
        Err(Error::new(kind, format!("{kind:?}")))
    }

    async fn carry_out(&self, io: Io<'_>) -> Result<(), Error> {
        sleep(&self.domain, Duration::from_micros(10)).await;
        if self.closed.get() {
            return self.fail(ErrorKind::Gone);
        }
        if self.broken {
            return self.fail(ErrorKind::Failed);
        }
        let range = match &io {
            Io::Read(sector, to) => (*sector, (to.len() / SECTOR) as u64),
            Io::Write(sector, from) | Io::Barrier(sector, from) => {
                (*sector, (from.len() / SECTOR) as u64)
            }
            Io::Flush => (0, 0),
            Io::Discard { sector, count, .. } => (*sector, *count),
        };
        let discards = matches!(io, Io::Discard { .. });
        if discards && !self.discard && self.contents.defect != Some(Defect::DiscardsUnasked) {
            return self.fail(ErrorKind::Unsupported);
        }
        if range.0.checked_add(range.1).is_none_or(|end| end > self.sectors.get()) {
            let lies = discards && self.contents.defect == Some(Defect::DiscardsBeyond);
            return if lies { Ok(()) } else { self.fail(ErrorKind::OutOfRange) };
        }
        match io {
            Io::Read(sector, to) => {
                self.reads.set(self.reads.get() + 1);
                if let Some(sectors) = self.grows_to.filter(|_| self.reads.get() == 5) {
                    self.contents.grow(sectors);
                    self.sectors.set(sectors);
                    self.change.signal();
                }
                let new = self.contents.defect == Some(Defect::GrowsOnPaper)
                    && sector + 1 == self.sectors.get();
                if new || !self.contents.read(sector, to) {
                    return self.fail(ErrorKind::Failed);
                }
            }
            Io::Write(..) | Io::Barrier(..) if self.contents.read_only => {
                return self.fail(ErrorKind::ReadOnly);
            }
            Io::Write(sector, from) if self.contents.fails_to_write(sector, from) => {
                return self.fail(ErrorKind::Failed);
            }
            Io::Write(sector, from) => self.contents.write(sector, from, false),
            Io::Barrier(sector, from) => self.contents.write(sector, from, true),
            Io::Flush => self.contents.flush(),
            Io::Discard { sector, count, .. } => self.contents.discard(sector, count),
        }
        Ok(())
    }
}

/// Memory beside an array.
struct Plain<'a>(&'a Array, RefCell<Vec<u8>>);

impl Pages for Plain<'_> {
    fn io(&self, direction: Direction, sector: u64) -> Boxed<'_, Result<(), Error>> {
        Box::pin(async move {
            let mut bytes = self.1.take();
            let done = match direction {
                Direction::Read => self.0.carry_out(Io::Read(sector, &mut bytes)).await,
                Direction::Write => self.0.carry_out(Io::Write(sector, &bytes)).await,
            };
            self.1.replace(bytes);
            done
        })
    }
}

impl Device for Array {
    fn info(&self) -> Box<Info> {
        Box::new(Info {
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
            discard: self.discard.then_some(DiscardInfo {
                granularity: 4096,
                alignment: 0,
                secure: true,
            }),
            indirect_segments: self.config.indirect_segments,
            ring_pages: self.config.ring_pages,
            queues: self.config.queues,
            persistent: self.config.persistent,
            abi: Abi::X86_64,
            units: Units::HEADER,
            max_transfer: 1 << 20,
            notes: vec![],
        })
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn io<'a>(&'a self, io: Io<'a>) -> Boxed<'a, Result<(), Error>> {
        Box::pin(self.carry_out(io))
    }

    fn pages(&self, bytes: usize) -> Result<Box<dyn Pages + '_>, Error> {
        Ok(Box::new(Plain(self, RefCell::new(vec![0; bytes]))))
    }

    fn changed<'a>(&'a self, seen: &'a mut u32) -> Boxed<'a, ()> {
        Box::pin(std::future::poll_fn(|cx| self.change.poll_after(seen, cx)))
    }

    fn ended(&self) -> Boxed<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn close(&self) -> Boxed<'_, Result<(), Error>> {
        self.closed.set(true);
        self.contents.cut();
        let left = u32::from(self.contents.defect == Some(Defect::Leaks));
        self.used.set(self.used.get() - 9 + left);
        Box::pin(async { Ok(()) })
    }
}

impl Environment for Arrays {
    fn now(&self) -> Time {
        self.domain.now()
    }
    fn sleep(&self, time: Duration) -> Boxed<'_, ()> {
        Box::pin(sleep(&self.domain, time))
    }
    fn print(&self, text: Arguments<'_>) {
        self.text.borrow_mut().push_str(&text.to_string());
    }
    fn flushed(&self) -> Boxed<'_, ()> {
        Box::pin(async {})
    }
    fn usage(&self) -> Option<Usage> {
        Some(Usage { grants: self.used.get(), ..Usage::default() })
    }
    fn disks(&self) -> Boxed<'_, Vec<u32>> {
        Box::pin(async { self.disks.iter().map(|(vdev, _)| *vdev).collect() })
    }
    fn attach<'a>(
        &'a self,
        vdev: u32,
        config: &'a Config,
    ) -> Boxed<'a, Result<Rc<dyn Device>, Error>> {
        Box::pin(async move {
            let found = self.disks.iter().find(|(number, _)| *number == vdev);
            let (_, contents) = found.ok_or_else(|| Error::other("there is no such disk"))?;
            self.used.set(self.used.get() + 9);
            Ok(Rc::new(Array {
                vdev,
                contents: contents.clone(),
                discard: self.discard,
                config: config.clone(),
                grows_to: self.grows_to,
                sectors: Cell::new(contents.sectors()),
                reads: Cell::new(0),
                closed: Cell::new(false),
                broken: self.broken,
                change: EventCounter::new(),
                used: self.used.clone(),
                domain: self.domain.clone(),
            }) as Rc<dyn Device>)
        })
    }
    fn keys(&self, _: u32) -> Boxed<'_, Result<Vec<(String, String)>, Error>> {
        let keys = [
            ("sectors", "1"),
            ("max-ring-page-order", "4"),
            ("multi-queue-max-queues", "4"),
            ("feature-persistent", "1"),
        ];
        Box::pin(async move { Ok(keys.map(|(key, value)| (key.into(), value.into())).to_vec()) })
    }
    fn raw<'a>(
        &'a self,
        _: u32,
        _: Rings,
        _: &'a [(&'a str, &'a str)],
    ) -> Boxed<'a, Result<Box<dyn Raw>, Error>> {
        Box::pin(async {
            let says = self.answers.ok_or_else(|| Error::other("an array has no ring"))?;
            Ok(Box::new(Parrot {
                says,
                unanswered: 0,
                id: Cell::new(0),
                last: Response { id: 0, operation: 0, status: 0 },
            }) as Box<dyn Raw>)
        })
    }
    fn publish<'a>(&'a self, key: &'a str, value: &'a str) -> Boxed<'a, ()> {
        self.published.borrow_mut().push((key.into(), value.into()));
        Box::pin(async {})
    }
}
