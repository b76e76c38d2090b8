//! A Xen host to run things on: an emulated one, or this machine.

mod local;
mod qemu;
mod serial;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cli::{HostArgs, HostKind};
use crate::client::{Client, Finished, Process};
use crate::image::Node;
use crate::image::suite::Suite;
use crate::progress::Progress;
use crate::wire::Request;
use crate::{artefacts, image, peers, setup};

/// Time limit of an ordinary command, emulated and on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Time in which an emulated host boots on an idle machine of some years.
const BOOT: Duration = Duration::from_secs(20);

/// Largest factor for timeouts: whatever is still not there after that hangs.
const MAX_SLOWNESS: f64 = 12.0;

/// Returns how many tasks of this machine want each of its processors.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let tasks = text.split(' ').next().and_then(|word| word.parse::<f64>().ok());
    let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    tasks.unwrap_or_default() / processors
}

/// Folder in which dom0 of the emulated host has the project's tree.
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

/// Requirements of a host.
pub struct HostConfig {
    /// Which host, and how an emulated one is made.
    pub on: HostArgs,
    /// Memory of an emulated host, in MiB.
    pub memory: u32,
    /// True if our C programs are on it, which takes a C compiler.
    pub peers: bool,
    /// True if the Linux guest is on it, which takes more packages.
    pub linux: bool,
    /// True if dom0 has QEMU, for qdisk: more packages, and a larger dom0.
    pub qemu: bool,
    /// True if dom0 and the Linux guest have ssh.
    pub ssh: bool,
    /// True if dom0 has Python.
    pub python: bool,
    /// True if an emulated host's time is a count of instructions.
    pub counted: bool,
}

impl HostConfig {
    /// Returns the configuration of a host for our guest and our tools alone, with `memory` MiB
    /// unless the command line says how much.
    pub fn plain(on: HostArgs, memory: u32) -> HostConfig {
        let memory = on.memory.unwrap_or(memory);
        HostConfig {
            on,
            memory,
            peers: false,
            linux: false,
            qemu: false,
            ssh: false,
            python: false,
            counted: false,
        }
    }
}

impl HostArgs {
    /// Returns true if this machine itself is the host.
    fn is_local(&self) -> bool {
        self.host == HostKind::Local || (self.host == HostKind::Auto && local::is_xen())
    }

    /// Returns the release that an emulated host is made of.
    pub fn suite(&self) -> Result<Suite> {
        match self.host {
            HostKind::Bullseye => Suite::Bullseye.on_a_mirror(),
            HostKind::Bookworm => Suite::Bookworm.on_a_mirror(),
            HostKind::Trixie => Suite::Trixie.on_a_mirror(),
            HostKind::Sid => Suite::Sid.on_a_mirror(),
            HostKind::Machine | HostKind::Local => Ok(Suite::Machine),
            HostKind::Auto | HostKind::Emulated => Suite::by_default(),
        }
    }
}

/// A running Xen host with our programs on it.
pub struct Host {
    client: Client,
    machine: Option<qemu::Qemu>,
    tree: String,
    peers: String,
    linux: String,
    /// Number of times longer that the host took to boot than on an idle machine.
    boot_slowness: f64,
    /// Folder for this run's logs.
    pub logs: PathBuf,
}

impl Host {
    /// Brings up the host that `config` describes.
    pub fn up(config: &HostConfig, progress: &Progress) -> Result<Host> {
        let logs = artefacts::logs()?;
        if !config.on.is_local() {
            setup::emulator()?;
        }
        let suite = config.on.suite()?;
        let built = if config.peers || config.linux {
            let local = config.on.is_local() && peers::can_be_built_here();
            let root = if local { None } else { Some(image::sysroot::ready(suite, progress)?) };
            artefacts::peers(suite, root.as_deref())?
        } else {
            PathBuf::new()
        };
        let ssh = if config.ssh { Some(image::ssh::ready(suite, progress)?) } else { None };
        let linux = if config.linux {
            let guest = image::linux::ready(suite, progress)?;
            artefacts::linux(&guest, &built, ssh.as_deref())?.to_vec()
        } else {
            Vec::new()
        };
        if config.on.is_local() {
            let tree = artefacts::root()?.display().to_string();
            for (name, data) in linux {
                fs::write(logs.join(name), data)
                    .with_context(|| format!("cannot write the Linux guest's {name}"))?;
            }
            let (peers, linux) = (built.display().to_string(), logs.display().to_string());
            let client = local::connect()?;
            let (machine, boot_slowness) = (None, 1.0);
            return Ok(Host { client, machine, tree, peers, linux, boot_slowness, logs });
        }
        let mut image = image::ready(suite, progress)?;
        if config.qemu {
            image.parts.push(image::qemu::ready(suite, progress)?);
        }
        image.parts.extend(ssh);
        if config.python {
            image.parts.push(image::python::ready(suite, progress)?);
        }
        progress.stage("collecting our programs");
        let (peers, at) = (format!("{GUEST_TREE}/peers"), format!("{GUEST_TREE}/linux"));
        let mut extra = artefacts::tree(GUEST_TREE, config.peers.then_some(built.as_path()))?;
        linux.into_iter().for_each(|(name, data)| {
            extra.insert(&format!("{at}/{name}"), Node::File(0o644, data))
        });
        let begun = Instant::now();
        let (machine, client) = qemu::Qemu::boot(&image, &extra, config, &logs, progress)?;
        let boot_slowness = begun.elapsed().div_duration_f64(BOOT);
        let (machine, tree) = (Some(machine), GUEST_TREE.to_string());
        Ok(Host { client, machine, tree, peers, linux: at, boot_slowness, logs })
    }

    /// Makes sure that consoles of guests are logged, as scenarios need it.
    pub fn logs_consoles(&self) -> Result<()> {
        if self.emulated() { Ok(()) } else { local::logs_consoles() }
    }

    /// Lets no wait from now on last beyond `timeout`, which like all timeouts is that of an idle
    /// machine: a busy one gets more.
    pub fn begin(&self, timeout: Duration) {
        let slowness = self.slowness();
        self.client.set_slowness(slowness);
        self.client.set_limit(Some(Instant::now() + timeout.mul_f64(slowness)));
    }

    /// Returns how many times as long as on an idle machine everything takes.
    pub fn slowness(&self) -> f64 {
        self.boot_slowness.max(load()).clamp(1.0, MAX_SLOWNESS)
    }

    /// Takes the limit of [`Host::begin`] away.
    pub fn end(&self) {
        self.client.set_limit(None);
    }

    /// Returns true if time here is emulated (and much slower than real).
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

    /// The path of one of the Linux guest's files, if the host has it.
    pub fn linux(&self, name: &str) -> String {
        format!("{}/{name}", self.linux)
    }

    /// Returns the words that every xl file needs on this host beside its own words.
    pub fn settings(&self) -> &'static [&'static str] {
        // An emulated CPU's clock is not invariant, so that reading it would trap.
        if self.emulated() { &["tsc_mode=\"native\""] } else { &[] }
    }

    /// Returns the versions of Xen and of dom0's Linux, and the name of the xenstore daemon.
    pub fn describe(&self) -> Result<String> {
        let field = "xl info xen_version && uname -r";
        let versions = self.shell(field)?;
        let daemon = "ps -o comm | grep -x oxenstored || echo xenstored";
        let (versions, daemon) = (versions.trim().replace('\n', ", Linux "), self.shell(daemon)?);
        Ok(format!("Xen {versions}, {}", daemon.trim()))
    }

    /// Returns the hypervisor's messages so far.
    pub fn hypervisor_log(&self) -> String {
        match &self.machine {
            Some(machine) => machine.log(),
            None => self.xl(&["dmesg"]).unwrap_or_default(),
        }
    }
}
