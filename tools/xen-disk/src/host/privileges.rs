//! What is not needed once everything is open.

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use xen_disk::Failure;

/// Gives up all capabilities and the way to new ones, in this thread and those that it makes from now on. What root owns
/// can still be opened: the devices of Xen, when a guest connects.
pub(super) fn give_up() -> Result<(), Failure> {
    keep(&[])
}

/// The same, but files of other users can still be opened: those of disks whose domains come later.
pub(super) fn keep_files() -> Result<(), Failure> {
    keep(&[Capability::CAP_DAC_OVERRIDE])
}

fn keep(kept: &[Capability]) -> Result<(), Failure> {
    let failed = |error: String| Failure::other(format!("cannot give up privileges: {error}"));
    prctl::set_no_new_privs().map_err(|error| failed(error.to_string()))?;
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        caps::clear(None, set).map_err(|error| failed(error.to_string()))?;
    }
    // Only what is there can be kept.
    let have = caps::read(None, CapSet::Permitted).map_err(|error| failed(error.to_string()))?;
    let kept: CapsHashSet = kept.iter().copied().filter(|capability| have.contains(capability)).collect();
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}
