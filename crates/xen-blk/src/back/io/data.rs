//! Moving lists of segments and data between the frontend's pages and private memory, for a whole
//! batch at a time.

use super::grants::Grants;
use super::operation::Operation;
use super::request::Kind;
use crate::back::handle::Handle;
use crate::protocol::wire::{self, Malformed, RawRequest, Segment};
use alloc::vec::Vec;
use xen_abi::blkif::{self, RSP_ERROR, RSP_OKAY, SEGMENTS_PER_INDIRECT_PAGE};
use xen_platform::{CopySegment, PAGE_SIZE, Platform};

/// Returns the largest number of bytes that a request can move.
pub(in crate::back) fn max_bytes(request: &RawRequest) -> usize {
    match request {
        RawRequest::Direct { segments, .. } => segments.len() * PAGE_SIZE,
        RawRequest::Indirect { count, .. } => count * PAGE_SIZE,
        RawRequest::Discard { .. } => 0,
    }
}

/// Copies the lists of segments of all indirect requests in one go: read once, and checked
/// afterwards.
pub(in crate::back) fn lists<P: Platform>(
    grants: &mut Grants<P>,
    batch: &[(u64, RawRequest)],
    handle: &Handle,
) -> Vec<Result<Vec<Segment>, i16>> {
    let indirect = batch.iter().filter_map(|(_, request)| match request {
        RawRequest::Indirect { count, pages, .. } => Some((*count, pages)),
        _ => None,
    });
    let mut bytes: Vec<Vec<u8>> = indirect
        .clone()
        .map(|(count, _)| alloc::vec![0; count * size_of::<blkif::Segment>()])
        .collect();
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut pieces = Vec::new();
    for ((_, pages), bytes) in indirect.clone().zip(&mut bytes) {
        let parts = bytes.chunks_mut(SEGMENTS_PER_INDIRECT_PAGE * size_of::<blkif::Segment>());
        pieces.extend(
            pages.iter().zip(parts).map(|(gref, part)| CopySegment::from_peer(*gref, 0, part)),
        );
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

/// Tells if the next `count` pieces were all copied. Takes them all in any case.
fn all(copied: &mut impl Iterator<Item = bool>, count: usize) -> bool {
    copied.take(count).fold(true, |all, one| all & one)
}

/// Copies the data of all operations that write from the frontend.
pub(in crate::back) fn copy_from_peer<P: Platform>(
    grants: &mut Grants<P>,
    operations: &mut [Operation],
    handle: &Handle,
) {
    transfer(grants, operations, false, handle)
}

/// Copies the data of all operations that read to the frontend.
pub(in crate::back) fn copy_to_peer<P: Platform>(
    grants: &mut Grants<P>,
    operations: &mut [Operation],
    handle: &Handle,
) {
    transfer(grants, operations, true, handle)
}

/// Copies the data of all operations that move some in that direction. A request whose pages cannot
/// be reached fails alone.
fn transfer<P: Platform>(
    grants: &mut Grants<P>,
    operations: &mut [Operation],
    to_peer: bool,
    handle: &Handle,
) {
    let moves = |operation: &Operation| {
        if to_peer { operation.kind == Kind::Read } else { operation.brings_data() }
    };
    let mut pieces = Vec::new();
    for operation in operations.iter_mut().filter(|operation| moves(operation)) {
        let Operation { buffer, requests, .. } = operation;
        let mut rest = buffer.bytes_mut();
        for request in requests.iter() {
            let (mut bytes, more) = core::mem::take(&mut rest).split_at_mut(request.bytes.len());
            rest = more;
            for segment in request.segments.iter().filter(|_| request.status == RSP_OKAY) {
                let (piece, more) = bytes.split_at_mut(segment.sectors() as usize * blkif::SECTOR);
                bytes = more;
                let at = usize::from(segment.first) * blkif::SECTOR;
                pieces.push(match to_peer {
                    true => CopySegment::to_peer(segment.gref, at, piece),
                    false => CopySegment::from_peer(segment.gref, at, piece),
                });
            }
        }
    }
    if pieces.is_empty() {
        return;
    }
    let mut copied = grants.transfer(pieces, &mut handle.count()).into_iter();
    for request in operations
        .iter_mut()
        .filter(|operation| moves(operation))
        .flat_map(|operation| &mut operation.requests)
    {
        if request.status == RSP_OKAY && !all(&mut copied, request.segments.len()) {
            request.status = RSP_ERROR;
        }
    }
}
