//! Formats whose program is killed between any two changes of their file, and whose sync fails.

mod common;

use common::{CrashFile, pattern};
use std::sync::Arc;
use xen_storage::storage::{Overlay, Ram, Storage, Vhd};

const BYTES: u64 = (2 << 20) + (64 << 10) + 512;

/// Opens a format in a file.
type Open = fn(CrashFile) -> Box<dyn Storage>;

fn overlay(file: CrashFile) -> Box<dyn Storage> {
    let below = Ram::new(BYTES, 512);
    below.write(0, &pattern(BYTES)).unwrap();
    Box::new(Overlay::open(file, Arc::new(below), b"below").unwrap())
}

fn vhd(file: CrashFile) -> Box<dyn Storage> {
    Box::new(Vhd::open(file, true).unwrap())
}

fn new_vhd() -> CrashFile {
    let file = CrashFile::default();
    Vhd::create(&file, BYTES).unwrap();
    file
}

fn new_overlay() -> CrashFile {
    let file = CrashFile::default();
    drop(overlay(file.clone()));
    file
}

/// Offsets and lengths of writes in order; those of length 0 are flushes.
const WRITES: &[(u64, usize)] = &[
    (0, 512),
    (65536 - 512, 1024),
    (4096, 8192),
    (0, 0),
    ((2 << 20) - 512, 2048),
    (BYTES - 512, 512),
    (131072, 131072),
    (0, 0),
    (512, 512),
    (1 << 20, 512),
];

/// Writes until the file fails, and returns the sectors that were acknowledged and those that may
/// be either.
fn write_until_cut(disk: &dyn Storage, model: &mut [u8]) -> Option<(u64, usize)> {
    for (number, (at, len)) in WRITES.iter().enumerate() {
        let bytes = vec![number as u8 + 100; *len];
        let done = if *len == 0 { disk.flush() } else { disk.write(*at, &bytes) };
        if done.is_err() {
            return Some((*at, *len));
        }
        model[*at as usize..*at as usize + len].copy_from_slice(&bytes);
    }
    None
}

fn read(disk: &dyn Storage) -> Vec<u8> {
    let mut bytes = vec![0; BYTES as usize];
    disk.read(0, &mut bytes).unwrap();
    bytes
}

fn kill_at_every_change(new: fn() -> CrashFile, open: Open) {
    for cut in 0.. {
        let file = new();
        let disk = open(file.clone());
        let mut model = read(&*disk);
        file.cut_after(cut);
        let open_write = write_until_cut(&*disk, &mut model);
        // The program is gone: what it does when it ends in good order is not done.
        std::mem::forget(disk);
        let after = open(file.after_kill());
        after.flush().unwrap();
        let found = read(&*after);
        let maybe = open_write.map_or(0..0, |(at, len)| at as usize..at as usize + len);
        for at in (0..BYTES as usize).step_by(512).filter(|at| !maybe.contains(at)) {
            let sector = at..at + 512;
            assert!(found[sector.clone()] == model[sector], "{cut} changes: sector {}", at / 512);
        }
        if open_write.is_none() {
            assert!(cut > 10, "the script changed almost nothing");
            return;
        }
    }
}

#[test]
fn overlay_killed_at_any_change_keeps_every_write() {
    kill_at_every_change(new_overlay, overlay);
}

#[test]
fn vhd_killed_at_any_change_keeps_every_write() {
    kill_at_every_change(new_vhd, vhd);
}

fn failed_sync_stays_failed(new: fn() -> CrashFile, open: Open, other_sectors: &[u8]) {
    let file = new();
    let disk = open(file.clone());
    disk.write(0, &[1; 512]).unwrap();
    disk.flush().unwrap();
    disk.write(262_144, &[2; 512]).unwrap();
    disk.write(0, &[3; 512]).unwrap();
    file.fail_sync();
    assert!(disk.flush().is_err());
    // The kernel reports it once; the disk does not forget.
    let error = disk.flush().unwrap_err().to_string();
    assert!(error.contains("earlier flush failed"), "{error}");
    assert!(disk.write(0, &[4; 512]).is_err());
    std::mem::forget(disk);
    let after = read(&*open(file.after_kill()));
    assert!(after[0] == 1 || after[0] == 3, "what was flushed: {}", after[0]);
    let rest = 262_144 + 512..262_144 + 1024;
    assert_eq!(after[rest.clone()], other_sectors[rest], "a sector that nobody wrote");
}

#[test]
fn overlay_failed_sync_fails_all_that_follows() {
    failed_sync_stays_failed(new_overlay, overlay, &pattern(BYTES));
}

#[test]
fn vhd_failed_sync_fails_all_that_follows() {
    failed_sync_stays_failed(new_vhd, vhd, &vec![0; BYTES as usize]);
}
