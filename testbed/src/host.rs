//! A Xen host to run things on: an emulated one, or this machine.

mod local;
mod qemu;
mod serial;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cli::HostKind;
use crate::client::{Client, Finished, Process};
use crate::image::Node;
use crate::progress::Progress;
use crate::wire::Request;
use crate::{artefacts, image};

/// How long an ordinary command may take, emulated and on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where dom0 of the emulated host keeps the project's tree.
const GUEST_TREE: &str = "/root/ringside";

/// Asks again and again until the answer is yes; no if that takes longer than
/// `patience`. For what nobody tells of by itself.
pub fn until(patience: Duration, ask: impl Fn() -> Result<bool>) -> Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        if ask()? {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        // dom0 has one emulated CPU: leave it to those whom we wait for.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What kind of host is wanted.
pub struct Wish {
    /// Where.
    pub kind: HostKind,
    /// Memory of an emulated host, in MiB.
    pub memory: u32,
    /// Whether our C programs are wanted on it, which takes a C compiler.
    pub peers: bool,
    /// Whether the Linux guest is wanted, which takes more packages.
    pub linux: bool,
    /// Whether QEMU is wanted in dom0, for qdisk: more packages, and a larger dom0.
    pub qemu: bool,
    /// Whether an emulated host's time shall be a count of instructions.
    pub counted: bool,
}

/// A running Xen host with our programs on it.
pub struct Host {
    client: Client,
    machine: Option<qemu::Qemu>,
    tree: String,
    peers: String,
    linux: String,
    /// Folder for this run's logs.
    pub logs: PathBuf,
}

impl Host {
    /// Brings up the host that `wish` describes.
    pub fn up(wish: &Wish, progress: &Progress) -> Result<Host> {
        let logs = artefacts::logs()?;
        let built = (wish.peers || wish.linux).then(artefacts::peers).transpose()?;
        let built = built.unwrap_or_default();
        let linux = if wish.linux {
            let guest = image::linux::ready(progress)?;
            artefacts::linux(&guest, &built)?.to_vec()
        } else {
            Vec::new()
        };
        if wish.kind == HostKind::Local || (wish.kind == HostKind::Auto && local::is_xen()) {
            let tree = artefacts::root()?.display().to_string();
            for (name, data) in linux {
                fs::write(logs.join(name), data).with_context(|| format!("cannot write the Linux guest's {name}"))?;
            }
            let (peers, linux) = (built.display().to_string(), logs.display().to_string());
            return Ok(Host { client: local::connect()?, machine: None, tree, peers, linux, logs });
        }
        let mut image = image::ready(progress)?;
        if wish.qemu {
            image.parts.push(image::qemu::ready(progress)?);
        }
        progress.stage("collecting our programs");
        let (peers, at) = (format!("{GUEST_TREE}/peers"), format!("{GUEST_TREE}/linux"));
        let mut extra = artefacts::tree(GUEST_TREE, wish.peers.then_some(built.as_path()))?;
        linux.into_iter().for_each(|(name, data)| extra.insert(&format!("{at}/{name}"), Node::File(0o644, data)));
        let (machine, client) = qemu::Qemu::boot(&image, &extra, wish, &logs, progress)?;
        let tree = GUEST_TREE.to_string();
        Ok(Host { client, machine: Some(machine), tree, peers, linux: at, logs })
    }

    /// Makes sure that consoles of guests are logged, as scenarios need it.
    pub fn logs_consoles(&self) -> Result<()> {
        if self.emulated() { Ok(()) } else { local::logs_consoles() }
    }

    /// Lets no wait last beyond `limit`.
    pub fn set_limit(&self, limit: Option<Instant>) {
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

    /// The folder that mirrors the repository's root.
    pub fn tree(&self) -> &str {
        &self.tree
    }

    /// The path of one of our C programs.
    pub fn peer(&self, name: &str) -> String {
        format!("{}/{name}", self.peers)
    }

    /// The path of one of the Linux guest's files, if they were wished for.
    pub fn linux(&self, name: &str) -> String {
        format!("{}/{name}", self.linux)
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
