//! Translates the names of disks, as a toolstack does.

use std::process::ExitCode;
use xen_blk::protocol::vdev;

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or("xvdb".into());
    match vdev::parse(&name) {
        Some(number) => println!("{name} is virtual device {number}"),
        None => {
            eprintln!("{name}: not the name of a disk; try xvda, hda2 or sdb");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
