//! The data of a rogue's disk: what is written can be read, and the rest is zeros.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use xen_abi::blkif::{RSP_EOPNOTSUPP, RSP_ERROR, RSP_OKAY};
use xen_blk::protocol::wire::{Decoded, Op, RawRequest, Segment};
use xen_platform::{Access, CopySegment, DomId, Platform};

/// Bytes of a sector.
const SECTOR: usize = 512;
/// Sectors of the disk.
pub(crate) const SECTORS: u64 = 32768;

/// The sectors that were written.
#[derive(Default)]
pub(crate) struct Disk(RefCell<BTreeMap<u64, [u8; SECTOR]>>);

impl Disk {
    /// Carries out a request of domain `peer`, and returns its status.
    pub fn carry_out<P: Platform>(&self, platform: &P, peer: DomId, request: &Decoded) -> i16 {
        match &request.request {
            Ok(RawRequest::Direct { op: Op::Flush, .. }) => RSP_OKAY,
            Ok(RawRequest::Direct { op, sector, segments }) => {
                self.move_all(platform, peer, *op, *sector, segments)
            }
            Ok(_) => RSP_EOPNOTSUPP,
            Err(malformed) => malformed.status(),
        }
    }

    fn move_all<P: Platform>(
        &self,
        platform: &P,
        peer: DomId,
        op: Op,
        mut sector: u64,
        segments: &[Segment],
    ) -> i16 {
        for segment in segments {
            let count = segment.sectors();
            if sector.checked_add(count).is_none_or(|end| end > SECTORS) {
                return RSP_ERROR;
            }
            let mut bytes = vec![0; count as usize * SECTOR];
            let at = usize::from(segment.first) * SECTOR;
            let reads = op == Op::Read;
            if reads {
                self.read(sector, &mut bytes);
            }
            let mut pieces = [match reads {
                true => CopySegment::to_peer(segment.gref, at, &bytes),
                false => CopySegment::from_peer(segment.gref, at, &mut bytes),
            }];
            if platform.copy(peer, &mut pieces).is_err() || !pieces[0].is_copied() {
                return RSP_ERROR;
            }
            if !reads {
                self.write(sector, &bytes);
            }
            sector += count;
        }
        RSP_OKAY
    }

    fn read(&self, first: u64, to: &mut [u8]) {
        let sectors = self.0.borrow();
        for (number, to) in (first..).zip(to.chunks_mut(SECTOR)) {
            if let Some(sector) = sectors.get(&number) {
                to.copy_from_slice(sector);
            }
        }
    }

    fn write(&self, first: u64, from: &[u8]) {
        let mut sectors = self.0.borrow_mut();
        for (number, from) in (first..).zip(from.chunks_exact(SECTOR)) {
            sectors.insert(number, from.try_into().expect("a chunk is a sector"));
        }
    }
}

/// Maps the pages of a request, as many as the hypervisor permits.
pub(crate) fn map_pages<P: Platform>(platform: &P, peer: DomId, request: &Decoded) -> Vec<P::Map> {
    let Ok(RawRequest::Direct { segments, .. }) = &request.request else { return Vec::new() };
    let map = |segment: &Segment| platform.map(peer, &[segment.gref], Access::ReadOnly).ok();
    segments.iter().filter_map(map).collect()
}
