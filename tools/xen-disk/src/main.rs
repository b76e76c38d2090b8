//! `xen-disk`: serves virtual disks to running domains. See `xen-disk --help`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    xen_disk::main()
}
