//! `xen-disk generate`: manual pages and shell completions, for packages.

use crate::{Arguments, Failure};
use clap::CommandFactory;
use std::path::Path;
use tools_common::Page;

/// The parts of the manual that the command line does not have.
const PAGE: Page = Page {
    environment: &[
        (
            "XEN_DISK_RUNDIR",
            "The folder of the sockets by which the commands speak to the disks that are served \
             [default: /run/xen-disk].",
        ),
        (
            "XEN_DISK_LOGDIR",
            "The folder of the logs of disks that xl made [default: /var/log/xen].",
        ),
        ("XENBUS_PATH", "The disk for hotplug, as xl's scripts get it."),
        ("XENSTORED_PATH", "The socket of xenstored."),
        (
            "XENSTORED_RUNDIR",
            "The folder of xenstored's socket, if XENSTORED_PATH is not set. Without both it is \
             looked for in /run/xenstored and /var/run/xenstored.",
        ),
        (
            "AWS_*, GOOGLE_*, AZURE_*",
            "Keys, region and endpoint of a bucket that a disk of the storage object is kept in.",
        ),
    ],
    files: &[
        ("/etc/xen/xen-disk.toml", "The configuration by convention; see xen-disk.toml(5)."),
        ("/etc/xen/scripts/block-ringside", "xl's script for its disks that are served here."),
        ("/var/log/xen/xen-disk-DOMAIN-DISK.log", "What the server of such a disk has to say."),
        ("/run/xen-disk", "A socket for each disk that is served, for root alone."),
        ("/run/xen-disk/serve", "The socket for orders to xen-disk serve."),
        ("/run/xenstored/socket", "xenstored's socket."),
        ("/dev/xen/evtchn", "Event channels (module xen-evtchn)."),
        ("/dev/xen/gntdev", "Mappings of pages that guests grant (module xen-gntdev)."),
        ("/dev/xen/privcmd", "Lets guests have the processor while a disk waits for work."),
    ],
    see_also: &["xen-disk.toml(5)", "xl(1)", "xl-disk-configuration(5)", "vchan(8)"],
};

/// Writes a manual page for the program and one for each command (`xen-disk.8`,
/// `xen-disk-connect.8`, ...), and completions for bash, zsh and fish, into `dir`, which exists.
pub fn generate(dir: &Path) -> Result<(), Failure> {
    tools_common::generate(&Arguments::command(), &PAGE, dir)
}
