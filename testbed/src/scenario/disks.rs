//! Code that scenarios with disks have in common.

use std::time::Duration;

use anyhow::{Result, bail};

use super::Bench;
use crate::disk::{Disk, Kind, disks};
use crate::guest::Guest;

/// The most time that Linux may take to boot and be done.
pub const LONG: Duration = Duration::from_secs(300);

/// A loop device with ordinary sectors.
pub const fn plain(mib: u32) -> Kind {
    Kind::Loop { mib, sector: 512, read_only: false }
}

impl<'a> Bench<'a> {
    /// A disk that is called after the scenario and `label`.
    pub fn disk(&self, label: &str, kind: Kind) -> Result<Disk<'a>> {
        Disk::new(self.host, &format!("{}-{label}", self.name), kind)
    }

    /// Starts the Linux guest with disks; `words` say what it does (testbed/linux/block.sh).
    pub fn linux(&self, number: u32, words: &str, list: &[(&Disk, &str)]) -> Result<Guest<'a>> {
        let name = format!("{}-{number}", self.name);
        Guest::linux_with(self.host, &name, words, &[&disks(list)])
    }

    /// Runs the Linux guest with disks to its end, and returns its last words.
    pub fn linux_does(&self, number: u32, words: &str, list: &[(&Disk, &str)]) -> Result<String> {
        self.linux_says(number, words, list).map(|(_, last)| last)
    }

    /// The same, and all that it said before.
    pub fn linux_says(
        &self,
        number: u32,
        words: &str,
        list: &[(&Disk, &str)],
    ) -> Result<(String, String)> {
        const LAST: &str = "linux-guest: done: ";
        let guest = self.linux(number, words, list)?;
        guest.says_within(LAST, LONG)?;
        // Once the domain is gone the console's log is whole.
        guest.gone(LONG)?;
        let console = guest.console();
        let last = console.split_once(LAST).map_or("", |(_, last)| last);
        let last = last.split("\nlinux-guest").next().unwrap_or(last).trim().to_string();
        if last.contains("FAILED") {
            bail!("with {words} the Linux guest said: {last}");
        }
        Ok((console, last))
    }
}
