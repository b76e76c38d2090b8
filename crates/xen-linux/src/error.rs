//! Errors of the kernel and of Xen, in words that name the cause and the cure.

use std::io;
use std::path::Path;
use xen_platform::{DomId, Port};

/// A request that the kernel or Xen refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A device of `/dev/xen` cannot be opened.
    #[error("cannot open {device}: {reason}; {cure}")]
    #[non_exhaustive]
    Open {
        /// Path of the device.
        device: String,
        /// Error of open(2).
        reason: io::Error,
        /// The cure.
        cure: String,
    },
    /// A device refused a request.
    #[error("cannot {request}: {reason} from {device}; {cure}")]
    #[non_exhaustive]
    Refused {
        /// The request, with its operands: "map grant 8 of domain 2".
        request: String,
        /// Path of the device, or the system call.
        device: &'static str,
        /// Error of the kernel.
        reason: io::Error,
        /// The usual meaning of that here, or the cure.
        cure: String,
        /// The cause lies in this domain: nothing that the peer does cures it.
        local: bool,
    },
    /// This machine is no Xen domain, so it has neither devices nor xenstore.
    #[error("this is no Xen domain: there is no {PROC_XEN}; `make run` boots an emulated one")]
    NoXen,
    /// xenstore was not to be reached in any of the ways there are.
    #[error("cannot reach xenstore: {tried}; {cure}")]
    #[non_exhaustive]
    NoStore {
        /// Each way with its error.
        tried: String,
        /// The cure.
        cure: String,
    },
    /// xenstore was reached and did not answer as it has to.
    #[error("xenstore does not answer: {reason}")]
    #[non_exhaustive]
    StoreSilent {
        /// The answer that came instead.
        reason: String,
    },
}

/// The folder that Linux has in every Xen domain, and nowhere else.
const PROC_XEN: &str = "/proc/xen";

/// Returns true in a Xen domain.
pub(crate) fn is_domain() -> bool {
    Path::new(PROC_XEN).exists()
}

impl Error {
    /// Returns whether the cause lies in this domain, as a missing module or a limit does: then
    /// waiting for the peer is in vain.
    pub fn is_local(&self) -> bool {
        !matches!(self, Error::Refused { local: false, .. })
    }
}

/// Returns the error for a device that cannot be opened: without its module it is missing, and it
/// is for root only.
pub(crate) fn open(device: &Path, module: &str, reason: io::Error) -> Error {
    unopened(device, module, reason, is_domain())
}

fn unopened(device: &Path, module: &str, reason: io::Error, is_domain: bool) -> Error {
    let cure = match reason.kind() {
        io::ErrorKind::NotFound if !is_domain => return Error::NoXen,
        io::ErrorKind::NotFound => format!("load the module: modprobe {module}"),
        io::ErrorKind::PermissionDenied => "run as root".to_string(),
        _ => local_cure(&reason)
            .unwrap_or_else(|| format!("run as root in a Xen domain with the module {module}")),
    };
    Error::Open { device: device.display().to_string(), reason, cure }
}

/// Returns the cure of an error whose cause lies in this domain whatever was asked for.
fn local_cure(reason: &io::Error) -> Option<String> {
    limit_cure(reason)
        .or_else(|| matches!(reason.raw_os_error()?, EPERM | EACCES).then(|| "run as root".into()))
}

/// Returns the cure of an error that is a limit of this program or machine.
pub(crate) fn limit_cure(reason: &io::Error) -> Option<String> {
    Some(match reason.raw_os_error()? {
        EMFILE => "this program has too many files open: raise its limit with ulimit -n".into(),
        ENFILE => "too many files are open on this machine: raise fs.file-max with sysctl".into(),
        ENOMEM => "the kernel has no memory left: give this domain more, or stop programs".into(),
        _ => return None,
    })
}

/// Returns the error for xenstore that none of the ways reached, each with its reason.
pub(crate) fn no_store(tried: &[(String, io::Error)]) -> Error {
    let limit = tried
        .iter()
        .find(|(_, reason)| [EMFILE, ENFILE].map(Some).contains(&reason.raw_os_error()));
    let cure = limit.and_then(|(_, reason)| local_cure(reason));
    let tried: Vec<String> = tried.iter().map(|(way, reason)| format!("{way}: {reason}")).collect();
    Error::NoStore {
        tried: tried.join(", "),
        cure: cure.unwrap_or_else(|| "start xenstored, or run as root".to_string()),
    }
}

/// Returns the error for `request`: with the cure of a local cause, or else with `cure`, of which
/// `local` says whether it is of this domain.
fn refused(
    request: String,
    device: &'static str,
    reason: io::Error,
    (cure, local): (String, bool),
) -> Error {
    let (cure, local) = match local_cure(&reason) {
        Some(cure) => (cure, true),
        None => (cure, local),
    };
    Error::Refused { request, device, reason, cure, local }
}

/// Returns the error for the timer that cannot be made.
pub(crate) fn timer(reason: io::Error) -> Error {
    let cure = ("see timerfd_create(2)".to_string(), true);
    refused("make a timer".to_string(), "timerfd_create(2)", reason, cure)
}

/// Returns the error for an event channel that cannot be opened for a peer.
pub(crate) fn listen(peer: DomId, reason: io::Error) -> Error {
    let request = format!("open an event channel for domain {peer}");
    channel(request, format!("is there a domain {peer}?"), reason)
}

/// Returns the error for an event channel of a peer that cannot be bound.
pub(crate) fn connect(peer: DomId, port: Port, reason: io::Error) -> Error {
    let cure = format!(
        "domain {peer} is gone, or has no such port open for this domain, or another program is \
         bound to it"
    );
    channel(format!("bind to event channel {port} of domain {peer}"), cure, reason)
}

fn channel(request: String, cure: String, reason: io::Error) -> Error {
    let told = match reason.raw_os_error() {
        Some(ENOSPC) => {
            let cure = "this domain has no event channels left: close programs that use them";
            (cure.to_string(), true)
        }
        _ => (cure, false),
    };
    refused(request, "/dev/xen/evtchn", reason, told)
}

/// Returns the error for pages that cannot be granted. Its cause is never the peer: a domain that
/// does not exist can be granted a page.
pub(crate) fn share(peer: DomId, pages: usize, reason: io::Error) -> Error {
    let cure = match reason.raw_os_error() {
        Some(ENOSPC) => {
            "the module's limit is reached: echo 4096 > \
             /sys/module/xen_gntalloc/parameters/limit, or load it with limit=4096"
        }
        _ => "the kernel has no memory or no grant entries left",
    };
    let request = format!("share {pages} pages with domain {peer}");
    refused(request, "/dev/xen/gntalloc", reason, (cure.to_string(), true))
}

/// Returns the error for pages of a peer that cannot be mapped.
pub(crate) fn map(request: String, peer: DomId, reason: io::Error) -> Error {
    const DEVICE: &str = "/dev/xen/gntdev";
    if reason.raw_os_error() == Some(ENOMEM) {
        let cure = "the kernel has no memory left, or too many grants are mapped: raise \
                    /sys/module/xen_gntdev/parameters/limit"
            .to_string();
        return Error::Refused { request, device: DEVICE, reason, cure, local: true };
    }
    let cure = format!("domain {peer} is gone, or did not grant these pages to this domain");
    refused(request, DEVICE, reason, (cure, false))
}

/// Returns the error for a copy that was refused as a whole, which is never the peer's doing.
pub(crate) fn copy(pieces: usize, peer: DomId, reason: io::Error) -> Error {
    let cure = match reason.raw_os_error() {
        Some(ENOTTY) => {
            "this kernel is older than Linux 4.9 and cannot copy: map the pages instead"
        }
        _ => "the kernel has no memory left",
    };
    let request = format!("copy {pieces} pieces from or to pages of domain {peer}");
    refused(request, "/dev/xen/gntdev", reason, (cure.to_string(), true))
}

/// Returns the error for a notice of death that cannot be left with the kernel.
pub(crate) fn notice(device: &'static str, reason: io::Error) -> Error {
    let request = "arrange a notice to the peer in case this program dies".to_string();
    let cure = "the page or the port is not one of this program".to_string();
    refused(request, device, reason, (cure, true))
}

/// Returns the error for signals that cannot be caught.
pub(crate) fn signals(reason: io::Error) -> Error {
    let request = "catch SIGINT and SIGTERM".to_string();
    let cure = "the kernel refused a pipe or a handler".to_string();
    refused(request, "pipe(2) or sigaction(2)", reason, (cure, true))
}

/// errno.h of Linux.
const EPERM: i32 = 1;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOTTY: i32 = 25;
const ENOSPC: i32 = 28;

#[cfg(test)]
mod tests {
    use super::*;

    fn os(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }

    #[test]
    fn limits_are_told_with_their_cure_on_streams_too() {
        let shown = |errno| crate::IoError(os(errno)).to_string();
        assert!(shown(EMFILE).ends_with("raise its limit with ulimit -n"), "{}", shown(EMFILE));
        assert!(!shown(EPERM).contains("root"), "{}", shown(EPERM));
    }

    #[test]
    fn local_cause_is_told_with_its_cure_and_not_blamed_on_the_peer() {
        let peer = DomId(7);
        let each: [fn(DomId, io::Error) -> Error; 4] = [
            listen,
            |peer, reason| connect(peer, Port(3), reason),
            |peer, reason| map("map grant 8".into(), peer, reason),
            |peer, reason| share(peer, 1, reason),
        ];
        for (errno, cure) in [(EMFILE, "ulimit -n"), (ENFILE, "fs.file-max"), (EPERM, "as root")] {
            for error in each.map(|fail| fail(peer, os(errno))) {
                let text = error.to_string();
                assert!(error.is_local() && text.contains(cure), "{text}");
                assert!(!text.contains("domain 7 is gone"), "{text}");
            }
        }
        let limits = [
            (share(peer, 1, os(ENOSPC)), "xen_gntalloc/parameters/limit"),
            (map("map grant 8".into(), peer, os(ENOMEM)), "xen_gntdev/parameters/limit"),
            (listen(peer, os(ENOSPC)), "no event channels left"),
        ];
        for (error, cure) in limits {
            assert!(error.is_local() && error.to_string().contains(cure), "{error}");
        }
    }

    #[test]
    fn refusal_of_the_peer_is_not_local() {
        // EINVAL of a port or a grant that is not there, ESRCH of a domain that is gone.
        for errno in [22, 3] {
            assert!(!connect(DomId(7), Port(3), os(errno)).is_local());
            assert!(!map("map grant 8".into(), DomId(7), os(errno)).is_local());
        }
    }

    #[test]
    fn missing_device_is_a_missing_module_in_a_domain_only() {
        let missing = |errno, is_domain| {
            let device = Path::new("/dev/xen/gntdev");
            unopened(device, "xen-gntdev", os(errno), is_domain).to_string()
        };
        assert!(missing(2, false).starts_with("this is no Xen domain"));
        assert_eq!(
            missing(2, true),
            "cannot open /dev/xen/gntdev: No such file or directory (os error 2); load the module: \
             modprobe xen-gntdev"
        );
        assert!(missing(EMFILE, true).ends_with("ulimit -n"));
    }
}
