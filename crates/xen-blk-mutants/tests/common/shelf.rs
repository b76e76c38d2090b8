//! A disk that is a part of a larger medium, takes a while for everything, and loses what was not
//! flushed when its power is cut.

use std::cell::{Cell, RefCell};
use std::time::Duration;
use xen_blk_mutants::back::Storage;
use xen_blk_mutants::back::storage::{Error, Info, Pages};
use xen_platform::{EventCounter, sleep};
use xen_sim::Domain;

const SECTOR: usize = 512;

pub struct Shelf {
    info: Cell<Info>,
    /// Number of sectors that it has after a while.
    new_size: Option<u64>,
    /// As it is read.
    bytes: RefCell<Vec<u8>>,
    /// As the power leaves it.
    safe: RefCell<Vec<u8>>,
    /// Writes until the power goes.
    left: Cell<u32>,
    cut: Cell<bool>,
    dice: Cell<u64>,
    grown: EventCounter,
}

impl Shelf {
    pub fn new(info: Info, new_size: Option<u64>) -> Shelf {
        // What lies behind the disk is somebody else's.
        let bytes = vec![0x3c; (info.sectors as usize + 8192) * SECTOR];
        Shelf {
            info: Cell::new(info),
            new_size,
            safe: RefCell::new(bytes.clone()),
            bytes: RefCell::new(bytes),
            left: Cell::new(u32::MAX),
            cut: Cell::new(false),
            dice: Cell::new(7),
            grown: EventCounter::new(),
        }
    }

    pub fn cut_after(&self, writes: u32) {
        self.left.set(writes);
    }

    /// The power is back.
    pub fn restore(&self) {
        self.left.set(u32::MAX);
        self.cut.set(false);
    }

    fn roll(&self, end: u64) -> u64 {
        self.dice
            .set(self.dice.get().wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e));
        (self.dice.get() >> 33) % end
    }

    /// The place of a sector. Backends pass on what they should have refused.
    fn place(&self, sector: u64) -> usize {
        (sector % (self.bytes.borrow().len() / SECTOR / 2) as u64) as usize * SECTOR
    }

    fn get(&self, sector: u64, to: &mut [u8]) {
        let at = self.place(sector);
        let len = to.len().min(self.bytes.borrow().len() - at);
        to[..len].copy_from_slice(&self.bytes.borrow()[at..at + len]);
    }

    fn put(&self, sector: u64, from: &[u8]) {
        let at = self.place(sector);
        let len = from.len().min(self.bytes.borrow().len() - at);
        self.bytes.borrow_mut()[at..at + len].copy_from_slice(&from[..len]);
        self.left.set(self.left.get() - 1);
        if self.left.get() == 0 {
            self.cut.set(true);
            for at in (0..self.bytes.borrow().len()).step_by(SECTOR) {
                if self.roll(2) == 0 {
                    let range = at..at + SECTOR;
                    self.safe.borrow_mut()[range.clone()]
                        .copy_from_slice(&self.bytes.borrow()[range]);
                }
            }
            self.bytes.replace(self.safe.borrow().clone());
        }
    }
}

/// The disk while a backend serves it.
pub struct Served<'a>(pub &'a Shelf, pub Domain);

impl Served<'_> {
    async fn takes_a_while(&self) -> Result<(), Error> {
        // Now and then it takes much longer.
        let micros = if self.0.roll(8) == 0 { 20_000 } else { 20 + self.0.roll(200) };
        sleep(&self.1, Duration::from_micros(micros)).await;
        if self.0.cut.get() { Err(Error::Failed) } else { Ok(()) }
    }
}

impl Storage for Served<'_> {
    fn info(&self) -> Info {
        self.0.info.get()
    }

    async fn read(&self, sector: u64, to: &mut [u8]) -> Result<(), Error> {
        self.takes_a_while().await?;
        self.0.get(sector, to);
        Ok(())
    }

    async fn write(&self, sector: u64, from: &[u8]) -> Result<(), Error> {
        self.takes_a_while().await?;
        self.0.put(sector, from);
        self.takes_a_while().await
    }

    fn read_now(&self, sector: u64, to: &mut dyn Pages) -> Option<Result<(), Error>> {
        if self.0.cut.get() || self.0.roll(2) == 0 {
            return None;
        }
        let mut bytes = vec![0; to.left()];
        self.0.get(sector, &mut bytes);
        to.put(&bytes);
        Some(Ok(()))
    }

    fn write_now(&self, sector: u64, from: &mut dyn Pages) -> Option<Result<(), Error>> {
        if self.0.cut.get() || self.0.roll(2) == 0 {
            return None;
        }
        let mut bytes = vec![0; from.left()];
        from.take(&mut bytes);
        self.0.put(sector, &bytes);
        Some(Ok(()))
    }

    async fn flush(&self) -> Result<(), Error> {
        let bytes = self.0.bytes.borrow().clone();
        self.takes_a_while().await?;
        self.0.safe.replace(bytes);
        Ok(())
    }

    async fn discard(&self, sector: u64, count: u64, secure: bool) -> Result<(), Error> {
        self.takes_a_while().await?;
        // A plain discard is a hint, which it takes now and then.
        if secure || (sector / 8).is_multiple_of(2) {
            self.0.put(sector, &vec![0; (count * SECTOR as u64).min(1 << 21) as usize]);
        }
        Ok(())
    }

    async fn changed(&self) {
        let info = self.0.info.get();
        let Some(sectors) = self.0.new_size.filter(|sectors| *sectors != info.sectors) else {
            return std::future::pending().await;
        };
        sleep(&self.1, Duration::from_secs(3)).await;
        self.0.info.set(Info { sectors, ..info });
        self.0.grown.signal();
    }
}
