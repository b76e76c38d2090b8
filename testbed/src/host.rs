//! A Xen host to run things on: an emulated one, or this machine.

mod local;
mod qemu;
mod serial;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cli::HostKind;
use crate::client::{Client, Finished, Process};
use crate::progress::Progress;
use crate::wire::Request;
use crate::{artefacts, image};

/// How long an ordinary command may take, emulated and on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where dom0 of the emulated host keeps the project's tree.
const GUEST_TREE: &str = "/root/ringside";

/// A running Xen host with our programs on it.
pub struct Host {
    client: Client,
    machine: Option<qemu::Qemu>,
    tree: String,
    peers: String,
    /// Folder for this run's logs.
    pub logs: PathBuf,
}

impl Host {
    /// Brings up a host of the wanted kind; `memory` is for an emulated one, in MiB.
    pub fn up(kind: HostKind, memory: u32, logs: &Path, progress: &Progress) -> Result<Host> {
        std::fs::create_dir_all(logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let logs = logs.canonicalize()?;
        if kind == HostKind::Local || (kind == HostKind::Auto && local::is_xen()) {
            let root = artefacts::root()?;
            let peers = artefacts::peers(&root)?.display().to_string();
            let client = local::connect()?;
            return Ok(Host { client, machine: None, tree: root.display().to_string(), peers, logs });
        }
        let image = image::ready(progress)?;
        let extra = artefacts::tree(GUEST_TREE, progress)?;
        let (machine, client) = qemu::Qemu::boot(&image, &extra, memory, &logs, progress)?;
        let peers = format!("{GUEST_TREE}/peers");
        Ok(Host { client, machine: Some(machine), tree: GUEST_TREE.to_string(), peers, logs })
    }

    /// Lets no wait last beyond `limit`.
    pub fn set_limit(&self, limit: Option<std::time::Instant>) {
        self.client.set_limit(limit);
    }

    /// Whether time here is emulated (and much slower than real).
    pub fn emulated(&self) -> bool {
        self.machine.is_some()
    }

    /// Starts a program in the project's tree.
    pub fn spawn(&self, argv: &[&str]) -> Result<Process> {
        self.start(argv, false)
    }

    /// Starts a program with a terminal of its own.
    pub fn spawn_on_terminal(&self, argv: &[&str]) -> Result<Process> {
        self.start(argv, true)
    }

    fn start(&self, argv: &[&str], terminal: bool) -> Result<Process> {
        let argv = argv.iter().map(|word| word.to_string()).collect();
        self.client.spawn(Request { argv, cwd: self.tree.clone(), terminal, env: Vec::new() })
    }

    /// Runs a program to its end.
    pub fn exec(&self, argv: &[&str], patience: Duration) -> Result<Finished> {
        let process = self.spawn(argv)?;
        process.close_stdin()?;
        process.wait(patience)
    }

    /// Runs a shell command that must succeed, and returns what it printed.
    pub fn shell(&self, command: &str) -> Result<String> {
        self.exec(&["sh", "-c", command], PATIENCE)?.success()
    }

    /// Runs xl with arguments; it must succeed.
    pub fn xl(&self, arguments: &[&str]) -> Result<String> {
        self.exec(&[&["xl"], arguments].concat(), PATIENCE)?.success()
    }

    /// The path of one of our C programs.
    pub fn peer(&self, name: &str) -> String {
        format!("{}/{name}", self.peers)
    }

    /// What every xl file needs on this host beside its own words.
    pub fn settings(&self) -> &'static [&'static str] {
        // An emulated CPU's clock is not invariant, so that reading it would trap.
        if self.emulated() { &["tsc_mode=\"native\""] } else { &[] }
    }

    /// What the hypervisor said so far.
    pub fn hypervisor_log(&self) -> String {
        match &self.machine {
            Some(machine) => machine.log(),
            None => self.xl(&["dmesg"]).unwrap_or_default(),
        }
    }
}
