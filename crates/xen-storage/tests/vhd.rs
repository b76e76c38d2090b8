//! VHD images against the model, with their power cut at any change.

mod common;

use common::{Allowed, CrashFile, Folder, Model, ops, pattern};
use proptest::prelude::*;
use std::io;
use std::sync::RwLock;
use xen_storage::stack::{Files, build};
use xen_storage::storage::{Backing, Storage, Vhd};

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
    // The same footer with another type, and its checksum: one less in the type is one more in the
    // sum's complement.
    let mut footer = [0; 512];
    xen_storage::storage::Backing::read_at(&dynamic, 0, &mut footer).unwrap();
    let sum = u32::from_be_bytes(footer[64..68].try_into().unwrap());
    footer[63] = 2;
    footer[64..68].copy_from_slice(&(sum + 1).to_be_bytes());
    let path = folder.path("fixed.vhd");
    std::fs::write(&path, [&pattern(4096)[..], &footer].concat()).unwrap();
    let disk = build(&format!("vhd:{}", path.display()), &Files::default()).unwrap();
    Model::of(&pattern(4096)).run(&*disk, &[]).unwrap();
    disk.write(3584, &[9; 512]).unwrap();
    disk.flush().unwrap();
    assert_eq!(
        std::fs::read(&path).unwrap()[3583..4097],
        [&pattern(4096)[3583..3584], &[9; 512], b"c"].concat()
    );
    drop(disk);
    std::fs::write(&path, [0; 4096]).unwrap();
    let error =
        build(&format!("vhd:{}", path.display()), &Files::default()).err().unwrap().to_string();
    assert!(error.contains("it is no VHD image"), "{error}");
}

/// A block device: of one length, and with what was on it before.
#[derive(Default)]
struct BlockDevice(RwLock<Vec<u8>>);

impl Backing for &BlockDevice {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.read().unwrap().len() as u64)
    }
    fn is_device(&self) -> bool {
        true
    }
    fn read_at(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        to.copy_from_slice(&self.0.read().unwrap()[at as usize..][..to.len()]);
        Ok(())
    }
    fn write_at(&self, at: u64, from: &[u8]) -> io::Result<()> {
        self.0.write().unwrap()[at as usize..][..from.len()].copy_from_slice(from);
        Ok(())
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::InvalidInput.into())
    }
    fn punch(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn image_on_a_device_grows_within_it() {
    let image = CrashFile::default();
    Vhd::create(&image, 3 * BYTES).unwrap();
    let mut bytes = vec![0; image.size().unwrap() as usize];
    image.read_at(0, &mut bytes).unwrap();
    let (footer, table_end) = (bytes[..512].to_vec(), bytes.len() - 512);
    let room = 2 * ((2 << 20) + 512);
    // Copied to a device that was used before, but for the end, with and without a footer there.
    for at_end in [true, false] {
        bytes.resize(table_end + 512, 0);
        bytes.resize(table_end + room, if at_end { 0xee } else { 0 });
        bytes.extend(if at_end { footer.clone() } else { vec![0; 512] });
        let device = BlockDevice(RwLock::new(bytes.clone()));
        let disk = Vhd::open(&device, true).unwrap();
        let mut model = Model::of(&[0; 3 * BYTES as usize]);
        let writes = [(7, 3, 9), (BYTES / 512, 9, 5)];
        let writes = writes.map(|(at, sectors, byte)| common::Op::Write { at, sectors, byte });
        model.run(&disk, &writes).unwrap();
        let full = disk.write(2 * BYTES, &[1; 512]).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{full}");
        disk.flush().unwrap();
        drop(disk);
        assert_eq!(device.0.read().unwrap()[table_end + room..], footer[..]);
        model.run(&Vhd::open(&device, true).unwrap(), &[]).unwrap();
    }
}
