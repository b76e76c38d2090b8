//! `verify`: what is read must be what was written.

use super::{Layer, Request};
use crate::storage::{Info, Storage};
use std::collections::HashMap;
use std::io;
use std::sync::RwLock;

/// Keeps a checksum of each sector that was written, and fails reads that do not fit. 16 bytes or
/// so for a sector.
#[derive(Default)]
pub struct Verify {
    /// Held alone by writes, so that no read comes between a write and its sums.
    sums: RwLock<HashMap<u64, u32>>,
}

impl Verify {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Layer for Verify {
    fn outlives(&self) -> bool {
        true
    }

    fn handle(&self, request: Request<'_>, below: &dyn Storage) -> io::Result<()> {
        let sector = u64::from(below.info().sector_size);
        let touched = request.range();
        let numbers = touched.start / sector..touched.end / sector;
        match request {
            Request::Read { at, to } => {
                let sums = self.sums.read().expect("no holder panics");
                below.read(at, to)?;
                for (number, bytes) in numbers.zip(to.chunks(sector as usize)) {
                    if sums.get(&number).is_some_and(|sum| *sum != crc32fast::hash(bytes)) {
                        let text = format!(
                            "the sector at byte {} is not what was written there",
                            number * sector
                        );
                        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                    }
                }
                Ok(())
            }
            Request::Write { at, from } => {
                let mut sums = self.sums.write().expect("no holder panics");
                let done = below.write(at, from);
                for (number, bytes) in numbers.zip(from.chunks(sector as usize)) {
                    // After a failure it may be the old or the new.
                    match &done {
                        Ok(()) => sums.insert(number, crc32fast::hash(bytes)),
                        Err(_) => sums.remove(&number),
                    };
                }
                done
            }
            Request::Flush => below.flush(),
            Request::Discard { at, len, secure } => {
                let mut sums = self.sums.write().expect("no holder panics");
                sums.retain(|number, _| !numbers.contains(number));
                below.discard(at, len, secure)
            }
        }
    }

    fn resized(&self, info: &Info) {
        let sectors = info.bytes / u64::from(info.sector_size);
        self.sums.write().expect("no holder panics").retain(|number, _| *number < sectors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layered;
    use crate::storage::Ram;
    use std::sync::Arc;

    #[test]
    fn a_sector_that_changed_below_is_found() {
        let below = Arc::new(Ram::new(1 << 20, 512));
        let disk = Layered::new(Verify::new(), below.clone());
        disk.write(512, &[1; 1024]).unwrap();
        disk.read(0, &mut [0; 4096]).unwrap();
        below.write(1024, &[2; 512]).unwrap();
        let error = disk.read(0, &mut [0; 4096]).unwrap_err();
        assert!(error.to_string().contains("byte 1024"), "{error}");
        disk.read(512, &mut [0; 512]).unwrap();
        disk.discard(1024, 512, false).unwrap();
        disk.read(0, &mut [0; 4096]).unwrap();
    }
}
