//! Moving lists of segments and data between the frontend's pages and private memory, for a whole batch at a time.

use super::Handle;
use super::grants::Grants;
use super::request::{Kind, Work};
use crate::wire::{self, Body, Malformed, Segment};
use alloc::vec::Vec;
use xen_abi::blkif::{self, RSP_ERROR, RSP_OKAY, SEGMENTS_PER_INDIRECT_PAGE};
use xen_platform::{PAGE_SIZE, Piece, Platform};

/// The most bytes that a request can move.
pub(super) fn most_bytes(body: &Body) -> usize {
    match body {
        Body::Direct { segments, .. } => segments.len() * PAGE_SIZE,
        Body::Indirect { count, .. } => count * PAGE_SIZE,
        Body::Discard { .. } => 0,
    }
}

/// The segments of the indirect requests, copied in one go: read once, and checked afterwards.
pub(super) fn lists<P: Platform>(
    grants: &mut Grants<P>,
    batch: &[(u64, Body)],
    handle: &Handle,
) -> Vec<Result<Vec<Segment>, i16>> {
    let indirect = batch.iter().filter_map(|(_, body)| match body {
        Body::Indirect { count, pages, .. } => Some((*count, pages)),
        _ => None,
    });
    let mut bytes: Vec<Vec<u8>> =
        indirect.clone().map(|(count, _)| alloc::vec![0; count * size_of::<blkif::Segment>()]).collect();
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut pieces = Vec::new();
    for ((_, pages), bytes) in indirect.clone().zip(&mut bytes) {
        let parts = bytes.chunks_mut(SEGMENTS_PER_INDIRECT_PAGE * size_of::<blkif::Segment>());
        pieces.extend(pages.iter().zip(parts).map(|(gref, part)| Piece::from_peer(*gref, 0, part)));
    }
    let mut copied = grants.transfer(pieces, &mut handle.count()).into_iter();
    indirect
        .zip(&bytes)
        .map(|((_, pages), bytes)| match all(&mut copied, pages.len()) {
            true => wire::segments(bytes).map_err(Malformed::status),
            false => Err(RSP_ERROR),
        })
        .collect()
}

/// Whether the next `count` pieces were all copied. Takes them all in any case.
fn all(copied: &mut impl Iterator<Item = bool>, count: usize) -> bool {
    copied.take(count).fold(true, |all, one| all & one)
}

/// Gets the data of all works that bring some.
pub(super) fn fetch<P: Platform>(grants: &mut Grants<P>, works: &mut [Work], handle: &Handle) {
    transfer(grants, works, false, handle)
}

/// Hands out the data of all works that read some.
pub(super) fn hand_out<P: Platform>(grants: &mut Grants<P>, works: &mut [Work], handle: &Handle) {
    transfer(grants, works, true, handle)
}

/// Copies the data of all works that move some in that direction; who cannot be reached fails alone.
fn transfer<P: Platform>(grants: &mut Grants<P>, works: &mut [Work], to_peer: bool, handle: &Handle) {
    let moves = |work: &Work| if to_peer { work.kind == Kind::Read } else { work.brings_data() };
    let mut pieces = Vec::new();
    for work in works.iter_mut().filter(|work| moves(work)) {
        let Work { buffer, parts, .. } = work;
        let mut rest = buffer.bytes_mut();
        for part in parts.iter() {
            let (mut bytes, more) = core::mem::take(&mut rest).split_at_mut(part.bytes.len());
            rest = more;
            for segment in part.segments.iter().filter(|_| part.status == RSP_OKAY) {
                let (piece, more) = bytes.split_at_mut(segment.sectors() as usize * blkif::SECTOR);
                bytes = more;
                let at = usize::from(segment.first) * blkif::SECTOR;
                pieces.push(match to_peer {
                    true => Piece::to_peer(segment.gref, at, piece),
                    false => Piece::from_peer(segment.gref, at, piece),
                });
            }
        }
    }
    if pieces.is_empty() {
        return;
    }
    let mut copied = grants.transfer(pieces, &mut handle.count()).into_iter();
    for part in works.iter_mut().filter(|work| moves(work)).flat_map(|work| &mut work.parts) {
        if part.status == RSP_OKAY && !all(&mut copied, part.segments.len()) {
            part.status = RSP_ERROR;
        }
    }
}
