//! Copies from a file into an object store and back, and how far they tell that they are.
#![cfg(feature = "object")]

#[path = "../../../crates/xen-storage/tests/common/mod.rs"]
mod common;

use common::Folder;
use tools_common::Progress;
use xen_disk::storage::object::CHUNK;
use xen_disk::{ConvertArguments, convert};

/// A little more than one chunk.
const BYTES: u64 = CHUNK as u64 + 24 * 512;

/// The steps that were told.
#[derive(Default)]
struct Steps(Vec<u64>, bool);

impl Progress for Steps {
    fn begin(&mut self, _what: &str, bytes: u64) {
        self.0.push(bytes);
    }
    fn done(&mut self, bytes: u64) {
        self.0.push(bytes);
    }
    fn end(&mut self) {
        self.1 = true;
    }
}

#[test]
fn an_image_is_copied_into_a_store_and_back() {
    let folder = Folder::new();
    let mut bytes = vec![0; BYTES as usize];
    bytes[3 * 512] = 7;
    std::fs::write(folder.path("image"), &bytes).unwrap();
    let place = |name: &str| folder.path(name).display().to_string();
    let (image, again) = (format!("file:{}", place("image")), format!("file:{}", place("again")));
    let disk = format!("object:{},name=copy", place("store"));
    for (source, destination) in [(&image, &disk), (&disk, &again)] {
        let args = ConvertArguments { source: source.clone(), destination: destination.clone() };
        let mut steps = Steps::default();
        let copied = convert(&args, &mut steps).unwrap();
        assert_eq!(
            (copied.bytes, copied.written),
            (BYTES, 4096),
            "{destination}: zeros are left out"
        );
        assert_eq!((steps.0[0], *steps.0.last().unwrap()), (BYTES, BYTES));
        assert!(steps.1);
    }
    assert!(std::fs::read(folder.path("again")).unwrap() == bytes);
    // The length of chunks is the disk's.
    let args = ConvertArguments { source: image, destination: format!("{disk}-2,chunk=4K") };
    convert(&args, &mut Steps::default()).unwrap();
    let head = std::fs::read_to_string(folder.path("store/disks/copy-2")).unwrap();
    assert!(head.contains("\"chunk\":4096"), "{head}");
    let wrong = ConvertArguments { destination: format!("{disk}-3,chunk=5000"), ..args };
    assert!(
        convert(&wrong, &mut Steps::default()).unwrap_err().to_string().contains("a power of two")
    );
}
