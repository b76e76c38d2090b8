//! A model of a disk, folders that vanish, and streams of operations for both.
#![allow(dead_code, unused_imports, reason = "each test file uses a part")]

mod crash;
#[cfg(feature = "object")]
pub mod objects;

pub use crash::{Allowed, CrashFile};

use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use xen_storage::storage::Storage;

/// A folder of a test, removed at its end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("xen-disk-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file of `bytes` that tell their sector.
    pub fn image(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, pattern(bytes)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

impl AsRef<Path> for Folder {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

/// Bytes that tell their place.
pub fn pattern(bytes: u64) -> Vec<u8> {
    (0..bytes).map(|at| (at / 512 * 7 + at % 512 + 1) as u8).collect()
}

/// An operation on a disk, in units of its sectors.
#[derive(Clone, Debug)]
pub enum Op {
    Write { at: u64, sectors: u64, byte: u8 },
    Read { at: u64, sectors: u64 },
    Discard { at: u64, sectors: u64, secure: bool },
    Flush,
    Resize { sectors: u64 },
}

/// Operations on a disk of about `sectors`; some go past its end.
pub fn ops(sectors: u64, resize: bool) -> impl Strategy<Value = Vec<Op>> {
    let run = move || (0..sectors + 2, 0..(sectors / 2).max(2));
    let op = prop_oneof![
        6 => (run(), any::<u8>()).prop_map(|((at, sectors), byte)| Op::Write { at, sectors, byte }),
        4 => run().prop_map(|(at, sectors)| Op::Read { at, sectors }),
        2 => (run(), any::<bool>()).prop_map(|((at, sectors), secure)| Op::Discard { at, sectors, secure }),
        1 => Just(Op::Flush),
        u32::from(resize) => (1..sectors * 2).prop_map(|sectors| Op::Resize { sectors }),
    ];
    proptest::collection::vec(op, 1..40)
}

/// Contents that a disk must have: a byte, or anything at all.
pub struct Model(pub Vec<Option<u8>>);

impl Model {
    pub fn of(bytes: &[u8]) -> Self {
        Model(bytes.iter().copied().map(Some).collect())
    }

    fn agrees(&self, at: usize, got: &[u8]) -> Result<(), TestCaseError> {
        for (n, (want, got)) in self.0[at..].iter().zip(got).enumerate() {
            prop_assert!(
                want.is_none_or(|want| want == *got),
                "byte {}: {want:?}, got {got}",
                at + n
            );
        }
        Ok(())
    }

    /// Does `op` to the disk and to the model, and compares what comes back.
    pub fn step(&mut self, disk: &dyn Storage, op: &Op) -> Result<(), TestCaseError> {
        let info = disk.info();
        prop_assert_eq!(info.bytes, self.0.len() as u64);
        let sector = u64::from(info.sector_size);
        let fits = |at: u64, sectors: u64| (at + sectors) * sector <= info.bytes;
        let range =
            |at: u64, sectors: u64| (at * sector) as usize..((at + sectors) * sector) as usize;
        match *op {
            Op::Write { at, sectors, byte } => {
                let bytes: Vec<u8> = (0..sectors * sector).map(|n| byte ^ (n / 7) as u8).collect();
                let done = disk.write(at * sector, &bytes);
                prop_assert_eq!(done.is_ok(), fits(at, sectors), "{:?}", done);
                if done.is_ok() {
                    self.0[range(at, sectors)]
                        .iter_mut()
                        .zip(bytes)
                        .for_each(|(to, from)| *to = Some(from));
                }
            }
            Op::Read { at, sectors } => {
                let mut bytes = vec![0xee; (sectors * sector) as usize];
                let done = disk.read(at * sector, &mut bytes);
                prop_assert_eq!(done.is_ok(), fits(at, sectors), "{:?}", done);
                if done.is_ok() {
                    self.agrees((at * sector) as usize, &bytes)?;
                }
            }
            Op::Discard { at, sectors, secure } => {
                let can = info.discard.is_some_and(|discard| discard.secure || !secure);
                let done = disk.discard(at * sector, sectors * sector, secure);
                prop_assert_eq!(done.is_ok(), can && fits(at, sectors), "{:?}", done);
                if done.is_ok() {
                    self.0[range(at, sectors)].fill(None);
                }
            }
            Op::Flush => prop_assert!(disk.flush().is_ok()),
            Op::Resize { sectors } => {
                let done = disk.resize(sectors * sector);
                prop_assert!(done.is_ok(), "{:?}", done);
                self.0.resize((sectors * sector) as usize, Some(0));
            }
        }
        Ok(())
    }

    /// Does all of them, and compares the whole disk at the end.
    pub fn run(&mut self, disk: &dyn Storage, ops: &[Op]) -> Result<(), TestCaseError> {
        ops.iter().try_for_each(|op| self.step(disk, op))?;
        let mut all = vec![0; self.0.len()];
        disk.read(0, &mut all).unwrap();
        self.agrees(0, &all)
    }
}
