//! Works that the storage does at once, between its own memory and the frontend's pages.

use super::Handle;
use super::grants::Grants;
use super::request::{Kind, Part, Work};
use super::storage::Storage;
use super::work::status;
use xen_abi::blkif::RSP_ERROR;
use xen_platform::Platform;

/// Does a work if its pages are at hand and the storage need not wait, and notes in each of its parts how it went; false
/// if nothing was done.
pub(super) fn carry_out<P: Platform>(
    storage: &impl Storage,
    grants: &mut Grants<P>,
    work: &mut Work,
    handle: &Handle,
) -> bool {
    if !matches!(work.kind, Kind::Read | Kind::Write) {
        return false;
    }
    let Some(outcome) = act(storage, grants, work.kind, &work.parts) else { return false };
    if outcome < 0 && work.parts.len() > 1 {
        // One that fails is not to spoil the others.
        for part in &mut work.parts {
            let alone = act(storage, grants, work.kind, core::slice::from_ref(part));
            part.status = alone.unwrap_or(RSP_ERROR);
        }
    } else {
        work.parts.iter_mut().for_each(|part| part.status = outcome);
    }
    handle.count().pages_persistent += work.parts.iter().map(|part| part.segments.len() as u64).sum::<u64>();
    true
}

/// Does parts that follow each other; the answer is their status.
fn act<P: Platform>(storage: &impl Storage, grants: &mut Grants<P>, kind: Kind, parts: &[Part]) -> Option<i16> {
    let mut pages = grants.window(parts.iter().flat_map(|part| &part.segments))?;
    let sector = parts[0].sector;
    let done = match kind {
        Kind::Read => storage.read_now(sector, &mut pages),
        _ => storage.write_now(sector, &mut pages),
    };
    done.map(status)
}
