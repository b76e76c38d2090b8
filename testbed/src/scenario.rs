//! Scenarios: what is tried on a host, and the runner that tries them.

mod balloon;
mod block;
mod block_full;
mod block_images;
mod block_linux;
mod boot;
mod clients;
mod console;
mod copy;
mod daemon;
mod disks;
mod drop_in;
mod durable;
mod echo;
mod exec;
mod half_close;
mod hostile;
mod inspect;
mod interop;
mod life;
mod linux;
mod list;
mod local;
mod own;
mod package;
mod ramdisk;
mod report;
mod rogue;
mod run;
mod soak;
mod suspend;
mod tool;
mod units;
mod xendisk;

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::client::Process;
use crate::guest::Guest;
use crate::host::{Host, PATIENCE, until};
use crate::wire::Status;

pub use list::ALL;
pub use run::{Choice, HOST_LINE, run};

/// One thing to try. It gets a host without guests, and whatever guests it
/// leaves behind are destroyed.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// The behaviour that it shows.
    pub about: &'static str,
    /// The most time that it may take.
    pub patience: Duration,
    /// Memory that an emulated host needs for it, in MiB.
    pub memory: u32,
    /// True if it needs the Linux guest.
    pub linux: bool,
    /// True if it needs QEMU in dom0.
    pub qemu: bool,
    /// True if it needs ssh in dom0 and in the Linux guest.
    pub ssh: bool,
    /// True if it needs Python in dom0.
    pub python: bool,
    /// True if it is one of the few that are tried on every kind of host.
    pub short: bool,
    /// True if only `--full` or its name choose it, because it takes long.
    pub full: bool,
    action: fn(&Bench) -> Result<()>,
}

impl Scenario {
    const fn new(
        name: &'static str,
        about: &'static str,
        action: fn(&Bench) -> Result<()>,
    ) -> Scenario {
        let patience = Duration::from_secs(180);
        Scenario {
            name,
            about,
            action,
            patience,
            memory: 1024,
            linux: false,
            qemu: false,
            ssh: false,
            python: false,
            short: false,
            full: false,
        }
    }

    const fn linux(mut self) -> Scenario {
        self.linux = true;
        self.patience = Duration::from_secs(420);
        self
    }

    const fn qemu(mut self) -> Scenario {
        self.qemu = true;
        self.memory = 1408;
        self
    }

    const fn ssh(mut self) -> Scenario {
        self.ssh = true;
        self
    }

    const fn python(mut self) -> Scenario {
        self.python = true;
        self
    }

    const fn short(mut self) -> Scenario {
        self.short = true;
        self
    }

    const fn full(mut self) -> Scenario {
        self.full = true;
        self
    }

    const fn long(mut self) -> Scenario {
        self.patience = Duration::from_secs(600);
        self
    }

    const fn longest(mut self) -> Scenario {
        self.patience = Duration::from_secs(1500);
        self
    }

    const fn minutes(mut self, minutes: u64) -> Scenario {
        self.patience = Duration::from_secs(60 * minutes);
        self
    }

    const fn memory(mut self, memory: u32) -> Scenario {
        self.memory = memory;
        self
    }
}

/// Things that a scenario works with.
pub struct Bench<'a> {
    /// The host.
    pub host: &'a Host,
    /// Start of the names of all guests of this scenario.
    pub name: String,
    /// True if programs on libxenvchan get ours instead of Debian's.
    pub drop_in: bool,
}

impl<'a> Bench<'a> {
    /// The same with our libxenvchan for the programs that use one.
    pub fn with_our_library(&self) -> Bench<'a> {
        Bench { host: self.host, name: self.name.clone(), drop_in: true }
    }

    /// Returns the start of a command of dom0's shell that runs a program on libxenvchan.
    pub fn vchan_env(&self) -> String {
        let folder = format!("{}/out/libxenvchan", self.host.tree());
        if self.drop_in { format!("env LD_LIBRARY_PATH={folder} ") } else { String::new() }
    }

    /// Returns the word by which the Linux guest does the same for all of its programs.
    pub fn vchan_word(&self) -> &'static str {
        if self.drop_in { " drop_in=1" } else { "" }
    }

    /// A guest with `settings` on top of `xl/echo.xl`, once it serves.
    pub fn guest(&self, settings: &[&str]) -> Result<Guest<'a>> {
        Guest::serving(self.host, &self.name, settings)
    }

    /// Another guest beside the first.
    pub fn other_guest(&self, number: u32, settings: &[&str]) -> Result<Guest<'a>> {
        Guest::serving(self.host, &format!("{}-{number}", self.name), settings)
    }

    /// Waits for the key `path` in xenstore.
    fn published(&self, path: &str) -> Result<()> {
        let exists =
            || Ok(self.host.exec(&["xenstore-exists", path], PATIENCE)?.status == Status::Code(0));
        ensure!(until(PATIENCE, exists)?, "there is no {path}");
        Ok(())
    }

    /// Starts a shell command in dom0.
    pub fn shell(&self, command: &str) -> Result<Process> {
        self.host.spawn(&["sh", "-c", command])
    }
}
