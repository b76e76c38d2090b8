//! Checksums: of a disk as somebody else wrote it, against a table of them on another disk.

mod common;

use common::{Contents, Defect, Ran, on_array};
use std::rc::Rc;
use xen_exercise::SECTOR;

const XVDB: u32 = 51728;

/// CRC-32C, a bit at a time.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

/// Bytes in no order that could fit by chance.
fn data(sectors: u64) -> Vec<u8> {
    let mut state = 1u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..sectors as usize * SECTOR).map(|_| byte()).collect()
}

/// A disk with data, and the disk with the checksums of its sectors.
fn disks(
    sectors: u64,
    sector_size: u32,
    defect: Option<Defect>,
) -> (Vec<u8>, Rc<Contents>, Rc<Contents>) {
    let data = data(sectors);
    let disk = Contents::new(sectors, sector_size, defect);
    disk.write(0, &data, false);
    let mut table: Vec<u8> =
        data.chunks(SECTOR).flat_map(|sector| crc(sector).to_le_bytes()).collect();
    table.resize(table.len().next_multiple_of(4096), 0);
    let sums = Contents::new((table.len() / SECTOR) as u64, sector_size, None);
    sums.write(0, &table, false);
    (data, disk, sums)
}

fn runs(options: &str, disk: &Rc<Contents>, sums: &Rc<Contents>) -> Ran {
    let line = format!("blk.run=sum blk.disk=xvda {options}");
    on_array(&line, disk.clone(), |env| env.disks.push((XVDB, sums.clone())))
}

#[test]
fn parts_and_whole_have_checksums() {
    for (sectors, sector_size) in [(2060, 512), (2056, 4096), (1, 512)] {
        let (data, disk, sums) = disks(sectors, sector_size, None);
        let ran = runs("blk.size=all blk.sums=xvdb", &disk, &sums);
        assert_eq!(ran.verdict.passed, 1, "{}", ran.text);
        for (number, part) in data.chunks(2048 * SECTOR).enumerate() {
            let (first, count, sum) = (number * 2048, part.len() / SECTOR, crc(part));
            let line = format!(
                "{{\"sum\":\"xvda\",\"first\":{first},\"sectors\":{count},\"crc32c\":\"{sum:08x}\"}}\n"
            );
            assert!(ran.text.contains(&line), "no {line} in {}", ran.text);
        }
        let whole = format!("{:08x}", crc(&data));
        let line = format!("{{\"sum\":\"xvda\",\"sectors\":{sectors},\"crc32c\":\"{whole}\"}}\n");
        assert!(ran.text.contains(&line), "no {line} in {}", ran.text);
        assert!(ran.published.contains(&("xvda/crc32c".to_string(), whole)), "{:?}", ran.published);
    }
}

#[test]
fn changed_sector_is_named() {
    let (_, disk, sums) = disks(1100, 512, None);
    for number in [0, 129, 1099] {
        let mut sector = [0; SECTOR];
        disk.read(number, &mut sector);
        sector[99] ^= 0x10;
        disk.write(number, &sector, false);
    }
    let ran = runs("blk.size=all blk.sums=xvdb", &disk, &sums);
    assert_eq!(ran.verdict.failed, 1, "{}", ran.text);
    assert!(ran.text.contains("  message: 3 of 1101 checks failed\n"), "{}", ran.text);
    for number in [0, 129, 1099] {
        assert!(
            ran.text.contains(&format!("sector {number} has the checksum ")),
            "{number}: {}",
            ran.text
        );
    }
    let ran = runs("blk.first=130 blk.size=128K blk.sums=xvdb", &disk, &sums);
    assert_eq!(ran.verdict.passed, 1, "a part that has not changed: {}", ran.text);
    let ran = runs("blk.first=129 blk.size=512 blk.sums=xvdb", &disk, &sums);
    assert!(ran.text.contains("message: 1 of 2 checks failed"), "{}", ran.text);
}

#[test]
fn unreadable_part_has_no_checksum_and_others_have() {
    let (_, disk, sums) = disks(2048, 512, Some(Defect::FailsReads));
    let ran = runs("blk.size=all blk.sums=xvdb", &disk, &sums);
    assert_eq!(ran.verdict.failed, 1);
    assert!(ran.text.contains("\"sectors\":2048,\"crc32c\":null}"), "{}", ran.text);
    // Every fifth of the 16 reads, and not one.
    assert!(ran.text.contains("  message: 3 of "), "{}", ran.text);
}

#[test]
fn short_or_missing_table_fails() {
    let (_, disk, _) = disks(1024, 512, None);
    let ran = runs("blk.size=all blk.sums=xvdb", &disk, &Contents::new(8, 512, None));
    assert_eq!(ran.verdict.failed, 1, "{}", ran.text);
    let ran = on_array("blk.run=sum blk.sums=xvdb blk.disk=xvda", disk, |_| {});
    assert!(ran.text.contains("there is no such disk"), "{}", ran.text);
}

#[test]
fn tests_stay_within_the_named_part() {
    let (data, disk, sums) = disks(8192, 512, None);
    let line = "blk.run=seq,rand,verify,write,flush,barrier,discard,features,lifecycle blk.disk=xvda blk.destroy=xvda \
                blk.first=4096 blk.size=128K blk.loops=2";
    let ran = on_array(line, disk.clone(), |_| {});
    assert_eq!(ran.verdict.failed, 0, "{}", ran.text);
    let mut now = vec![0; data.len()];
    disk.read(0, &mut now);
    let part = 4096 * SECTOR..4352 * SECTOR;
    assert!(now[part.clone()] != data[part.clone()], "nothing was written");
    assert!(
        now[..part.start] == data[..part.start] && now[part.end..] == data[part.end..],
        "something else was"
    );
    for line in ["blk.first=8192", "blk.first=9000"] {
        let ran = runs(line, &disk, &sums);
        assert!(
            ran.text.contains("no sector of a disk of 8192 begins there"),
            "{line}: {}",
            ran.text
        );
    }
}
