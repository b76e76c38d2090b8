//! The command line.

use clap::{Parser, Subcommand, ValueEnum};

/// Boots real Xen under emulation (or uses this machine's) and runs Ringside in it.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Cli {
    /// Where to run: on this machine if it is a Xen host, else emulated.
    #[arg(long, global = true, value_enum, default_value_t = HostKind::Auto)]
    pub host: HostKind,
    /// Memory of the emulated host, in MiB (default: what the job needs).
    #[arg(long, global = true, value_name = "MIB")]
    pub memory: Option<u32>,
    /// What to do.
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
  testbed shell                    a shell in dom0
  testbed exec -- xl list          one command in dom0";

/// Which host to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HostKind {
    /// This machine if it is a Xen host, else an emulated one.
    Auto,
    /// Xen and dom0 under QEMU.
    Emulated,
    /// This machine, which must be a Xen host.
    Local,
}

/// What is measured.
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
        /// Only list the scenarios.
        #[arg(long)]
        list: bool,
        /// Open a shell in dom0 afterwards, before the host goes away.
        #[arg(long)]
        keep: bool,
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
    /// The end of the control channel inside dom0.
    #[command(hide = true)]
    Agent {
        /// The channel's device.
        device: std::path::PathBuf,
    },
}
