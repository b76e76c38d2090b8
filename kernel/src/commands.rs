//! The console's commands for the echo server and for disks.

use crate::block::{self, Disks};
use crate::echo;
use core::fmt::Write;
use xen_rt::{console, shell};

const HELP: &str = "\
  vchan status                    how many clients the echo server has
";

/// The commands, and what they act on.
pub struct Commands<'a> {
    /// The disks of the domain.
    pub disks: &'a Disks,
}

impl shell::Commands for Commands<'_> {
    fn help(&self, out: &mut dyn Write) -> core::fmt::Result {
        out.write_str(HELP)?;
        block::HELP.iter().try_for_each(|commands| out.write_str(commands))
    }

    async fn run(&self, line: &str) -> bool {
        let mut words = line.split_whitespace();
        // Writing to the console cannot fail.
        let _ = match words.next() {
            Some("blk") if self.disks.command(&mut words).await => Ok(()),
            Some("blk") => writeln!(console::Out, "'{line}': no such disk or command: try help"),
            Some("vchan") if words.eq(["status"]) => {
                writeln!(console::Out, "clients  {} connected", echo::clients())
            }
            _ => return false,
        };
        true
    }
}
