//! Power cuts: lost durable data is found, on good disks and on disks that lie.

mod common;

use common::{Ran, XVDA, on_backend};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use xen_blk::back::storage::{Error, Info};
use xen_blk::back::{Config, Storage};
use xen_exercise::SECTOR;
use xen_platform::sleep;
use xen_sim::Domain;

/// Defect of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lie {
    /// Nothing.
    None,
    /// A flush is answered, and nothing is done.
    FlushesNothing,
    /// A flush takes the first half of the cache.
    FlushesHalf,
    /// Data written during a flush is forgotten as if it were flushed.
    ForgetsWhatCame,
    /// A sector that is not flushed may be there in its first half.
    TearsSectors,
    /// A sector that is not flushed may be one sector further.
    MisplacesSectors,
}

/// A disk with a cache that is lost when the power goes, in parts chosen by chance.
struct Platter {
    lie: Lie,
    sector_size: u32,
    safe: RefCell<Vec<u8>>,
    /// Data that is not flushed, in the disk's own sectors.
    cache: RefCell<BTreeMap<usize, Vec<u8>>>,
    /// Writes until the power goes; requests that were put together are one.
    left: Cell<u32>,
    dice: Cell<u64>,
}

impl Platter {
    fn new(sector_size: u32, lie: Lie, writes: u32) -> Rc<Platter> {
        let safe = RefCell::new(vec![0; 1024 * SECTOR]);
        let (cache, left, dice) =
            (RefCell::default(), Cell::new(writes), Cell::new(u64::from(writes) + 1));
        Rc::new(Platter { lie, sector_size, safe, cache, left, dice })
    }

    /// One chance in two.
    fn toss(&self) -> bool {
        self.dice.set(
            self.dice.get().wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f),
        );
        self.dice.get() >> 63 == 1
    }

    /// Brings a sector down.
    fn put(&self, at: usize, bytes: &[u8]) {
        let end = (at + bytes.len()).min(1024 * SECTOR);
        self.safe.borrow_mut()[at..end].copy_from_slice(&bytes[..end - at]);
    }

    fn cut(&self) {
        for (at, bytes) in self.cache.take() {
            match self.lie {
                _ if self.toss() => {}
                Lie::TearsSectors => self.put(at, &bytes[..bytes.len() / 2]),
                Lie::MisplacesSectors => self.put(at + bytes.len(), &bytes),
                _ => self.put(at, &bytes),
            }
        }
    }
}

/// The disk while it has power.
struct Powered {
    disk: Rc<Platter>,
    clock: Domain,
    cut: Cell<bool>,
}

impl Powered {
    async fn takes(&self, micros: u64) -> Result<(), Error> {
        sleep(&self.clock, Duration::from_micros(micros)).await;
        if self.cut.get() { Err(Error::Failed) } else { Ok(()) }
    }
}

impl Storage for Powered {
    fn info(&self) -> Info {
        Info {
            sector_size: self.disk.sector_size,
            physical_sector_size: self.disk.sector_size,
            ..Info::new(1024)
        }
    }

    async fn read(&self, sector: u64, to: &mut [u8]) -> Result<(), Error> {
        self.takes(20).await?;
        let at = sector as usize * SECTOR;
        to.copy_from_slice(&self.disk.safe.borrow()[at..at + to.len()]);
        Ok(())
    }

    async fn write(&self, sector: u64, from: &[u8]) -> Result<(), Error> {
        self.takes(20).await?;
        let size = self.disk.sector_size as usize;
        let places = (sector as usize * SECTOR..).step_by(size);
        self.disk.cache.borrow_mut().extend(places.zip(from.chunks(size).map(<[u8]>::to_vec)));
        self.disk.left.set(self.disk.left.get() - 1);
        if self.disk.left.get() == 0 {
            self.cut.set(true);
            self.disk.cut();
        }
        self.takes(1).await
    }

    async fn flush(&self) -> Result<(), Error> {
        let disk = &self.disk;
        let mut flushed = disk.cache.borrow().clone();
        self.takes(100).await?;
        match disk.lie {
            Lie::FlushesNothing => return Ok(()),
            Lie::FlushesHalf => flushed = flushed.into_iter().step_by(2).collect(),
            _ => {}
        }
        for (at, bytes) in &flushed {
            disk.put(*at, bytes);
        }
        match disk.lie {
            Lie::ForgetsWhatCame => disk.cache.borrow_mut().clear(),
            // What was written once more meanwhile stays.
            _ => disk.cache.borrow_mut().retain(|at, bytes| flushed.get(at) != Some(bytes)),
        }
        Ok(())
    }

    async fn discard(&self, _: u64, _: u64, _: bool) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
}

fn run(disk: &Rc<Platter>, line: &str) -> Ran {
    let line = format!("{line} blk.seed=5 blk.loops=100 blk.size=512K");
    on_backend(&line, &Config::default(), |clock| {
        vec![(XVDA, Powered { disk: disk.clone(), clock: clock.clone(), cut: Cell::new(false) })]
    })
}

/// Writes until the power is cut, and looks what is there: the number of durable rounds, and the
/// second run.
fn cut(test: &str, disk: &Rc<Platter>) -> (u64, Ran) {
    let ran = run(disk, &format!("blk.run={test} blk.destroy=xvda"));
    assert_eq!(ran.verdict.passed, 1, "{}", ran.text);
    let durable =
        ran.published.iter().find(|(key, _)| key == "xvda/durable").unwrap().1.parse().unwrap();
    assert!(ran.text.contains(&format!("blk.durable={durable}; ")), "{}", ran.text);
    disk.left.set(u32::MAX);
    (durable, run(disk, &format!("blk.run={test}-check blk.durable={durable}")))
}

#[test]
fn durable_data_of_good_disk_survives() {
    for test in ["durable", "ordered"] {
        for (sector_size, writes) in
            [(512, 20), (512, 33), (512, 99), (512, 150), (4096, 45), (4096, 120)]
        {
            let disk = Platter::new(sector_size, Lie::None, writes);
            let (durable, checked) = cut(test, &disk);
            assert_eq!(checked.verdict.passed, 1, "{test}, {writes}: {}", checked.text);
            assert!(durable > 0 && durable < 100, "the power was to go: {durable}");
        }
    }
}

#[test]
fn lying_disk_is_found() {
    use Lie::*;
    for test in ["durable", "ordered"] {
        for (lie, says) in [
            (FlushesNothing, "was durable in round"),
            (FlushesHalf, "was durable in round"),
            (ForgetsWhatCame, "was durable in round"),
            (TearsSectors, "is torn or damaged"),
            (MisplacesSectors, "is misplaced"),
        ] {
            // No write comes in while a barrier is carried out.
            if (test, lie) == ("ordered", ForgetsWhatCame) {
                continue;
            }
            let disk = Platter::new(512, lie, 99);
            let (_, checked) = cut(test, &disk);
            assert_eq!(checked.verdict.failed, 1, "{test} does not find {lie:?}: {}", checked.text);
            assert!(checked.text.contains(says), "{test}, {lie:?}: {}", checked.text);
            // Even if nobody says what was durable: what is there tells what had to be there before
            // it.
            let unsaid = run(&disk, &format!("blk.run={test}-check"));
            assert_eq!(
                unsaid.verdict.failed, 1,
                "{test} does not find {lie:?} by itself: {}",
                unsaid.text
            );
        }
    }
}
