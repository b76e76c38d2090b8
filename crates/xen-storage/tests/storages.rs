//! Every plain storage against the model.

mod common;

use common::{Folder, Model, ops, pattern};
use proptest::prelude::*;
use std::cell::Cell;
use std::ptr::NonNull;
use xen_blk::back::Area;
use xen_storage::storage::{Cow, FileOptions, FileStorage, Mmap, Pages, Ram, Storage, Zero};

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

/// Pages of a guest, in pieces that lie apart.
struct Guest {
    pieces: Vec<Vec<Cell<u8>>>,
    /// Bytes that are done.
    done: usize,
}

impl Guest {
    fn of(bytes: &[u8], piece: usize) -> Guest {
        let cells = |piece: &[u8]| piece.iter().copied().map(Cell::new).collect();
        Guest { pieces: bytes.chunks(piece).map(cells).collect(), done: 0 }
    }

    fn next(&mut self) -> &Cell<u8> {
        let (at, piece) = (self.done, self.pieces[0].len());
        self.done += 1;
        &self.pieces[at / piece][at % piece]
    }

    fn bytes(&self) -> Vec<u8> {
        self.pieces.iter().flatten().map(Cell::get).collect()
    }
}

impl Pages for Guest {
    fn left(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum::<usize>() - self.done
    }
    fn take(&mut self, to: &mut [u8]) {
        to.iter_mut().for_each(|byte| *byte = self.next().get());
    }
    fn put(&mut self, from: &[u8]) {
        from.iter().for_each(|byte| self.next().set(*byte));
    }
    fn areas(&self) -> Option<Vec<Area>> {
        assert_eq!(self.done, 0);
        let area = |piece: &Vec<Cell<u8>>| Area {
            start: NonNull::new(piece[0].as_ptr()).unwrap(),
            len: piece.len(),
        };
        Some(self.pieces.iter().map(area).collect())
    }
}

/// Writes and reads straight from and to a guest's pages, small and large, in pieces of several
/// sizes.
fn straight(disk: &dyn Storage, bytes: u64) {
    let mut model = vec![0; bytes as usize];
    disk.read(0, &mut model).unwrap();
    for (number, (at, len, piece)) in [
        (0, 512, 512),
        (4096, 4096, 4096),
        (1536, 9 * 512, 1024),
        (8192, 96 << 10, 512),
        (512, 80 << 10, 4096),
    ]
    .into_iter()
    .enumerate()
    {
        let data: Vec<u8> = (0..len).map(|byte| (byte * 7 + number + 1) as u8).collect();
        disk.write_now(at, &mut Guest::of(&data, piece)).expect("it need not wait").unwrap();
        model[at as usize..at as usize + len].copy_from_slice(&data);
        let mut guest = Guest::of(&vec![0; bytes as usize], piece);
        disk.read_now(0, &mut guest).expect("it need not wait").unwrap();
        assert!(guest.bytes() == model, "what write {number} left");
    }
    let past = disk.write_now(bytes - 512, &mut Guest::of(&[1; 1024], 512));
    assert!(past.is_none_or(|done| done.is_err()), "past the end");
    let mut whole = model.clone();
    disk.read(0, &mut whole).unwrap();
    assert!(whole == model);
}

#[test]
fn data_go_straight_between_a_guests_pages_and_what_is_in_memory() {
    const LEN: u64 = 128 << 10;
    straight(&Ram::new(LEN, 512), LEN);
    let folder = Folder::new();
    // In memory, whatever file system this machine keeps other files in.
    let shared = std::path::PathBuf::from(format!("/dev/shm/xen-disk-{}", std::process::id()));
    std::fs::write(&shared, pattern(LEN)).unwrap();
    straight(&Mmap::open(&shared, true, 512).unwrap(), LEN);
    std::fs::write(&shared, pattern(LEN)).unwrap();
    let disk = FileStorage::open(&shared, FileOptions::default());
    std::fs::remove_file(&shared).unwrap();
    straight(&disk.unwrap(), LEN);
    let direct = FileOptions { direct: true, sector_size: 4096, read_only: false };
    let disk = FileStorage::open(&folder.image("direct", LEN), direct).unwrap();
    assert!(
        disk.write_now(0, &mut Guest::of(&[1; 4096], 4096)).is_none(),
        "a device takes no page of another domain"
    );
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
    for error in [Mmap::open(&path, true, 512).err().unwrap(), Cow::open(&path, 512).err().unwrap()]
    {
        assert!(error.to_string().contains("another program serves it"), "{error}");
    }
    drop(first);
    let options = FileOptions { read_only: true, ..FileOptions::default() };
    let both =
        [FileStorage::open(&path, options).unwrap(), FileStorage::open(&path, options).unwrap()];
    assert!(both[0].info().read_only && both[1].write(0, &[0; 512]).is_err());
}

#[test]
fn files_that_are_no_disks_are_refused() {
    let folder = Folder::new();
    let open = |name: &str| {
        FileStorage::open(&folder.path(name), FileOptions::default()).err().unwrap().to_string()
    };
    std::fs::write(folder.path("odd"), [0; 700]).unwrap();
    std::fs::write(folder.path("empty"), []).unwrap();
    assert!(open("odd").contains("700 bytes"), "{}", open("odd"));
    assert!(open("empty").contains("0 bytes") && open("missing").contains("No such file"));
    assert!(
        Cow::open(&folder.path("empty"), 512).is_err()
            && Mmap::open(&folder.path("odd"), true, 512).is_err()
    );
}

#[test]
fn what_was_resized_has_the_size_when_it_is_opened_again() {
    let folder = Folder::new();
    let path = folder.image("disk", BYTES);
    FileStorage::open(&path, FileOptions::default()).unwrap().resize(2 * BYTES).unwrap();
    let disk =
        FileStorage::open(&path, FileOptions { sector_size: 4096, ..FileOptions::default() })
            .unwrap();
    assert_eq!((disk.info().bytes, disk.info().sector_size), (2 * BYTES, 4096));
    assert!(disk.resize(512).is_err(), "that is no whole sector");
}
