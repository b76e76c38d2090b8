//! Journal of the response being written, for the successor of a backend that was killed.
//!
//! A response is written over a request before the response index moves: a backend that is killed
//! in between leaves a slot that is neither, and its successor must not take it for a request. So
//! each response is first noted in the unused bytes of the ring's head (`__pad` of io/ring.h), with
//! its index. Two entries take turns, and one that is being written does not count: the other still
//! says how far the responses went.
//!
//! The frontend can change all of this, and harms only its own responses by it.

use crate::protocol::wire::{Abi, RESPONSE_MAX};
use xen_abi::ring::{SLOTS, Sring};
use xen_platform::SharedMem;

const REQ_PROD: usize = core::mem::offset_of!(Sring, req_prod);
/// Offset of the response index.
pub(in crate::back) const RSP_PROD: usize = core::mem::offset_of!(Sring, rsp_prod);

/// An entry: an index, the same combined with [`MARK`], a response.
const ENTRY: usize = 8 + RESPONSE_MAX;
const _: () = assert!(size_of::<Sring>() + 2 * ENTRY <= SLOTS);

/// Difference between the first and the second word of an entry: no value that pages are filled
/// with.
const MARK: u32 = 0x6a72_6e6c;

fn entry(index: u32) -> usize {
    size_of::<Sring>() + (index as usize % 2) * ENTRY
}

/// Notes the response that is about to be written at `index`.
pub(in crate::back) fn note(page: &impl SharedMem, index: u32, response: &[u8; RESPONSE_MAX]) {
    let at = entry(index);
    page.store(at + 4, index);
    page.store(at, index);
    page.write(at + 8, response);
    page.store(at + 4, index ^ MARK);
}

/// Finishes the response that the last backend was writing when it was killed, on a ring of `slots`
/// slots of `abi`.
pub(in crate::back) fn recover(page: &impl SharedMem, slots: u32, abi: Abi) {
    let (req_prod, rsp_prod) = (page.load(REQ_PROD), page.load(RSP_PROD));
    let open = req_prod.wrapping_sub(rsp_prod);
    if open > slots {
        // The indices are impossible, as attaching will find.
        return;
    }
    let valid = [entry(0), entry(1)].into_iter().filter_map(|at| {
        let index = page.load(at);
        let ahead = index.wrapping_sub(rsp_prod);
        (page.load(at + 4) == index ^ MARK && ahead < open).then_some((ahead, at))
    });
    let Some((ahead, at)) = valid.max() else { return };
    let index = rsp_prod.wrapping_add(ahead);
    let mut response = [0; RESPONSE_MAX];
    page.read(at + 8, &mut response);
    page.write(SLOTS + (index & (slots - 1)) as usize * abi.slot(), &response[..abi.response()]);
    page.store(RSP_PROD, index.wrapping_add(1));
}
