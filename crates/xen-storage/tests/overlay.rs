//! The overlay against the model, with its power cut at any change.

mod common;

use common::{Allowed, CrashFile, Model, Op, ops, pattern};
use proptest::prelude::*;
use std::io;
use std::sync::Arc;
use xen_storage::storage::{CLUSTER, Info, Overlay, Ram, Storage};

/// A little more than two clusters.
const BYTES: u64 = 2 * CLUSTER + 3 * 512;
const SECTORS: u64 = BYTES / 512;

fn base() -> Arc<Ram> {
    let base = Ram::new(BYTES, 512);
    base.write(0, &pattern(BYTES)).unwrap();
    Arc::new(base)
}

fn contents(disk: &dyn Storage) -> Vec<u8> {
    let mut bytes = vec![0; disk.info().bytes as usize];
    disk.read(0, &mut bytes).unwrap();
    bytes
}

/// Choices that depend on a number alone.
fn choices(mut state: u64) -> impl FnMut() -> bool {
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 63 == 1
    }
}

fn writes() -> impl Strategy<Value = Vec<Op>> {
    ops(SECTORS, false)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_is_a_disk_and_the_one_below_stays(ops in ops(SECTORS, true), more in writes()) {
        let (file, base) = (CrashFile::default(), base());
        let mut model = Model::of(&pattern(BYTES));
        model.run(&Overlay::open(file.clone(), base.clone(), b"id").unwrap(), &ops)?;
        // The program ends without a flush, but the machine goes on.
        let overlay = Overlay::open(file.clone(), base.clone(), b"id").unwrap();
        overlay.flush().unwrap();
        prop_assert_eq!(overlay.info().bytes, model.0.len() as u64);
        prop_assert!(contents(&*base) == pattern(BYTES));
        let fresh = Overlay::open(CrashFile::default(), base.clone(), b"id").unwrap();
        Model::of(&pattern(BYTES)).run(&fresh, &more)?;
    }

    #[test]
    fn what_was_flushed_outlasts_a_power_failure(ops in writes(), cut in 0u64..40, seed: u64) {
        let (file, base) = (CrashFile::default(), base());
        let overlay = Overlay::open(file.clone(), base.clone(), b"id").unwrap();
        file.cut_after(cut);
        let mut allowed = Allowed::of(&pattern(BYTES));
        allowed.run(&overlay, &ops);
        let after = Overlay::open(file.after_power_failure(choices(seed)), base, b"id").unwrap();
        allowed.check(&after)?;
    }

    #[test]
    fn a_new_length_is_kept_or_not_and_new_bytes_are_zero(
        ops in ops(SECTORS, true),
        lengths in proptest::collection::vec(1..4 * SECTORS, 1..4),
        cut in 0u64..30,
        seed: u64,
    ) {
        let file = CrashFile::default();
        let overlay = Overlay::open(file.clone(), base(), b"id").unwrap();
        let mut model = Model::of(&pattern(BYTES));
        model.run(&overlay, &ops)?;
        overlay.flush().unwrap();
        file.cut_after(cut);
        let mut possible = vec![model.0.clone()];
        for sectors in lengths {
            model.0.resize((sectors * 512) as usize, Some(0));
            possible.push(model.0.clone());
            if overlay.resize(sectors * 512).is_err() {
                break;
            }
            possible.drain(..possible.len() - 1);
        }
        let after = Overlay::open(file.after_power_failure(choices(seed)), base(), b"id").unwrap();
        let same = possible.into_iter().find(|model| model.len() as u64 == after.info().bytes);
        prop_assert!(same.is_some(), "it is {} bytes long", after.info().bytes);
        Model(same.unwrap()).run(&after, &[])?;
    }

    #[test]
    fn a_commit_can_be_cut_and_done_again(ops in ops(SECTORS, true), cut in 0u64..12, seed: u64) {
        let (file, base) = (CrashFile::default(), base());
        let overlay = Overlay::open(file.clone(), base.clone(), b"old").unwrap();
        let mut model = Model::of(&pattern(BYTES));
        model.run(&overlay, &ops)?;
        overlay.flush().unwrap();
        let want = contents(&overlay);
        drop(overlay);
        file.cut_after(cut);
        let commit = |file: &CrashFile, old: &[u8]| {
            Overlay::commit(file.clone(), base.clone(), old, || Ok(b"new".to_vec()))
        };
        let mut file = file;
        if let Err(error) = commit(&file, b"old") {
            prop_assert!(error.to_string().contains("power"), "{error}");
            file = file.after_power_failure(choices(seed));
            // The disk below is as it was, or halfway, or done but for the program's knowing.
            let done = [&b"old"[..], b"half", b"new"].iter().any(|identity| commit(&file, identity).is_ok());
            prop_assert!(done);
        } else {
            file = file.after_power_failure(|| true);
        }
        prop_assert!(contents(&*base) == want, "the disk below");
        let again = Overlay::open(file, base.clone(), b"new").unwrap();
        prop_assert!(contents(&again) == want, "the overlay");
    }
}

#[test]
fn a_revert_shows_the_disk_below_again() {
    let (file, base) = (CrashFile::default(), base());
    let overlay = Overlay::open(file.clone(), base.clone(), b"id").unwrap();
    overlay.write(CLUSTER - 512, &[9; 1024]).unwrap();
    overlay.resize(4 * BYTES).unwrap();
    drop(overlay);
    assert_eq!(Overlay::revert(file.clone(), base.clone(), b"id").unwrap().clusters, 2);
    assert_eq!(contents(&Overlay::open(file, base, b"id").unwrap()), pattern(BYTES));
}

#[test]
fn another_disk_is_refused() {
    let (file, base) = (CrashFile::default(), base());
    drop(Overlay::open(file.clone(), base.clone(), b"id").unwrap());
    let error = |base: Arc<Ram>, id: &[u8]| {
        Overlay::open(file.clone(), base, id).err().unwrap().to_string()
    };
    assert!(error(base, b"other").contains("another disk"));
    assert!(error(Arc::new(Ram::new(BYTES + 512, 512)), b"id").contains("bytes"));
    let no_overlay = CrashFile::holding(&[0; 8192]);
    assert!(Overlay::open(no_overlay, Ram::new(BYTES, 512), b"id").is_err());
}

/// A disk that has the length it has.
struct Rigid(Arc<Ram>);

impl Storage for Rigid {
    fn info(&self) -> Info {
        self.0.info()
    }
    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.0.read(at, to)
    }
    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        self.0.write(at, from)
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn changes_that_do_not_fit_below_stay_in_the_overlay() {
    let file = CrashFile::default();
    let overlay = Overlay::open(file.clone(), Rigid(base()), b"id").unwrap();
    overlay.resize(BYTES + 512).unwrap();
    overlay.write(BYTES, &[9; 512]).unwrap();
    overlay.flush().unwrap();
    drop(overlay);
    let error =
        Overlay::commit(file.clone(), Rigid(base()), b"id", || Ok(b"new".to_vec())).unwrap_err();
    assert!(error.to_string().contains("the disk below must become"), "{error}");
    let again = Overlay::open(file, Rigid(base()), b"id").unwrap();
    assert_eq!(contents(&again)[BYTES as usize..], [9; 512]);
}
