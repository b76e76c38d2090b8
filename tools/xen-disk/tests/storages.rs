//! Every plain storage against the model.

mod common;

use common::{Folder, Model, ops, pattern};
use proptest::prelude::*;
use xen_disk::storage::{Cow, FileOptions, FileStorage, Mmap, Ram, Storage, Zero};

const BYTES: u64 = 3 * 4096 * 8;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ram(ops in ops(24, true)) {
        Model::of(&[0; BYTES as usize]).run(&Ram::new(BYTES, 4096), &ops)?;
    }

    #[test]
    fn file(ops in ops(192, true), direct: bool) {
        let folder = Folder::new();
        let path = folder.image("disk", BYTES);
        let options = FileOptions { direct, sector_size: if direct { 4096 } else { 512 }, read_only: false };
        let disk = FileStorage::open(&path, options).unwrap();
        Model::of(&pattern(BYTES)).run(&disk, &ops)?;
    }

    #[test]
    fn mmap(ops in ops(192, true)) {
        let folder = Folder::new();
        let path = folder.image("disk", BYTES);
        let disk = Mmap::open(&path, true, 512).unwrap();
        let mut model = Model::of(&pattern(BYTES));
        model.run(&disk, &ops)?;
        disk.flush().unwrap();
        drop(disk);
        let kept = std::fs::read(&path).unwrap();
        prop_assert!(kept.len() == model.0.len() && kept.iter().zip(&model.0).all(|(k, m)| m.is_none_or(|m| m == *k)));
    }

    #[test]
    fn cow(ops in ops(192, false)) {
        let folder = Folder::new();
        let path = folder.image("disk", BYTES);
        let disk = Cow::open(&path, 512).unwrap();
        Model::of(&pattern(BYTES)).run(&disk, &ops)?;
        disk.flush().unwrap();
        prop_assert_eq!(std::fs::read(&path).unwrap(), pattern(BYTES), "the image has changed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn ram_of_several_pieces(ops in ops(700, true)) {
        Model::of(&vec![0; 700 * 4096]).run(&Ram::new(700 * 4096, 4096), &ops)?;
    }
}

#[test]
fn discard_takes_all_and_reads_zeros() {
    let disk = Zero::new(BYTES, 512);
    disk.write(512, &[1; 1024]).unwrap();
    let mut bytes = [9; 1024];
    disk.read(512, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 1024]);
    assert!(disk.write(BYTES, &[1; 512]).is_err() && disk.read(1, &mut bytes).is_err());
}

#[test]
fn a_file_is_served_for_writing_only_once() {
    let folder = Folder::new();
    let path = folder.image("disk", BYTES);
    let first = FileStorage::open(&path, FileOptions::default()).unwrap();
    for error in [Mmap::open(&path, true, 512).err().unwrap(), Cow::open(&path, 512).err().unwrap()] {
        assert!(error.to_string().contains("another program serves it"), "{error}");
    }
    drop(first);
    let options = FileOptions { read_only: true, ..FileOptions::default() };
    let both = [FileStorage::open(&path, options).unwrap(), FileStorage::open(&path, options).unwrap()];
    assert!(both[0].info().read_only && both[1].write(0, &[0; 512]).is_err());
}

#[test]
fn files_that_are_no_disks_are_refused() {
    let folder = Folder::new();
    let open = |name: &str| FileStorage::open(&folder.path(name), FileOptions::default()).err().unwrap().to_string();
    std::fs::write(folder.path("odd"), [0; 700]).unwrap();
    std::fs::write(folder.path("empty"), []).unwrap();
    assert!(open("odd").contains("700 bytes"), "{}", open("odd"));
    assert!(open("empty").contains("0 bytes") && open("missing").contains("No such file"));
    assert!(Cow::open(&folder.path("empty"), 512).is_err() && Mmap::open(&folder.path("odd"), true, 512).is_err());
}

#[test]
fn what_was_resized_has_the_size_when_it_is_opened_again() {
    let folder = Folder::new();
    let path = folder.image("disk", BYTES);
    FileStorage::open(&path, FileOptions::default()).unwrap().resize(2 * BYTES).unwrap();
    let disk = FileStorage::open(&path, FileOptions { sector_size: 4096, ..FileOptions::default() }).unwrap();
    assert_eq!((disk.info().bytes, disk.info().sector_size), (2 * BYTES, 4096));
    assert!(disk.resize(512).is_err(), "that is no whole sector");
}
