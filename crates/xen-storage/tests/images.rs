//! Images that other programs made, or a guest forged, one of each kind that was served wrongly.

mod common;

use common::{Folder, pattern};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use xen_storage::stack::{Files, build, create};
use xen_storage::storage::Storage;

const BYTES: u64 = 1 << 20;

fn open(kind: &str, path: &Path, options: &str) -> Result<Arc<dyn Storage>, String> {
    let stack = format!("{kind}:{}{options}", path.display());
    build(&stack, &Files::default()).map_err(|error| error.to_string())
}

fn refused(kind: &str, path: &Path, options: &str, words: &str) {
    let error = open(kind, path, options).err().expect("it is opened");
    assert!(error.contains(words), "{error}");
}

fn contents(disk: &dyn Storage) -> Vec<u8> {
    let mut bytes = vec![0; disk.info().bytes as usize];
    disk.read(0, &mut bytes).unwrap();
    bytes
}

/// Makes a dynamic VHD and returns its bytes.
fn dynamic(folder: &Folder, bytes: u64) -> Vec<u8> {
    let path = folder.path("dynamic.vhd");
    let _ = fs::remove_file(&path);
    create(&format!("vhd:{}", path.display()), bytes).unwrap();
    fs::read(path).unwrap()
}

/// Makes the footer of a fixed image out of that of a dynamic one.
fn fixed_footer(dynamic: &[u8]) -> Vec<u8> {
    let mut footer = dynamic[..512].to_vec();
    footer[63] = 2;
    let sum = u32::from_be_bytes(footer[64..68].try_into().unwrap()) + 1;
    footer[64..68].copy_from_slice(&sum.to_be_bytes());
    footer
}

#[test]
fn vhd_fixed_with_a_dynamic_head_stays_fixed() {
    let folder = Folder::new();
    // The guest wrote the beginning of a much longer dynamic image into its first sectors.
    let forged = dynamic(&folder, 1 << 40);
    let footer = fixed_footer(&dynamic(&folder, BYTES));
    let mut data = pattern(BYTES);
    data[..2048].copy_from_slice(&forged[..2048]);
    let path = folder.path("fixed.vhd");
    fs::write(&path, [&data[..], &footer].concat()).unwrap();
    let disk = open("vhd", &path, "").unwrap();
    assert_eq!(disk.info().bytes, BYTES);
    assert!(contents(&*disk) == data);
    drop(disk);
    // Without the footer, what the guest wrote is believed no more than before.
    for len in [BYTES, BYTES + 4096] {
        fs::write(&path, &data).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
        refused("vhd", &path, "", "no footer at its end");
    }
}

#[test]
fn vhd_footer_of_511_bytes_is_read() {
    let folder = Folder::new();
    let footer = fixed_footer(&dynamic(&folder, BYTES));
    let path = folder.path("short.vhd");
    fs::write(&path, [&pattern(BYTES)[..], &footer[..511]].concat()).unwrap();
    let disk = open("vhd", &path, "").unwrap();
    assert!(disk.info().bytes == BYTES && contents(&*disk) == pattern(BYTES));
    disk.write(BYTES - 512, &[7; 512]).unwrap();
    disk.flush().unwrap();
    drop(disk);
    assert_eq!(open("vhd", &path, "").unwrap().info().bytes, BYTES);
    assert_eq!(fs::metadata(&path).unwrap().len(), BYTES + 511);
}

#[test]
fn vhd_blocks_at_wrong_places_are_refused() {
    let folder = Folder::new();
    let image = dynamic(&folder, 6 << 20);
    let path = folder.path("image.vhd");
    let block = 512 + (2 << 20);
    let at = |entries: [u32; 3]| {
        let mut bytes = image.clone();
        let footer = bytes.split_off(bytes.len() - 512);
        for (number, entry) in entries.iter().enumerate() {
            bytes[1536 + 4 * number..][..4].copy_from_slice(&entry.to_be_bytes());
        }
        bytes.resize(2048 + 2 * block, 0);
        fs::write(&path, [bytes, footer].concat()).unwrap();
    };
    let none = u32::MAX;
    let next = 4 + block as u32 / 512;
    at([4, none, next]);
    assert_eq!(open("vhd", &path, "").unwrap().info().bytes, 6 << 20);
    for (entries, words) in [
        ([4, none, 11], "blocks 0 and 2 of the image overlap"),
        ([4, none, 4], "overlap"),
        ([0, none, none], "lies over the copy of the footer"),
        ([2, none, none], "lies over the header"),
        ([3, none, none], "lies over the table"),
        ([none, none, next + 1], "behind the end"),
        ([none, none, none - 1], "behind the end"),
    ] {
        at(entries);
        refused("vhd", &path, "", words);
    }
}

#[test]
fn vhd_bitmap_with_clear_bits_is_heeded() {
    let folder = Folder::new();
    let path = folder.path("dynamic.vhd");
    dynamic(&folder, 4 << 20);
    let disk = open("vhd", &path, "").unwrap();
    disk.write(0, &[7; 4096]).unwrap();
    disk.flush().unwrap();
    drop(disk);
    // Of the block's first eight sectors the second is there, as another program says.
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    let mut entry = [0; 4];
    file.read_exact_at(&mut entry, 1536).unwrap();
    let bitmap = u64::from(u32::from_be_bytes(entry)) * 512;
    file.write_all_at(&[0; 512], bitmap).unwrap();
    file.write_all_at(&[0x40], bitmap).unwrap();
    let disk = open("vhd", &path, "").unwrap();
    let found = |disk: &dyn Storage| {
        let sectors: Vec<u8> = contents(disk)[..4096].chunks(512).map(|s| s[0]).collect();
        sectors
    };
    assert_eq!(found(&*disk), [0, 7, 0, 0, 0, 0, 0, 0]);
    disk.write(1024, &[9; 512]).unwrap();
    assert_eq!(found(&*disk), [0, 7, 9, 0, 0, 0, 0, 0]);
    drop(disk);
    assert_eq!(found(&*open("vhd", &path, "").unwrap()), [0, 7, 9, 0, 0, 0, 0, 0]);
    // A program that keeps no bitmaps leaves them clear.
    file.write_all_at(&[0; 512], bitmap).unwrap();
    let disk = open("vhd", &path, "").unwrap();
    assert_eq!(found(&*disk), [7, 7, 9, 7, 7, 7, 7, 7]);
    disk.write(0, &[1; 512]).unwrap();
    drop(disk);
    let mut bits = [0; 512];
    file.read_exact_at(&mut bits, bitmap).unwrap();
    assert_eq!(bits, [0xff; 512], "a program that heeds them finds all sectors");
}

#[test]
fn vhd_new_image_has_a_name_and_a_time() {
    let folder = Folder::new();
    let (one, other) = (dynamic(&folder, BYTES), dynamic(&folder, BYTES));
    assert_ne!(one[68..84], other[68..84]);
    let seconds = u32::from_be_bytes(one[24..28].try_into().unwrap());
    assert!(seconds > 20 * 365 * 86400, "{seconds} seconds since the year 2000");
}

fn vmdk(folder: &Folder, name: &[u8], keys: &str, extent: &str) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let flat = folder.path("").join(std::ffi::OsStr::from_bytes(name));
    fs::write(flat, pattern(BYTES)).unwrap();
    let path = folder.path("disk.vmdk");
    let head = format!(
        "# Disk DescriptorFile\nversion=1\n{keys}CID=fffffffe\nparentCID=ffffffff\n\n\
         # Extent description\nRW 2048 {extent} \""
    );
    let tail = if extent == "FLAT" { "\" 0\n" } else { "\"\n" };
    fs::write(&path, [head.as_bytes(), name, tail.as_bytes()].concat()).unwrap();
    path
}

#[test]
fn vmdk_descriptors_of_vmware_are_read() {
    let folder = Folder::new();
    for (name, keys, extent) in [
        (&b"m-flat.vmdk"[..], "encoding=\"UTF-8\"\ncreateType=\"monolithicFlat\"\n", "FLAT"),
        (b"m-flat.vmdk", "createType=\"vmfs\"\n", "VMFS"),
        (b"m-flat.vmdk", "isNativeSnapshot=\"no\"\ncreateType=\"vmfs\"\n", "VMFS"),
        (b"m-flat.vmdk", "changeTrackPath=\"m-ctk.vmdk\"\ncreateType=\"vmfs\"\n", "VMFS"),
        (b"b\xfcro-flat.vmdk", "encoding=\"windows-1252\"\n", "FLAT"),
    ] {
        let path = vmdk(&folder, name, keys, extent);
        let disk = open("vmdk", &path, ",trusted").unwrap();
        assert!(contents(&*disk) == pattern(BYTES), "{keys}");
        assert!(disk.info().read_only);
        refused("vmdk", &path, "", "trusted");
    }
}

#[test]
fn vmdk_extent_that_is_too_short_is_refused() {
    let folder = Folder::new();
    let path = vmdk(&folder, b"flat", "", "VMFS");
    fs::write(folder.path("flat"), pattern(BYTES - 512)).unwrap();
    refused("vmdk", &path, ",trusted", "too short");
    fs::remove_file(folder.path("flat")).unwrap();
    refused("vmdk", &path, ",trusted", "flat");
}

#[cfg(feature = "formats")]
#[test]
fn qcow2_that_cannot_be_served_names_the_cure() {
    let folder = Folder::new();
    let path = folder.path("image.qcow2");
    create(&format!("qcow2:{}", path.display()), BYTES).unwrap();
    let whole = fs::read(&path).unwrap();
    let big = |number: u64, len: usize| number.to_be_bytes()[8 - len..].to_vec();
    for (at, bytes, words) in [
        (32, big(1, 4), "encrypted (AES)"),
        (32, big(2, 4), "encrypted (LUKS)"),
        (4, big(1, 4), "version 1"),
        (72, big(1, 8), "qemu-img check -r all"),
        (72, big(2, 8), "qemu-img check -r all"),
        (72, big(4, 8), "trusted"),
        (72, big(8, 8), "compression_type=zlib"),
        (72, big(16, 8), "extended_l2=off"),
        (72, big(1 << 40, 8), "not known here"),
    ] {
        let mut damaged = whole.clone();
        damaged[at..at + bytes.len()].copy_from_slice(&bytes);
        fs::write(&path, damaged).unwrap();
        for options in ["", ",ro"] {
            refused("qcow2", &path, options, words);
        }
    }
}

#[cfg(feature = "formats")]
#[test]
fn qcow2_over_an_encrypted_image_is_refused() {
    let folder = Folder::new();
    let path = folder.path("below.qcow2");
    create(&format!("qcow2:{}", path.display()), BYTES).unwrap();
    let qemu = |words: &str| {
        let mut command = std::process::Command::new("qemu-img");
        let done = command.args(words.split(' ')).current_dir(folder.path("")).status().unwrap();
        assert!(done.success(), "{words}");
    };
    qemu("create -q -f qcow2 -b below.qcow2 -F qcow2 top.qcow2");
    fs::File::options().write(true).open(&path).unwrap().write_all_at(&[2], 35).unwrap();
    refused("qcow2", &folder.path("top.qcow2"), ",trusted", "encrypted (LUKS)");
}
