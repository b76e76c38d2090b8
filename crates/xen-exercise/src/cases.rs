//! The tests.

mod bench;
mod boundary;
mod data;
mod discard;
mod durable;
mod faults;
mod features;
mod hostile;
mod lifecycle;
mod limits;
#[cfg(feature = "mix")]
mod mix;
mod order;
mod report;
mod requests;
mod resize;
mod shapes;
mod sum;
mod units;

use crate::area::{Area, Ledger, Span};
use crate::environment::{Device, Direction, Environment, Error, ErrorKind, Io};
use crate::log::Log;
use crate::plan::Plan;
use crate::random::Random;
use crate::stamp::{SECTOR, Stamps};
use crate::tasks::{Boxed, try_join_all};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;
use durable::Mark;
use xen_blk::front::{Config, Info};

/// Permission that a test needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// Nothing: it only reads, unless the disk may be overwritten.
    Nothing,
    /// The disk to be named by `blk.destroy=`.
    Destroy,
    /// That, and `blk.hostile=yes`.
    Hostile,
}

/// A test.
#[derive(PartialEq, Eq, Debug)]
pub struct Case {
    /// Its name in `blk.run=`.
    pub name: &'static str,
    /// Description in a few words.
    pub about: &'static str,
    /// Permission that it needs.
    pub needs: Needs,
    /// `all` includes it.
    pub in_all: bool,
}

const fn case(name: &'static str, about: &'static str, needs: Needs, in_all: bool) -> Case {
    Case { name, about, needs, in_all }
}

/// All tests, in the order in which `all` runs them.
pub static CASES: &[Case] = &[
    case("report", "what the backend offers", Needs::Nothing, true),
    case("seq", "in order, in pieces of 1 MiB", Needs::Nothing, true),
    case("rand", "at random places, in random sizes, many at a time", Needs::Nothing, true),
    case("write", "writes stamps for verify", Needs::Destroy, false),
    case("verify", "the stamps are there", Needs::Nothing, false),
    case("sum", "every sector has the checksum that is known", Needs::Nothing, false),
    case("boundary", "first and last sectors, segments of every shape", Needs::Nothing, true),
    case("segments", "segments of every shape, as they lie on the ring", Needs::Nothing, true),
    case("flush", "what was flushed is there after the connection", Needs::Destroy, true),
    case("barrier", "nothing passes a barrier", Needs::Destroy, true),
    case(
        "durable",
        "writes and flushes until the power is cut, for durable-check",
        Needs::Destroy,
        false,
    ),
    case("durable-check", "what was flushed survived", Needs::Nothing, false),
    case(
        "ordered",
        "writes with barriers until the power is cut, for ordered-check",
        Needs::Destroy,
        false,
    ),
    case("ordered-check", "what lies before a barrier survived", Needs::Nothing, false),
    case(
        "faults",
        "requests that fail are said to, and the others are done",
        Needs::Destroy,
        false,
    ),
    case("discard", "only what was discarded changes", Needs::Destroy, true),
    case("features", "every combination of features", Needs::Nothing, true),
    case("features-all", "all of them, not a part", Needs::Nothing, false),
    case("lifecycle", "connecting and closing leaves nothing behind", Needs::Nothing, true),
    case("resize", "waits until the size changes, and works with it", Needs::Nothing, false),
    case("bench", "how quick it is", Needs::Nothing, true),
    case("bench-all", "with many sizes and depths", Needs::Nothing, false),
    #[cfg(feature = "mix")]
    case("mix", "a workload on all disks at once is right", Needs::Nothing, false),
    case("hostile", "what the protocol forbids is refused", Needs::Hostile, false),
];

/// Context of a running test.
pub struct Context<'a> {
    /// The environment.
    pub env: &'a dyn Environment,
    /// The plan.
    pub plan: &'a Plan,
    /// The disk's name.
    pub name: &'a str,
    /// The disk's number.
    pub vdev: u32,
    /// The disk may be overwritten.
    pub destroy: bool,
    /// The checks.
    pub log: RefCell<Log<'a>>,
    /// Random numbers of the plan's seed.
    pub random: Random,
    /// Stamps of the plan's seed.
    pub stamps: Stamps,
    /// Generations of this test begin behind this one, so that stamps of an earlier run are not
    /// taken for its own.
    pub generation: u64,
    /// The disk, while it is connected as usual.
    pub device: Option<Rc<dyn Device>>,
}

/// Outcome of a test: a few words, or the error that ended it.
pub type Outcome = Result<String, Error>;

impl<'a> Context<'a> {
    /// Runs the test.
    pub fn run<'b>(&'b mut self, case: &Case) -> Boxed<'b, Outcome> {
        match case.name {
            "report" => Box::pin(report::report(self)),
            "seq" => Box::pin(data::seq(self)),
            "rand" => Box::pin(data::rand(self)),
            "write" => Box::pin(data::write(self)),
            "verify" => Box::pin(data::verify(self)),
            "sum" => Box::pin(sum::sum(self)),
            "boundary" => Box::pin(boundary::boundary(self)),
            "segments" => Box::pin(shapes::shapes(self)),
            "flush" => Box::pin(order::flush(self)),
            "barrier" => Box::pin(order::barrier(self)),
            "durable" => Box::pin(durable::write(self, Mark::Flush)),
            "durable-check" => Box::pin(durable::check(self, Mark::Flush)),
            "ordered" => Box::pin(durable::write(self, Mark::Barrier)),
            "ordered-check" => Box::pin(durable::check(self, Mark::Barrier)),
            "faults" => Box::pin(faults::faults(self)),
            "discard" => Box::pin(discard::discard(self)),
            "features" => Box::pin(features::features(self)),
            "features-all" => Box::pin(features::all(self)),
            "lifecycle" => Box::pin(lifecycle::lifecycle(self)),
            #[cfg(feature = "mix")]
            "mix" => Box::pin(mix::mix(self)),
            "resize" => Box::pin(resize::resize(self)),
            "bench-all" => Box::pin(bench::all(self)),
            "hostile" => Box::pin(hostile::hostile(self)),
            "bench" => Box::pin(bench::bench(self)),
            other => unreachable!("no test {other}"),
        }
    }

    /// Returns the disk, connected with every feature.
    pub async fn device(&mut self) -> Result<Rc<dyn Device>, Error> {
        match &self.device {
            Some(device) => Ok(device.clone()),
            None => self.connect(&Config::default()).await,
        }
    }

    /// Connects the disk, which is not connected, with that configuration.
    pub async fn connect(&mut self, config: &Config) -> Result<Rc<dyn Device>, Error> {
        let device = self.env.attach(self.vdev, config).await?;
        self.device = Some(device.clone());
        Ok(device)
    }

    /// Closes the disk, for tests that connect in their own way.
    pub fn close(&mut self) -> Boxed<'_, Result<(), Error>> {
        Box::pin(async {
            match self.device.take() {
                Some(device) => device.close().await,
                None => Ok(()),
            }
        })
    }

    /// Chooses the part of the disk to work on.
    pub fn area(&self, device: &dyn Device) -> Result<Area, Error> {
        self.area_of(&device.info(), self.plan.size)
    }

    /// Chooses a part of `bytes` bytes.
    fn area_of(&self, info: &Info, bytes: u64) -> Result<Area, Error> {
        let (sectors, unit) = (info.sectors, u64::from(info.sector_size) / SECTOR as u64);
        let Some(first) = self.plan.first else { return Ok(Area::new(sectors, unit, bytes)) };
        let found = Area::from(first, sectors, unit, bytes);
        found.ok_or_else(|| {
            Error::other(format!(
                "blk.first={first}: no sector of a disk of {sectors} begins there"
            ))
        })
    }

    /// Checks that no request had to wait for the driver to look again without an event.
    pub fn check_events(&self, device: &dyn Device) {
        let slowest = device.slowest();
        self.check(
            slowest < STALL,
            format_args!(
                "a request took {} ms: its event was lost, or the disk is that slow",
                slowest.as_millis() as u64
            ),
        );
    }

    /// Counts a check, and a failure if it is not `ok`.
    pub fn check(&self, ok: bool, what: core::fmt::Arguments<'_>) -> bool {
        self.log.borrow_mut().check(ok, what)
    }

    /// Counts a check of something that has to succeed.
    pub fn works<T>(&self, result: Result<T, Error>, what: core::fmt::Arguments<'_>) -> Option<T> {
        self.log.borrow_mut().works(result, what)
    }

    /// Prints a remark.
    pub fn note(&self, what: core::fmt::Arguments<'_>) {
        self.log.borrow().note(what);
    }

    /// Writes stamps of a generation of this test, and notes them in the ledger.
    fn write<'b>(
        &'b self,
        disk: &'b dyn Device,
        pieces: &'b [Span],
        generation: u32,
        ledger: &'b Ledger<'_>,
    ) -> Boxed<'b, Result<(), Error>> {
        let fill = move |span: Span, bytes: &mut [u8]| {
            self.fill(span, generation, bytes);
            ledger.set(span, generation);
        };
        Box::pin(async move { stream(disk, pieces, Direction::Write, &fill).await })
    }

    /// Reads, and checks that the stamps are those that the ledger says.
    fn read<'b>(
        &'b self,
        disk: &'b dyn Device,
        pieces: &'b [Span],
        ledger: &'b Ledger<'_>,
    ) -> Boxed<'b, Result<(), Error>> {
        let look = move |span: Span, bytes: &mut [u8]| self.check_stamps(span, bytes, ledger);
        Box::pin(async move { stream(disk, pieces, Direction::Read, &look).await })
    }

    /// Fills sectors with stamps of a generation of this test.
    fn fill(&self, span: Span, generation: u32, to: &mut [u8]) {
        self.stamps.fill(span.first, self.generation + u64::from(generation), to);
    }

    /// Checks that sectors have the stamps of the generations that the ledger says; those of
    /// generation 0 may be anything.
    fn check_stamps(&self, span: Span, got: &[u8], ledger: &Ledger<'_>) {
        for (number, sector) in (span.first..).zip(got.as_chunks::<SECTOR>().0) {
            let wanted = ledger.get(number);
            if wanted != 0 {
                let checked =
                    self.stamps.check(number, self.generation + u64::from(wanted), sector);
                self.judge(number, self.generation + u64::from(wanted), checked);
            }
        }
    }

    fn judge(&self, number: u64, generation: u64, checked: Result<(), crate::stamp::Flaw>) {
        match checked {
            Ok(()) => self.check(true, format_args!("")),
            Err(flaw) => self
                .check(false, format_args!("sector {number}, of generation {generation}, {flaw}")),
        };
    }
}

/// Returns the value of a key, or 0.
fn number(keys: &[(String, String)], name: &str) -> u16 {
    let found = keys.iter().find(|(key, _)| key == name);
    found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

/// Tells if a request failed with that kind of error.
fn failed_as(result: &Result<(), Error>, kind: ErrorKind) -> bool {
    result.as_ref().is_err_and(|why| why.kind() == kind)
}

/// Time that a request takes if its event is lost: the driver looks again four times within a
/// request's timeout.
const STALL: Duration = Duration::from_secs(7);
/// Number of bytes of all requests in flight together.
const BUFFERS: usize = 1 << 20;
/// Largest number of requests in flight.
const DEPTH: usize = 16;

/// Moves all `pieces`, several at a time: `work` fills a piece before it is written, or sees it
/// after it was read.
pub fn stream<'a>(
    disk: &'a dyn Device,
    pieces: &'a [Span],
    direction: Direction,
    work: &'a dyn Fn(Span, &mut [u8]),
) -> Boxed<'a, Result<(), Error>> {
    Box::pin(async move {
        let most = pieces.iter().map(|piece| piece.count as usize * SECTOR).max().unwrap_or(0);
        let next = Cell::new(0);
        let worker = || async {
            let mut buffer = vec![0; most];
            while let Some(piece) = pieces.get(next.replace(next.get() + 1)) {
                let bytes = &mut buffer[..piece.count as usize * SECTOR];
                match direction {
                    Direction::Read => {
                        disk.io(Io::Read(piece.first, bytes)).await?;
                        work(*piece, bytes);
                    }
                    Direction::Write => {
                        work(*piece, bytes);
                        disk.io(Io::Write(piece.first, bytes)).await?;
                    }
                }
            }
            Ok(())
        };
        let depth = (BUFFERS / most.max(1)).clamp(1, DEPTH);
        let workers: Vec<_> = (0..depth).map(|_| Box::pin(worker()) as Boxed<'_, _>).collect();
        try_join_all(workers).await
    })
}
