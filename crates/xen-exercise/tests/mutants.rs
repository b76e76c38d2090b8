//! Backends with one known bug each (docs/block-bugs.md): the test that the catalogue names must
//! find it, and must pass without it.

mod common;

use common::mutant::{Bug, Mutant};
use common::{Ran, XVDA};
use std::cell::RefCell;
use xen_blk::back::storage::{Error, Info};
use xen_blk::back::{Config, Ram, Storage};
use xen_blk::protocol::{DiscardInfo, Units};

const LINE: &str = "blk.destroy=xvda blk.hostile=yes blk.size=256K blk.seed=3 blk.loops=4";

/// A bug of a storage, or of the part of a backend that calls it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// A discard takes the whole units that it touches.
    DiscardsAlignedUp,
    /// Flushes are offered and not known.
    FlushUnknown,
    /// Discards are offered and not known.
    DiscardUnknown,
    /// Writes that failed in part are reported as done.
    PartialWrites,
    /// Writes are reported as failed though they are done.
    DoneAndFailed,
    /// Reads beyond the first half show zeros.
    ZerosBeyond,
    /// The upper bits of a sector's number are lost.
    CutNumbers,
}

struct Faulty {
    ram: Ram,
    fault: Option<Fault>,
    writes: RefCell<u32>,
}

impl Faulty {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn place(&self, sector: u64) -> u64 {
        if self.has(Fault::CutNumbers) { sector % 2048 } else { sector }
    }
}

impl Storage for Faulty {
    fn info(&self) -> Info {
        self.ram.info()
    }
    async fn read(&self, sector: u64, to: &mut [u8]) -> Result<(), Error> {
        self.ram.read(self.place(sector), to).await?;
        if self.has(Fault::ZerosBeyond) && sector >= 2048 {
            to.fill(0);
        }
        Ok(())
    }
    async fn write(&self, sector: u64, from: &[u8]) -> Result<(), Error> {
        let number = self.writes.replace_with(|count| *count + 1);
        let third = number % 3 == 2;
        let len = match self.has(Fault::PartialWrites) && third {
            true => from.len() / 1024 * 512,
            false => from.len(),
        };
        self.ram.write(self.place(sector), &from[..len]).await?;
        match self.has(Fault::DoneAndFailed) && third {
            true => Err(Error::Failed),
            false => Ok(()),
        }
    }
    async fn flush(&self) -> Result<(), Error> {
        match self.has(Fault::FlushUnknown) {
            true => Err(Error::Unsupported),
            false => Ok(()),
        }
    }
    async fn discard(&self, sector: u64, count: u64, secure: bool) -> Result<(), Error> {
        match self.fault {
            Some(Fault::DiscardUnknown) => Err(Error::Unsupported),
            Some(Fault::DiscardsAlignedUp) => {
                let first = sector / 8 * 8;
                let end = (sector + count).next_multiple_of(8).min(self.ram.info().sectors);
                self.ram.discard(first, end - first, secure).await
            }
            _ => self.ram.discard(sector, count, secure).await,
        }
    }
}

fn run(test: &str, bug: Option<Bug>, fault: Option<Fault>) -> Ran {
    // Without persistent grants, so that all data goes through copies.
    let config = Config::default().with(|config| {
        config.indirect_segments = 256;
        config.persistent = 0;
    });
    let discard = Some(DiscardInfo { granularity: 512, alignment: 0, secure: true });
    let line = format!("blk.run={test} {LINE}");
    common::on_platform(
        &line,
        &config,
        |domain| Mutant::new(domain, bug),
        |_| {
            let ram = Ram::new(Info { discard, ..Info::new(4096) });
            vec![(XVDA, Faulty { ram, fault, writes: RefCell::default() })]
        },
    )
}

/// The tests that find each bug, as docs/block-bugs.md names them.
const BUGS: [(Bug, &str); 15] = [
    (Bug::PaddingLeak, "hostile"),
    (Bug::SlotLeak, "hostile"),
    (Bug::WrongId, "segments"),
    (Bug::WrongOperation, "segments"),
    (Bug::ErrorsAsSuccess, "hostile"),
    (Bug::SuccessAsErrors, "segments"),
    (Bug::UnknownStatus, "hostile"),
    (Bug::StatusInOneByte, "hostile"),
    (Bug::IndexAhead, "rand"),
    (Bug::LosesGrantErrors, "hostile"),
    (Bug::IgnoresFirstSector, "segments"),
    (Bug::CopiesBeside, "segments"),
    (Bug::DropsLastSegment, "seq"),
    (Bug::FillsWholePages, "segments"),
    (Bug::ReusesGrant, "seq"),
];

const FAULTS: [(Fault, &str); 7] = [
    (Fault::DiscardsAlignedUp, "discard"),
    (Fault::FlushUnknown, "report"),
    (Fault::DiscardUnknown, "report"),
    (Fault::PartialWrites, "rand"),
    (Fault::DoneAndFailed, "rand"),
    (Fault::ZerosBeyond, "rand"),
    (Fault::CutNumbers, "verify"),
];

#[test]
fn backend_without_a_bug_passes_the_tests() {
    for test in ["report", "seq", "rand", "segments", "discard", "hostile"] {
        let ran = run(test, None, None);
        assert_eq!((ran.verdict.passed, ran.verdict.failed), (1, 0), "{test}: {}", ran.text);
    }
}

#[test]
fn bug_between_backend_and_ring_is_found() {
    let missed =
        BUGS.into_iter().filter(|&(bug, test)| run(test, Some(bug), None).verdict.failed == 0);
    assert_eq!(missed.collect::<Vec<_>>(), []);
}

#[test]
fn bug_between_backend_and_storage_is_found() {
    let missed = FAULTS.into_iter().filter(|&(fault, test)| {
        let test = if test == "verify" { "write,verify" } else { test };
        run(test, None, Some(fault)).verdict.failed == 0
    });
    assert_eq!(missed.collect::<Vec<_>>(), []);
}

#[test]
fn units_of_another_convention_are_found() {
    for (name, units) in Units::NAMED.into_iter().filter(|(name, _)| *name != "header") {
        let config = Config::default().with(|config| config.units = units);
        let line = format!("blk.run=segments,boundary {LINE}");
        let ran = common::on_backend(&line, &config, |_| {
            let info = Info { sector_size: 4096, ..Info::new(4096) };
            vec![(XVDA, Ram::new(info))]
        });
        assert!(ran.verdict.failed > 0, "{name}: {}", ran.text);
    }
}
