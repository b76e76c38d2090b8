//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Boots real Xen under emulation (or uses this machine's) and runs Ringside in it.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Cli {
    /// Which host.
    #[command(flatten)]
    pub on: HostArgs,
    /// The command.
    #[command(subcommand)]
    pub job: Job,
}

const EXAMPLES: &str = "\
Examples:
  testbed test                     run the quick scenarios
  testbed test --full              run all of them
  testbed test echo memory         those whose name contains 'echo' or 'memory'
  testbed run                      the guest and a client, to type at
  echo hello | testbed run         the same for what is piped in
  testbed test --host bookworm     on Debian 12's Xen and Linux
  testbed shell                    a shell in dom0
  testbed exec -- xl list          one command in dom0";

/// Which host to use, and how an emulated one is made.
#[derive(Clone, Copy, Debug, Args)]
pub struct HostArgs {
    /// The host to run on: this machine if it is a Xen host, else an emulated one.
    #[arg(long, global = true, value_enum, default_value_t = HostKind::Auto)]
    pub host: HostKind,
    /// Memory of the emulated host, in MiB (default: what the job needs).
    #[arg(long, global = true, value_name = "MIB")]
    pub memory: Option<u32>,
    /// The xenstore daemon of the emulated host.
    #[arg(long, global = true, value_enum, default_value_t = Xenstored::Xenstored)]
    pub xenstored: Xenstored,
    /// The kind of domain that the emulated host's dom0 is.
    #[arg(long, global = true, value_enum, default_value_t = Dom0::Pv)]
    pub dom0: Dom0,
}

/// Which host to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HostKind {
    /// This machine if it is a Xen host, else an emulated one.
    Auto,
    /// Xen and dom0 under QEMU, made of Debian stable (of the machine's own release, if its apt
    /// knows no Debian mirror).
    Emulated,
    /// The same, of Debian 11: Xen 4.14, Linux 5.10.
    Bullseye,
    /// The same, of Debian 12: Xen 4.17, Linux 6.1.
    Bookworm,
    /// The same, of Debian 13: Xen 4.20, Linux 6.12.
    Trixie,
    /// The same, of Debian unstable: the newest Xen and Linux.
    Sid,
    /// The same, of what this machine's own apt sources name.
    Machine,
    /// This machine, which must be a Xen host.
    Local,
}

/// A xenstore daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Xenstored {
    /// The one in C.
    Xenstored,
    /// The one in OCaml.
    Oxenstored,
}

/// A kind of dom0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dom0 {
    /// Paravirtualized, as Xen boots it by itself.
    Pv,
    /// In a hardware container.
    Pvh,
}

/// A kind of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchKind {
    /// vchan.
    Vchan,
    /// Disks.
    Block,
}

/// The testbed's jobs.
#[derive(Debug, Subcommand)]
pub enum Job {
    /// Run scenarios; exit code 1 when one fails.
    Test {
        /// Parts of scenario names; without one the quick set, or all with --full.
        patterns: Vec<String>,
        /// Also those scenarios that take long.
        #[arg(long)]
        full: bool,
        /// Only the dozen that are tried on every kind of host.
        #[arg(long, conflicts_with_all = ["full", "patterns"])]
        short: bool,
        /// Try each scenario that failed once more; what passes then is named in the last line.
        #[arg(long)]
        retry: bool,
        /// Only list the scenarios.
        #[arg(long)]
        list: bool,
        /// Open a shell in dom0 afterwards, before the host goes away.
        #[arg(long)]
        keep: bool,
    },
    /// Run the short set on every kind of emulated host, and print a table in Markdown.
    Matrix {
        /// Hosts that are up side by side.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
        /// Try each scenario that failed once more.
        #[arg(long)]
        retry: bool,
        /// Parts of the names of hosts, such as 'trixie' or 'sid-oxenstored'; without one, all.
        only: Vec<String>,
    },
    /// Run README's commands on a bare Debian in a folder, as it comes and with old package lists.
    Bare {
        /// Debian releases.
        #[arg(default_values = ["bookworm", "trixie"])]
        suites: Vec<String>,
        /// Only commands that contain this.
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
    },
    /// Create the guest, show its boot log, then echo what is typed.
    Run {
        /// More words for xl create, such as 'memory=64'.
        settings: Vec<String>,
    },
    /// Measure our guest beside a Linux guest, in counted time.
    Bench {
        /// As what: as vchan echo servers, or with disks of several backends.
        #[arg(value_enum, default_value_t = BenchKind::Vchan)]
        what: BenchKind,
        /// block: parts of the names of backends; without one, all of them.
        only: Vec<String>,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
        /// Also draw the figures into this file, as SVG.
        #[arg(long, value_name = "FILE")]
        plot: Option<std::path::PathBuf>,
        /// vchan: MiB to send for each size of messages.
        #[arg(long, value_name = "MIB", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
        amount: u32,
    },
    /// Open a shell in dom0.
    Shell,
    /// Run one command in dom0 with this program's input and output.
    Exec {
        /// Program and arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        argv: Vec<String>,
    },
    /// Build the emulated host's image and say where it is.
    Image,
    /// Unpack the headers and libraries that C programs are built with, and say where they are.
    Sysroot,
    /// The end of the control channel inside dom0.
    #[command(hide = true)]
    Agent {
        /// The channel's device.
        device: std::path::PathBuf,
    },
}
