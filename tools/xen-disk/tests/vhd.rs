//! VHD images against the model, with their power cut at any change.

mod common;

use common::{Allowed, CrashFile, Folder, Model, ops, pattern};
use proptest::prelude::*;
use xen_disk::stack::{Files, build};
use xen_disk::storage::{Storage, Vhd};

/// A little more than one block.
const BYTES: u64 = (2 << 20) + 64 * 512;

fn empty() -> CrashFile {
    let file = CrashFile::default();
    Vhd::create(&file, BYTES).unwrap();
    file
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn dynamic(ops in ops(BYTES / 512, false)) {
        let file = empty();
        let mut model = Model::of(&[0; BYTES as usize]);
        let disk = Vhd::open(file.clone(), true).unwrap();
        model.run(&disk, &ops)?;
        disk.flush().unwrap();
        model.run(&Vhd::open(file, false).unwrap(), &[])?;
    }

    #[test]
    fn what_was_flushed_outlasts_a_power_failure(ops in ops(BYTES / 512, false), cut in 0u64..30, kept: u64) {
        let file = empty();
        let disk = Vhd::open(file.clone(), true).unwrap();
        file.cut_after(cut);
        let mut allowed = Allowed::of(&[0; BYTES as usize]);
        allowed.run(&disk, &ops);
        let mut state = kept;
        let after = file.after_power_failure(|| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            state >> 63 == 1
        });
        allowed.check(&Vhd::open(after, true).unwrap())?;
    }
}

#[test]
fn a_fixed_image_is_a_disk_and_a_footer() {
    let folder = Folder::new();
    let dynamic = CrashFile::default();
    Vhd::create(&dynamic, 4096).unwrap();
    // The same footer with another type, and its checksum: one less in the type is one more in the sum's complement.
    let mut footer = [0; 512];
    xen_disk::storage::Backing::read_at(&dynamic, 0, &mut footer).unwrap();
    let sum = u32::from_be_bytes(footer[64..68].try_into().unwrap());
    footer[63] = 2;
    footer[64..68].copy_from_slice(&(sum + 1).to_be_bytes());
    let path = folder.path("fixed.vhd");
    std::fs::write(&path, [&pattern(4096)[..], &footer].concat()).unwrap();
    let disk = build(&format!("vhd:{}", path.display()), &Files::default()).unwrap();
    Model::of(&pattern(4096)).run(&*disk, &[]).unwrap();
    disk.write(3584, &[9; 512]).unwrap();
    disk.flush().unwrap();
    assert_eq!(std::fs::read(&path).unwrap()[3583..4097], [&pattern(4096)[3583..3584], &[9; 512], b"c"].concat());
    drop(disk);
    std::fs::write(&path, [0; 4096]).unwrap();
    let error = build(&format!("vhd:{}", path.display()), &Files::default()).err().unwrap().to_string();
    assert!(error.contains("it is no VHD image"), "{error}");
}
