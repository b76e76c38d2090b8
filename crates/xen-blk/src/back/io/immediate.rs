//! Operations that the storage carries out at once, between its own memory and the frontend's
//! pages.

use super::grants::Grants;
use super::operation::{Operation, status};
use super::request::{Kind, Request};
use crate::back::handle::Handle;
use crate::back::storage::Storage;
use xen_abi::blkif::RSP_ERROR;
use xen_platform::Platform;

/// Carries an operation out if its pages are mapped and the storage does not block, and sets the
/// status of each of its requests; returns false if nothing was done.
pub(in crate::back) fn carry_out<P: Platform>(
    storage: &impl Storage,
    grants: &mut Grants<P>,
    operation: &mut Operation,
    handle: &Handle,
) -> bool {
    let Operation { kind, requests, .. } = operation;
    if !matches!(kind, Kind::Read | Kind::Write) {
        return false;
    }
    let Some(outcome) = act(storage, grants, *kind, requests) else { return false };
    if outcome < 0 && requests.len() > 1 {
        // A request that fails must not spoil the others.
        for request in requests.iter_mut() {
            let alone = act(storage, grants, *kind, core::slice::from_ref(request));
            request.status = alone.unwrap_or(RSP_ERROR);
        }
    } else {
        requests.iter_mut().for_each(|request| request.status = outcome);
    }
    handle.count().pages_persistent +=
        requests.iter().map(|request| request.segments.len() as u64).sum::<u64>();
    true
}

/// Carries out requests that follow each other on the disk, and returns their status.
fn act<P: Platform>(
    storage: &impl Storage,
    grants: &mut Grants<P>,
    kind: Kind,
    requests: &[Request],
) -> Option<i16> {
    let mut pages = grants.window(requests.iter().flat_map(|request| &request.segments))?;
    let sector = requests[0].sector;
    let done = match kind {
        Kind::Read => storage.read_now(sector, &mut pages),
        _ => storage.write_now(sector, &mut pages),
    };
    done.map(status)
}
