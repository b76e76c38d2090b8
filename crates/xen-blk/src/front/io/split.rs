//! Sizes of requests and segments.

use crate::front::xenbus::negotiate::Limits;
use crate::protocol::wire::Segment;
use xen_abi::blkif::{MAX_SEGMENTS_PER_REQUEST, SEGMENTS_PER_INDIRECT_PAGE};
use xen_platform::{GrantRef, PAGE_SIZE};

/// Returns the number of bytes of the next request, when `rest` bytes are left that begin at the
/// offset `within` of their first page: whole sectors of the disk, in at most `segments` pages,
/// which are at least two if `within` is not 0.
pub(crate) fn piece(rest: usize, within: usize, segments: u32, sector_size: u32) -> usize {
    let most = segments as usize * PAGE_SIZE - within;
    match rest <= most {
        true => rest,
        false => most - most % sector_size as usize,
    }
}

/// Returns the number of segments of `len` bytes that begin at the offset `within` of their first
/// page.
pub(crate) fn segments(len: usize, within: usize) -> usize {
    (within + len).div_ceil(PAGE_SIZE)
}

/// Returns the number of pages for a list of `segments` segments.
pub(crate) fn lists(segments: usize) -> usize {
    match segments <= MAX_SEGMENTS_PER_REQUEST {
        true => 0,
        false => segments.div_ceil(SEGMENTS_PER_INDIRECT_PAGE),
    }
}

/// Returns the segment in page `number`, of `len` bytes that begin at the offset `within` of page
/// 0.
pub(crate) fn segment(
    number: usize,
    gref: GrantRef,
    len: usize,
    within: usize,
    limits: &Limits,
) -> Segment {
    let unit = limits.segment_unit as usize;
    let start = if number == 0 { within } else { 0 };
    let end = (within + len - number * PAGE_SIZE).min(PAGE_SIZE);
    Segment { gref, first: (start / unit) as u8, last: (end / unit - 1) as u8 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_and_segments_cover_the_request_once(
            sector_shift in 9u32..=12,
            whole in 1usize..3000,
            start in 0usize..8,
            many in 11u32..=4096,
        ) {
            let sector_size = 1 << sector_shift;
            let len = whole * sector_size as usize;
            // A zero-copy buffer can begin at any sector of 512 bytes in its page.
            let mut at = start * 512;
            let end = at + len;
            let limits = Limits { sector_size, segments: many, indirect: true, number_unit: 1, segment_unit: 512 };
            let mut covered = Vec::new();
            while at < end {
                let within = at % PAGE_SIZE;
                let len = piece(end - at, within, many, sector_size);
                prop_assert!(len > 0 && len % (sector_size as usize) == 0 && len <= end - at);
                let count = segments(len, within);
                prop_assert!(count <= many as usize && lists(count) <= 8);
                let first_page = at / PAGE_SIZE;
                let mut sum = 0;
                for number in 0..count {
                    let segment = segment(number, GrantRef(0), len, within, &limits);
                    prop_assert!(segment.first <= segment.last && segment.last < 8);
                    covered.push((first_page + number, segment.first, segment.last));
                    sum += segment.sectors() as usize * 512;
                }
                prop_assert_eq!(sum, len);
                at += len;
            }
            // Each sector of each page exactly once, in order, without a gap.
            let sectors: Vec<usize> =
                covered.iter().flat_map(|&(page, first, last)| (first..=last).map(move |s| page * 8 + usize::from(s))).collect();
            let expected: Vec<usize> = (start..start + len / 512).collect();
            prop_assert_eq!(sectors, expected);
        }

        #[test]
        fn large_units_name_whole_pages(pages in 1usize..600) {
            let limits = Limits { sector_size: 4096, segments: 4096, indirect: true, number_unit: 8, segment_unit: 4096 };
            for number in 0..pages {
                let segment = segment(number, GrantRef(7), pages * PAGE_SIZE, 0, &limits);
                prop_assert_eq!((segment.first, segment.last), (0, 0));
            }
        }
    }
}
