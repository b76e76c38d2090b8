//! What is not needed once everything is open.

mod filter;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use xen_disk::Failure;
use xen_linux::Linux;

/// Gives up all capabilities and the way to new ones, in this thread and those that it makes from now on. What root owns
/// can still be opened: the devices of Xen, when a guest connects.
pub(super) fn give_up() -> Result<(), Failure> {
    keep(&[])
}

/// The same, but files of other users can still be opened: those of disks whose domains come later, or the chunks of a
/// disk in a folder.
pub(super) fn keep_files() -> Result<(), Failure> {
    keep(&[Capability::CAP_DAC_OVERRIDE])
}

/// Gives up all system calls that serving a disk does not need, in all threads: whoever finds a way to make this program do
/// what it should not can start no other program, and asks nothing of Xen but event channels and grants, and to let other
/// domains have the processor. With `network`,
/// some storage is reached through one.
pub(super) fn confine(linux: &Linux, network: bool) -> Result<(), Failure> {
    let failed = |error: seccompiler::Error| Failure::other(format!("cannot filter system calls: {error}"));
    let program = filter::program(network, linux.prepare_pauses()).map_err(|error| failed(error.into()))?;
    seccompiler::apply_filter_all_threads(&program).map_err(failed)
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
