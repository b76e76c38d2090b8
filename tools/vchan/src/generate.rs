//! `vchan generate`: manual pages and shell completions, for packages.

use crate::{Arguments, Failure};
use clap::CommandFactory;
use std::path::Path;
use tools_common::Page;

/// The parts of the manual that the command line does not have.
const PAGE: Page = Page {
    environment: &[
        ("XENSTORED_PATH", "The socket of xenstored."),
        (
            "XENSTORED_RUNDIR",
            "The folder of xenstored's socket, if XENSTORED_PATH is not set. Without both it is \
             looked for in /run/xenstored and /var/run/xenstored.",
        ),
    ],
    files: &[
        ("/run/xenstored/socket", "xenstored's socket in dom0."),
        ("/dev/xen/xenbus", "The way to xenstore in any other domain (module xenfs)."),
        ("/dev/xen/evtchn", "Event channels (module xen-evtchn)."),
        ("/dev/xen/gntdev", "Mappings of pages that a server grants (module xen-gntdev)."),
        ("/dev/xen/gntalloc", "Pages that a server grants to its clients (module xen-gntalloc)."),
        ("/etc/xen/vchan.toml", "The services of vchan serve by convention: vchan.toml(5)."),
        (
            "/sys/module/xen_gntalloc/parameters/limit",
            "Pages that may be granted at a time by all programs together.",
        ),
    ],
    see_also: &["vchan.toml(5)", "xl(1)", "xenstore-ls(1)", "xen-disk(8)"],
};

/// Writes a manual page for the program and one for each command (`vchan.8`, `vchan-connect.8`,
/// ...), and completions for bash, zsh and fish, into `dir`, which exists.
pub fn generate(dir: &Path) -> Result<(), Failure> {
    tools_common::generate(&Arguments::command(), &PAGE, dir)
}
