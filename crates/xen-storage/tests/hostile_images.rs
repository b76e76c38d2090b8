//! Images that lie: whatever their tables say, they are refused, or are disks some of whose sectors
//! cannot be read.

mod common;

use common::Folder;
use proptest::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use xen_storage::stack::{Files, build};
use xen_storage::storage::{Storage, Vhd};

const BYTES: u64 = (5 << 20) + 512;

/// Numbers that programs get wrong, and any others.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(u64::MAX),
        0u64..4096,
        any::<u64>(),
        (0u32..64, 0u64..3).prop_map(|(bits, less)| (1u64 << bits).wrapping_sub(less)),
    ]
}

/// Writes `bytes` bytes of a number, big-endian, at a place of a file.
fn put(file: &File, at: u64, bytes: usize, value: u64) {
    file.write_all_at(&value.to_be_bytes()[8 - bytes..], at).unwrap();
}

/// Does a little of everything with the image, if it can be opened. What is refused is refused;
/// nothing must panic.
fn use_it(stack: &str) {
    let Ok(disk) = build(stack, &Files::default()) else { return };
    let bytes = disk.info().bytes;
    let mut piece = vec![0; 1 << 16];
    for at in (0..bytes.min(8 << 20)).step_by(piece.len()).chain([bytes.saturating_sub(512)]) {
        let len = piece.len().min((bytes - at) as usize);
        let _ = disk.read(at, &mut piece[..len]);
    }
    for at in [0, bytes.saturating_sub(512)] {
        let _ = disk.write(at, &[7; 512]);
        let _ = disk.discard(at, 512, false);
    }
    let _ = disk.flush();
}

/// Places of a dynamic VHD's numbers: the copy of the footer, the header, and the first entries of
/// the table, where it is in images that are made here.
const VHD: [(u64, usize); 9] = [
    (16, 8),
    (48, 8),
    (60, 4),
    (512 + 16, 8),
    (512 + 28, 4),
    (512 + 32, 4),
    (1536, 4),
    (1540, 4),
    (1544, 4),
];

/// The checksum of a footer or header: all its bytes but those of the checksum, added up and
/// inverted.
fn sign(file: &File, at: u64, len: usize, sum_at: usize) {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at).unwrap();
    bytes[sum_at..sum_at + 4].fill(0);
    let sum = !bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    put(file, at + sum_at as u64, 4, sum.into());
}

fn image(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn vhd(
        changes in proptest::collection::vec((0..VHD.len(), number()), 1..4),
        cut in 0u64..1 << 28,
    ) {
        let folder = Folder::new();
        let path = folder.path("disk.vhd");
        let file = image(&path);
        Vhd::create(&file, BYTES).unwrap();
        let disk = Vhd::open(file.try_clone().unwrap(), true).unwrap();
        disk.write(0, &[1; 4096]).unwrap();
        disk.write(BYTES - 512, &[2; 512]).unwrap();
        disk.flush().unwrap();
        for (place, value) in changes {
            put(&file, VHD[place].0, VHD[place].1, value);
        }
        sign(&file, 0, 512, 64);
        sign(&file, 512, 1024, 36);
        file.set_len(file.metadata().unwrap().len().min(cut)).unwrap();
        use_it(&format!("vhd:{}", path.display()));
    }
}

#[cfg(feature = "formats")]
mod qcow2 {
    use super::*;
    use xen_storage::storage::{Qcow2, create_qcow2};

    /// Places of the numbers of a header (QEMU's docs/interop/qcow2.txt).
    const HEADER: [(u64, usize); 18] = [
        (4, 4),
        (8, 8),
        (16, 4),
        (20, 4),
        (24, 8),
        (32, 4),
        (36, 4),
        (40, 8),
        (48, 8),
        (56, 4),
        (60, 4),
        (64, 8),
        (72, 8),
        (80, 8),
        (88, 8),
        (96, 4),
        (100, 4),
        (104, 1),
    ];

    /// Returns the offset and length of the number that is called `place`: one of the header, or of
    /// one of the tables behind it, all of which have entries of eight bytes and begin at a whole
    /// cluster.
    fn place(place: usize) -> (u64, usize) {
        match HEADER.get(place) {
            Some(place) => *place,
            None => {
                let place = (place - HEADER.len()) as u64;
                (65536 * (1 + place / 8) + 8 * (place % 8), 8)
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn qcow2(
            changes in proptest::collection::vec((0..HEADER.len() + 40, number()), 1..4),
            cut in 0u64..1 << 21,
        ) {
            let folder = Folder::new();
            let path = folder.path("disk.qcow2");
            create_qcow2(&path, BYTES).unwrap();
            let disk = Qcow2::open(&path, true, false).unwrap();
            disk.write(0, &[1; 4096]).unwrap();
            disk.write(BYTES - 512, &[2; 512]).unwrap();
            disk.flush().unwrap();
            drop(disk);
            let file = File::options().write(true).open(&path).unwrap();
            for (number, value) in changes {
                let (at, bytes) = place(number);
                put(&file, at, bytes, value);
            }
            file.set_len(file.metadata().unwrap().len().min(cut)).unwrap();
            use_it(&format!("qcow2:{}", path.display()));
        }
    }

    proptest! {
        #[test]
        fn vmdk(lines in proptest::collection::vec(line(), 0..6)) {
            let folder = Folder::new();
            let path = folder.path("disk.vmdk");
            std::fs::write(folder.path("flat"), [7; 4096]).unwrap();
            let text = format!("# Disk DescriptorFile\n{}\n", lines.join("\n"));
            std::fs::write(&path, text).unwrap();
            use_it(&format!("vmdk:{}", path.display()));
            use_it(&format!("vmdk:{},trusted", path.display()));
        }
    }

    fn line() -> impl Strategy<Value = String> {
        let word = |words: &'static [&'static str]| proptest::sample::select(words);
        prop_oneof![
            Just("version=1".to_string()),
            (
                word(&["RW", "RDONLY", "NOACCESS"]),
                number(),
                word(&["FLAT", "ZERO", "SPARSE"]),
                number()
            )
                .prop_map(|(access, sectors, kind, at)| format!(
                    "{access} {sectors} {kind} \"flat\" {at}"
                )),
            (
                word(&["CID", "parentCID", "createType", "version", "ddb.geometry.heads", "other"]),
                number()
            )
                .prop_map(|(key, value)| format!("{key}={value}")),
        ]
    }
}
