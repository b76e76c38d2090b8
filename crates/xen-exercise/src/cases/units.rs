//! In which units a backend counts on a disk of larger sectors: no key says it, and backends
//! differ.

use super::requests::{self, TIMEOUT};
use crate::raw::{Page, Raw};
use xen_abi::blkif::OP_READ;
use xen_blk::protocol::{Unit, Units};

/// Finds it out by reads near the disk's end, which are within the disk in some units and beyond it
/// in others. `sectors` is the backend's key of that name, whatever it counts; a sector of the disk
/// is `per_sector` of 512 bytes. `None` if the answers fit no convention, or there are none.
pub async fn infer(raw: &mut dyn Raw, sectors: u64, per_sector: u64) -> Option<Units> {
    // One sector of a page: with units of 512 bytes this is only a part of one.
    let segment = match is_read(raw, 0, 0).await {
        true => Unit::SectorSize,
        false => Unit::Sector512,
    };
    let last = match segment {
        Unit::SectorSize => 0,
        Unit::Sector512 => per_sector as u8 - 1,
    };
    // The last sector in each convention, those first that are far beyond the end in the next ones.
    let last_sectors = [
        (
            sectors.checked_mul(per_sector)?.checked_sub(per_sector)?,
            Unit::SectorSize,
            Unit::Sector512,
        ),
        (sectors.checked_sub(1)?, Unit::SectorSize, Unit::SectorSize),
        (sectors.checked_sub(per_sector)?, Unit::Sector512, Unit::Sector512),
        ((sectors / per_sector).checked_sub(1)?, Unit::Sector512, Unit::SectorSize),
    ];
    for (number, sectors, sector_number) in last_sectors {
        if is_read(raw, number, last).await {
            return Some(Units { sectors, sector_number, segment });
        }
    }
    None
}

async fn is_read(raw: &mut dyn Raw, number: u64, last: u8) -> bool {
    let request = requests::direct(raw, OP_READ, 1, number, &[(Page::Data(0), 0, last)]);
    requests::status_of(raw, &request, TIMEOUT).await == Some(0)
}
