//! What the kernel or Xen may refuse, in words that name the way out.

use std::io;
use std::path::Path;
use xen_platform::{DomId, Port};

/// The world said no.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A device of `/dev/xen` cannot be opened.
    #[error("cannot open {device}: {reason}; {cure}")]
    Open {
        /// The device's path.
        device: String,
        /// What open(2) said.
        reason: io::Error,
        /// What to do about it.
        cure: String,
    },
    /// A device refused a request.
    #[error("cannot {request}: {reason} from {device}; {cure}")]
    Refused {
        /// What was asked for, with its operands: "map grant 8 of domain 2".
        request: String,
        /// The device's path, or the system call.
        device: &'static str,
        /// What the kernel said.
        reason: io::Error,
        /// What that usually means here, or what to do about it.
        cure: String,
    },
    /// xenstore was not to be reached in any of the ways there are.
    #[error("cannot reach xenstore: {tried}; start xenstored, or run as root")]
    NoStore {
        /// Each way with what it said.
        tried: String,
    },
    /// xenstore was reached and did not answer as it has to.
    #[error("xenstore does not answer: {reason}")]
    StoreSilent {
        /// What came instead.
        reason: String,
    },
}

/// The error for a device that cannot be opened: without its module it is missing, and it is for root only.
pub(crate) fn open(device: &Path, module: &str, reason: io::Error) -> Error {
    let cure = match reason.kind() {
        io::ErrorKind::NotFound => format!("is this a Xen domain? load the module: modprobe {module}"),
        io::ErrorKind::PermissionDenied => "run as root".to_string(),
        _ => format!("run as root in a Xen domain with the module {module}"),
    };
    Error::Open { device: device.display().to_string(), reason, cure }
}

/// The error for an event channel that cannot be opened for a peer.
pub(crate) fn listen(peer: DomId, reason: io::Error) -> Error {
    channel(format!("open an event channel for domain {peer}"), format!("is there a domain {peer}?"), reason)
}

/// The error for an event channel of a peer that cannot be bound.
pub(crate) fn connect(peer: DomId, port: Port, reason: io::Error) -> Error {
    let cure =
        format!("domain {peer} is gone, or has no such port open for this domain, or another program is bound to it");
    channel(format!("bind to event channel {port} of domain {peer}"), cure, reason)
}

fn channel(request: String, mut cure: String, reason: io::Error) -> Error {
    if reason.raw_os_error() == Some(ENOSPC) {
        cure = "this domain has no event channels left: close other programs that use them".to_string();
    }
    Error::Refused { request, device: "/dev/xen/evtchn", reason, cure }
}

/// The error for pages that cannot be granted.
pub(crate) fn share(peer: DomId, pages: usize, reason: io::Error) -> Error {
    let cure = match reason.raw_os_error() {
        Some(ENOSPC) => {
            "the module's limit is reached: echo 4096 > /sys/module/xen_gntalloc/parameters/limit, or load \
                         it with limit=4096"
                .to_string()
        }
        _ => "the kernel has no memory or no grant entries left".to_string(),
    };
    Error::Refused {
        request: format!("share {pages} pages with domain {peer}"),
        device: "/dev/xen/gntalloc",
        reason,
        cure,
    }
}

/// The error for pages of a peer that cannot be mapped.
pub(crate) fn map(request: String, peer: DomId, reason: io::Error) -> Error {
    let cure = match reason.raw_os_error() {
        Some(ENOMEM) => "the kernel has no memory left, or too many grants are mapped: \
                         /sys/module/xen_gntdev/parameters/limit"
            .to_string(),
        _ => format!("domain {peer} is gone, or did not grant these pages to this domain"),
    };
    Error::Refused { request, device: "/dev/xen/gntdev", reason, cure }
}

/// The error for a copy that was refused as a whole.
pub(crate) fn copy(pieces: usize, peer: DomId, reason: io::Error) -> Error {
    let cure = match reason.raw_os_error() {
        Some(ENOTTY) => "this kernel is older than Linux 4.9 and cannot copy: map the pages instead",
        _ => "the kernel has no memory left",
    };
    let request = format!("copy {pieces} pieces from or to pages of domain {peer}");
    Error::Refused { request, device: "/dev/xen/gntdev", reason, cure: cure.to_string() }
}

/// The error for a notice of death that cannot be left with the kernel.
pub(crate) fn notice(device: &'static str, reason: io::Error) -> Error {
    Error::Refused {
        request: "leave word for the peer in case this program dies".to_string(),
        device,
        reason,
        cure: "the page or the port is not one of this program".to_string(),
    }
}

/// The error for signals that cannot be caught.
pub(crate) fn signals(reason: io::Error) -> Error {
    Error::Refused {
        request: "catch SIGINT and SIGTERM".to_string(),
        device: "pipe(2) or sigaction(2)",
        reason,
        cure: "are too many files open?".to_string(),
    }
}

/// errno.h of Linux.
const ENOMEM: i32 = 12;
const ENOTTY: i32 = 25;
const ENOSPC: i32 = 28;
