//! `powercut`: a disk whose cache is lost when the power goes.

use super::{Dice, Layer, Request};
use crate::storage::{Info, Storage};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Keeps what is written in memory until it is flushed. Once the power is off that is gone, and
/// every request fails.
pub struct PowerCut {
    off: Arc<AtomicBool>,
    rule: Cut,
    state: RwLock<State>,
}

/// Moment at which the power goes, and the sectors that are left then.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Cut {
    /// Number of writes after which it goes with the next, if that is given.
    pub after: Option<u64>,
    /// Each sector that was written and not flushed is there nevertheless, with this probability
    /// from 0 to 1: a disk writes its cache in any order.
    pub keep: f64,
    /// The same makes the same decisions.
    pub seed: u64,
}

struct State {
    /// By the number of the sector.
    cache: BTreeMap<u64, Box<[u8]>>,
    writes: u64,
}

impl PowerCut {
    /// The power goes as `rule` says, or when `off` becomes true.
    pub fn new(rule: Cut, off: Arc<AtomicBool>) -> Self {
        PowerCut { off, rule, state: RwLock::new(State { cache: BTreeMap::new(), writes: 0 }) }
    }

    /// Fails once the power is off; the first time, chance decides what becomes of the cache.
    fn check(&self, below: &dyn Storage) -> io::Result<()> {
        if !self.off.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut dice = Dice::new(self.rule.seed);
        let sector = u64::from(below.info().sector_size);
        for (number, bytes) in
            std::mem::take(&mut self.state.write().expect("no holder panics").cache)
        {
            if dice.fraction() < self.rule.keep {
                // Without power there is nobody to tell of a failure.
                let _ = below.write(number * sector, &bytes);
            }
        }
        Err(io::Error::other("the power of this disk was cut"))
    }

    /// Brings the cache down, as far as the power lasts.
    fn flush(&self, below: &dyn Storage, sector: u64) -> io::Result<()> {
        let mut state = self.state.write().expect("no holder panics");
        for (number, bytes) in &state.cache {
            if self.off.load(Ordering::Relaxed) {
                drop(state);
                return self.check(below);
            }
            below.write(number * sector, bytes)?;
        }
        below.flush()?;
        state.cache.clear();
        Ok(())
    }
}

impl Layer for PowerCut {
    fn handle(&self, request: Request<'_>, below: &dyn Storage) -> io::Result<()> {
        self.check(below)?;
        let sector = u64::from(below.info().sector_size);
        let touched = request.range();
        let numbers = touched.start / sector..touched.end / sector;
        match request {
            Request::Read { at, to } => {
                let state = self.state.read().expect("no holder panics");
                below.read(at, to)?;
                for (number, bytes) in state.cache.range(numbers.clone()) {
                    let start = ((number - numbers.start) * sector) as usize;
                    to[start..start + bytes.len()].copy_from_slice(bytes);
                }
                drop(state);
                // If the power went meanwhile, that may have been the disk without its cache.
                self.check(below)
            }
            Request::Write { from, .. } => {
                let mut state = self.state.write().expect("no holder panics");
                state.cache.extend(numbers.zip(from.chunks(sector as usize).map(Box::from)));
                if self.rule.after == Some(state.writes) {
                    self.off.store(true, Ordering::Relaxed);
                }
                state.writes += 1;
                drop(state);
                self.check(below)
            }
            Request::Flush => self.flush(below, sector),
            Request::Discard { at, len, secure } => {
                let mut state = self.state.write().expect("no holder panics");
                state.cache.retain(|number, _| !numbers.contains(number));
                below.discard(at, len, secure)
            }
        }
    }

    fn resized(&self, info: &Info) {
        // Nothing of what was cut off may be written later.
        let mut state = self.state.write().expect("no holder panics");
        state.cache.retain(|number, sector| (number + 1) * sector.len() as u64 <= info.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layered;
    use crate::storage::Ram;

    #[test]
    fn what_was_not_flushed_is_lost() {
        let below = Arc::new(Ram::new(1 << 20, 512));
        let off = Arc::new(AtomicBool::new(false));
        let disk = Layered::new(PowerCut::new(Cut::default(), off.clone()), below.clone());
        let mut bytes = [0; 1536];
        disk.write(0, &[1; 1024]).unwrap();
        disk.flush().unwrap();
        disk.write(512, &[2; 1024]).unwrap();
        disk.read(0, &mut bytes).unwrap();
        assert_eq!((bytes[0], bytes[512], bytes[1024]), (1, 2, 2));
        off.store(true, Ordering::Relaxed);
        assert!(disk.flush().is_err() && disk.read(0, &mut bytes).is_err());
        below.read(0, &mut bytes).unwrap();
        assert_eq!((bytes[0], bytes[512], bytes[1024]), (1, 1, 0));
    }

    #[test]
    fn the_power_goes_after_so_many_writes() {
        let rule = Cut { after: Some(2), ..Cut::default() };
        let disk =
            Layered::new(PowerCut::new(rule, Arc::default()), Arc::new(Ram::new(1 << 20, 512)));
        assert!(
            disk.write(0, &[1; 512]).is_ok()
                && disk.flush().is_ok()
                && disk.write(0, &[2; 512]).is_ok()
        );
        assert!(disk.write(0, &[3; 512]).is_err() && disk.flush().is_err());
    }

    #[test]
    fn some_of_what_was_not_flushed_is_there_by_chance() {
        let below = Arc::new(Ram::new(1 << 20, 512));
        let rule = Cut { after: Some(2), keep: 0.5, seed: 1 };
        let disk = Layered::new(PowerCut::new(rule, Arc::default()), below.clone());
        disk.write(0, &[1; 512 * 100]).unwrap();
        disk.flush().unwrap();
        disk.write(0, &[2; 512 * 100]).unwrap();
        // The write that is under way when the power goes fails, and may be there in parts.
        assert!(disk.write(512 * 100, &[3; 512 * 100]).is_err() && disk.flush().is_err());
        let mut bytes = vec![0; 512 * 200];
        below.read(0, &mut bytes).unwrap();
        let count = |sectors: &[u8], value| {
            sectors.chunks(512).filter(|sector| **sector == [value; 512]).count()
        };
        let (flushed, under_way) = bytes.split_at(512 * 100);
        assert_eq!(
            (count(flushed, 1) + count(flushed, 2), count(under_way, 0) + count(under_way, 3)),
            (100, 100)
        );
        assert!((30..70).contains(&count(flushed, 2)) && (30..70).contains(&count(under_way, 3)));
    }
}
