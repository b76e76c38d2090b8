//! What is not needed once everything is open.

use caps::CapSet;
use nix::sys::prctl;
use xen_disk::Failure;

/// Gives up all capabilities and the way to new ones, in this thread and those that it makes from now on. What root owns
/// can still be opened: the devices of Xen, when a guest connects.
pub(super) fn drop() -> Result<(), Failure> {
    let failed = |error: String| Failure::other(format!("cannot give up privileges: {error}"));
    prctl::set_no_new_privs().map_err(|error| failed(error.to_string()))?;
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}
