//! A user of its own for a process that serves.

use crate::Failure;
use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, geteuid, setfsgid, setfsuid, setgroups, setresgid, setresuid};

/// The first of the numbers that are taken: from a range that systemd's page on users and groups
/// calls unused. No account has them.
const FIRST: u32 = 1_963_000_000;

/// Makes this process that of a user whom nobody else is, number `own` of them, if it is root's. It
/// can send no signals to root's processes, and is root to none that it connects to. Files are
/// opened as root all the same, by this thread and those that it makes: the devices of Xen are
/// root's.
pub(crate) fn become_own(own: u32) -> Result<(), Failure> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let failed =
        |error: String| Failure::other(format!("cannot become a user of its own: {error}"));
    change(FIRST + own).map_err(|errno| failed(errno.to_string()))?;
    // The change has taken the capabilities that the next one takes.
    for capability in [Capability::CAP_SETUID, Capability::CAP_SETGID] {
        caps::raise(None, CapSet::Effective, capability).map_err(|e| failed(e.to_string()))?;
    }
    setfsgid(Gid::from_raw(0));
    setfsuid(Uid::from_raw(0));
    Ok(())
}

fn change(number: u32) -> Result<(), Errno> {
    let (user, group) = (Uid::from_raw(number), Gid::from_raw(number));
    prctl::set_keepcaps(true)?;
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)
}
