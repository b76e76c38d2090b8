//! A file whose power is cut after a number of changes, and what a disk on it may hold afterwards.

use super::Op;
use proptest::prelude::*;
use std::io;
use std::sync::{Arc, Mutex};
use xen_storage::storage::{Backing, Storage};

const SECTOR: usize = 512;

enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Default)]
struct State {
    /// Bytes that a reader sees.
    seen: Vec<u8>,
    /// Bytes that are kept.
    kept: Vec<u8>,
    pending: Vec<Change>,
    /// Changes left until the power goes.
    left: Option<u64>,
    /// Number of times that the power came back.
    boots: u8,
    /// The next sync fails, and loses what was written before.
    sync_fails: bool,
}

/// A file in memory. Clones are the same file.
#[derive(Clone, Default)]
pub struct CrashFile(Arc<Mutex<State>>);

impl CrashFile {
    pub fn holding(bytes: &[u8]) -> Self {
        CrashFile(Arc::new(Mutex::new(State {
            seen: bytes.into(),
            kept: bytes.into(),
            ..State::default()
        })))
    }

    /// Cuts the power after `left` more changes: all that comes then fails.
    pub fn cut_after(&self, left: u64) {
        self.0.lock().unwrap().left = Some(left);
    }

    /// Makes the next sync fail as Linux does: once, and what it was to keep is lost.
    pub fn fail_sync(&self) {
        self.0.lock().unwrap().sync_fails = true;
    }

    /// The file after the program was killed: all that it did is there.
    pub fn after_kill(&self) -> CrashFile {
        let mut state = self.0.lock().unwrap();
        let (seen, kept) = (std::mem::take(&mut state.seen), std::mem::take(&mut state.kept));
        let pending = std::mem::take(&mut state.pending);
        let boots = state.boots;
        CrashFile(Arc::new(Mutex::new(State { seen, kept, pending, boots, ..State::default() })))
    }

    /// Returns true while the power is on.
    pub fn is_on(&self) -> bool {
        self.0.lock().unwrap().left != Some(0)
    }

    /// The file after the power came back: what was not kept is there or not, sector by sector.
    pub fn after_power_failure(&self, mut choice: impl FnMut() -> bool) -> CrashFile {
        let state = self.0.lock().unwrap();
        let mut kept = state.kept.clone();
        for change in &state.pending {
            match change {
                Change::Length(bytes) => kept.resize(*bytes as usize, 0),
                Change::Write(at, bytes) => write_some(&mut kept, *at as usize, bytes, &mut choice),
            }
        }
        let boots = state.boots + 1;
        let after = State { seen: kept.clone(), kept, boots, ..State::default() };
        CrashFile(Arc::new(Mutex::new(after)))
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if let Some(left) = &mut state.left {
            *left = left.checked_sub(1).ok_or_else(|| io::Error::other("the power is off"))?;
        }
        match &change {
            Change::Length(bytes) => state.seen.resize(*bytes as usize, 0),
            Change::Write(at, bytes) => {
                write_some(&mut state.seen, *at as usize, bytes, &mut || true)
            }
        }
        state.pending.push(change);
        Ok(())
    }
}

fn write_some(to: &mut Vec<u8>, at: usize, bytes: &[u8], choice: &mut impl FnMut() -> bool) {
    to.resize(to.len().max(at + bytes.len()), 0);
    let mut done = 0;
    while done < bytes.len() {
        let end = bytes.len().min((at + done) / SECTOR * SECTOR + SECTOR - at);
        if choice() {
            to[at + done..at + end].copy_from_slice(&bytes[done..end]);
        }
        done = end;
    }
}

impl Backing for CrashFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }
    fn read_at(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let from = state
            .seen
            .get(at as usize..at as usize + to.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        to.copy_from_slice(from);
        Ok(())
    }
    fn write_at(&self, at: u64, from: &[u8]) -> io::Result<()> {
        self.change(Change::Write(at, from.to_vec()))
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.change(Change::Length(bytes))
    }
    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        self.change(Change::Write(at, vec![0; len as usize]))
    }
    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.left == Some(0) {
            return Err(io::Error::other("the power is off"));
        }
        if std::mem::take(&mut state.sync_fails) {
            state.seen = state.kept.clone();
            state.pending.clear();
            return Err(io::Error::other("writeback failed"));
        }
        state.kept = state.seen.clone();
        state.pending.clear();
        Ok(())
    }
    fn boot(&self) -> [u8; 16] {
        [self.0.lock().unwrap().boots + 1; 16]
    }
}

/// Contents that each sector may have: what was flushed, or anything written since; `None` once it
/// was discarded, for good. The first byte stands for the sector.
pub struct Allowed(Vec<Option<Vec<u8>>>);

impl Allowed {
    pub fn of(bytes: &[u8]) -> Self {
        Allowed(bytes.chunks(SECTOR).map(|sector| Some(vec![sector[0]])).collect())
    }

    /// Does the operations until the power goes. Returns true if it did not.
    pub fn run(&mut self, disk: &dyn Storage, ops: &[Op]) -> bool {
        for op in ops {
            match *op {
                Op::Write { at, sectors, byte } => {
                    let Some(run) = self.run_of(at, sectors) else { continue };
                    // Begun is enough.
                    run.iter_mut().flatten().for_each(|values| values.push(byte));
                    if disk.write(at * 512, &vec![byte; (sectors * 512) as usize]).is_err() {
                        return false;
                    }
                }
                Op::Discard { at, sectors, .. } => {
                    let Some(run) = self.run_of(at, sectors) else { continue };
                    run.fill(None);
                    match disk.discard(at * 512, sectors * 512, false) {
                        Err(error) if error.kind() != io::ErrorKind::Unsupported => return false,
                        _ => {}
                    }
                }
                Op::Flush => {
                    if disk.flush().is_err() {
                        return false;
                    }
                    self.0
                        .iter_mut()
                        .flatten()
                        .for_each(|values| drop(values.drain(..values.len() - 1)));
                }
                Op::Read { .. } | Op::Resize { .. } => {}
            }
        }
        true
    }

    fn run_of(&mut self, at: u64, sectors: u64) -> Option<&mut [Option<Vec<u8>>]> {
        self.0.get_mut(at as usize..(at + sectors) as usize)
    }

    /// Checks that the disk holds nothing else.
    pub fn check(&self, disk: &dyn Storage) -> Result<(), TestCaseError> {
        let mut bytes = vec![0; self.0.len() * SECTOR];
        disk.read(0, &mut bytes).unwrap();
        for (n, (sector, allowed)) in bytes.chunks(SECTOR).zip(&self.0).enumerate() {
            if let Some(allowed) = allowed {
                prop_assert!(
                    allowed.contains(&sector[0]),
                    "sector {n}: {} is none of {allowed:?}",
                    sector[0]
                );
            }
        }
        Ok(())
    }
}
