//! Giving up the rights that are not needed once everything is open.

mod filter;
mod reach;
mod user;

pub(super) use filter::Sockets;
pub(super) use reach::Reach;
pub(super) use user::become_own;

use super::say;
use crate::Failure;
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use xen_linux::Linux;

/// Gives up all capabilities and the way to new ones, in this thread and those that it makes from
/// now on. What root owns can still be opened: the devices of Xen, when a guest connects.
pub(super) fn give_up() -> Result<(), Failure> {
    keep(&[])
}

/// The same, but files of other users can still be opened: those of disks whose domains come later,
/// or the chunks of a disk in a folder.
pub(super) fn keep_files_only() -> Result<(), Failure> {
    keep(&[Capability::CAP_DAC_OVERRIDE])
}

/// The same, and this process can still [`become_own`].
pub(super) fn keep_files() -> Result<(), Failure> {
    keep(&[Capability::CAP_DAC_OVERRIDE, Capability::CAP_SETUID, Capability::CAP_SETGID])
}

/// Takes all files but those of `reach` away from this thread and those that it makes, as far as
/// the kernel can, and says where it cannot.
pub(super) fn restrict(reach: &Reach) -> Result<(), Failure> {
    let restricted = reach::restrict(reach)?;
    if !restricted {
        say(
            "This kernel has no Landlock: all files of root's can be reached while disks are served.",
        );
    } else if reach.files.is_none() {
        say("The files of a disk can be anywhere: all can be reached while disks are served.");
    }
    Ok(())
}

/// Gives up all system calls that serving a disk does not need, in all threads: a person who finds
/// a way to make this program do what it should not can start no other program, connect to none
/// that believes root, and asks nothing of Xen but event channels and grants, and to let other
/// domains have the processor.
pub(super) fn confine(linux: &Linux, sockets: Sockets) -> Result<(), Failure> {
    confine_with(sockets, linux.prepare_yields())
}

/// The same for a process that has nothing to do with Xen.
pub(super) fn confine_without_xen(sockets: Sockets) -> Result<(), Failure> {
    confine_with(sockets, None)
}

fn confine_with(sockets: Sockets, pause: Option<(u32, usize)>) -> Result<(), Failure> {
    let failed =
        |error: seccompiler::Error| Failure::other(format!("cannot filter system calls: {error}"));
    let program = filter::program(sockets, pause).map_err(|error| failed(error.into()))?;
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
    let kept: CapsHashSet =
        kept.iter().copied().filter(|capability| have.contains(capability)).collect();
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
