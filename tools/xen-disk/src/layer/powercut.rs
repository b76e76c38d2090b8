//! `powercut`: a disk whose cache is lost when the power goes.

use super::{Layer, Request};
use crate::storage::{Info, Storage};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Keeps what is written in memory until it is flushed. Once the power is off it is gone, and every request fails.
pub struct PowerCut {
    off: Arc<AtomicBool>,
    state: RwLock<State>,
}

struct State {
    /// By the number of the sector.
    cache: BTreeMap<u64, Box<[u8]>>,
    writes_left: Option<u64>,
}

impl PowerCut {
    /// The power goes after so many writes, if that is given, or when `off` becomes true.
    pub fn new(after: Option<u64>, off: Arc<AtomicBool>) -> Self {
        PowerCut { off, state: RwLock::new(State { cache: BTreeMap::new(), writes_left: after }) }
    }

    fn check(&self) -> io::Result<()> {
        match self.off.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the power of this disk was cut")),
            false => Ok(()),
        }
    }
}

impl State {
    /// Whether another write is carried out.
    fn may_write(&mut self) -> bool {
        match &mut self.writes_left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }
}

impl Layer for PowerCut {
    fn handle(&self, request: Request<'_>, below: &dyn Storage) -> io::Result<()> {
        self.check()?;
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
                Ok(())
            }
            Request::Write { from, .. } => {
                let mut state = self.state.write().expect("no holder panics");
                if !state.may_write() {
                    self.off.store(true, Ordering::Relaxed);
                    return self.check();
                }
                state.cache.extend(numbers.zip(from.chunks(sector as usize).map(Box::from)));
                Ok(())
            }
            Request::Flush => {
                let mut state = self.state.write().expect("no holder panics");
                // What goes down before the power does may stay there.
                for (number, bytes) in &state.cache {
                    self.check()?;
                    below.write(number * sector, bytes)?;
                }
                below.flush()?;
                state.cache.clear();
                Ok(())
            }
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
        let disk = Layered::new(PowerCut::new(None, off.clone()), below.clone());
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
        let disk = Layered::new(PowerCut::new(Some(2), Arc::default()), Arc::new(Ram::new(1 << 20, 512)));
        assert!(disk.write(0, &[1; 512]).is_ok() && disk.flush().is_ok() && disk.write(0, &[2; 512]).is_ok());
        assert!(disk.write(0, &[3; 512]).is_err() && disk.flush().is_err());
    }
}
