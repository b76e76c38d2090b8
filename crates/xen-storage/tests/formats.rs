//! Images of other virtual machines against the model.
#![cfg(feature = "formats")]

mod common;

use common::{Folder, Model, ops};
use proptest::prelude::*;
use xen_storage::stack::{Files, build};
use xen_storage::storage::{Qcow2, Storage, create_qcow2};

const BYTES: u64 = 1 << 20;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn qcow2(ops in ops(BYTES / 512, false)) {
        let folder = Folder::new();
        let path = folder.path("disk.qcow2");
        create_qcow2(&path, BYTES).unwrap();
        let mut model = Model::of(&[0; BYTES as usize]);
        let disk = Qcow2::open(&path, true, false).unwrap();
        model.run(&disk, &ops)?;
        disk.flush().unwrap();
        drop(disk);
        model.run(&Qcow2::open(&path, false, false).unwrap(), &[])?;
    }
}

#[test]
fn qcow2_new_image_is_grown_and_opened_by_name() {
    let folder = Folder::new();
    let path = folder.path("disk.qcow2");
    create_qcow2(&path, BYTES).unwrap();
    assert!(create_qcow2(&path, BYTES).is_err(), "it is there already");
    let disk = build(&format!("qcow2:{}", path.display()), &Files::default()).unwrap();
    disk.resize(2 * BYTES).unwrap();
    disk.write(2 * BYTES - 512, &[7; 512]).unwrap();
    assert_eq!(disk.info().bytes, 2 * BYTES);
    assert!(build(&format!("vmdk:{}", path.display()), &Files::default()).is_err());
}
