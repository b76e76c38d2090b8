//! The command line.

mod connect;
mod exercise;
mod export;
mod names;
#[cfg(feature = "object")]
mod store;

pub(crate) use connect::parse_outage;
pub use connect::{Backend, ConnectArguments, DiskSource, OnEnospc, ServeArguments};
pub use exercise::ExerciseArguments;
pub use export::ExportArguments;
pub use names::{Vdev, parse_units};
#[cfg(feature = "object")]
pub use store::{GcArguments, KeyArguments, StoreCommand};
pub use tools_common::DomainArgument;

use crate::stack::{self, parse_size};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes:
  0  all went well; for connect: the disk was disconnected in good order, by Ctrl-C or otherwise
  1  something else failed: the message says what
  2  wrong usage
  3  there is no such domain or disk
  4  the domain died, or somebody else removed the disk
  5  the disk was taken from a guest that did not let go of it
  6  the storage could not keep what was written";

/// The examples of a command, and the exit codes of all.
fn after_help(examples: &str) -> String {
    format!("Examples:\n{examples}\n\n{EXIT_CODES}")
}

/// Serves virtual disks to running domains, from storages you choose or write.
#[derive(Parser, Debug)]
#[command(name = "xen-disk", version = tools_common::version(), after_help = EXIT_CODES)]
pub struct Arguments {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The command.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Plugs a disk into a running domain and serves it until Ctrl-C.
    Connect(ConnectArguments),
    /// Serves the disks of a configuration file, whenever their domains run, and sees to those that
    /// xl makes with backendtype=tap.
    Serve(ServeArguments),
    /// Begins or ends to serve a disk of xl's: for its script block-ringside.
    Hotplug(HotplugArguments),
    /// Serves a storage to programs of this machine, over NBD, until Ctrl-C.
    Export(ExportArguments),
    /// Lists the disks that are served on this host.
    List(ListArguments),
    /// Shows what a disk's guest does with it: rates, latencies, how full its ring is.
    Stats(StatsArguments),
    /// Prints the counts of all disks for Prometheus.
    Metrics(MetricsArguments),
    /// Gives an order to `xen-disk serve`, as a line of JSON, and prints the answer.
    Order(OrderArguments),
    /// Unplugs a disk.
    Disconnect(DisconnectArguments),
    /// Tries a guest's frontend with backends that break the protocol.
    Exercise(ExerciseArguments),
    /// Makes a disk longer while it is in use.
    Resize(ResizeArguments),
    /// Copies one storage into another.
    Convert(ConvertArguments),
    /// Moves the changes of an overlay into what lies below it.
    Commit(OverlayArguments),
    /// Gives the changes of an overlay up.
    Revert(OverlayArguments),
    /// Says that the changes of an overlay are right for what lies below it now.
    Rebase(OverlayArguments),
    /// Does the requests of a log again, and flushes.
    Replay(ReplayArguments),
    /// Removes what no disk of an object store has any more, while its disks are served.
    #[cfg(feature = "object")]
    Gc(GcArguments),
    /// Lists, copies and removes the disks of an object store.
    #[cfg(feature = "object")]
    #[command(subcommand, after_help = after_help("  xen-disk store list s3://bucket/folder\n  xen-disk store snapshot /srv/objects vm1 before"))]
    Store(StoreCommand),
    /// Writes manual pages and shell completions into a folder.
    #[command(hide = true)]
    Generate {
        /// The folder; it must exist.
        dir: PathBuf,
    },
}

/// The arguments of `xen-disk hotplug`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help("  xen-disk hotplug add --folder backend/vbd3/7/51712"))]
pub struct HotplugArguments {
    /// The step that xl takes.
    #[arg(value_enum, value_name = "STEP")]
    pub step: HotplugStep,
    /// The backend's folder in xenstore, below that of this domain [default: XENBUS_PATH of the
    /// environment].
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<String>,
}

/// A step of xl's with a disk.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum HotplugStep {
    /// Starts a server for the disk, and ends once it is ready. A disk whose server was killed gets
    /// another one.
    Add,
    /// Waits until the disk's server has ended.
    Remove,
    /// Is the server.
    #[value(hide = true)]
    Serve,
}

/// The arguments of `xen-disk list`.
#[derive(Args, Debug)]
#[command(after_help = after_help("  xen-disk list\n  xen-disk list --json"))]
pub struct ListArguments {
    /// For scripts.
    #[arg(long)]
    pub json: bool,
}

/// Which disk of which domain.
#[derive(Args, Clone, Debug)]
pub struct DiskArguments {
    /// The domain: its number, name or UUID.
    #[arg(value_name = "VM")]
    pub domain: DomainArgument,
    /// The disk, for instance xvdb.
    #[arg(value_name = "DISK")]
    pub vdev: Vdev,
}

/// The arguments of `xen-disk stats`.
#[derive(Args, Debug)]
#[command(after_help = after_help("  xen-disk stats vm1 xvdb\n  xen-disk stats vm1 xvdb --interval 1\n  xen-disk stats vm1 xvdb --watch\n  xen-disk stats vm1 xvdb --json"))]
pub struct StatsArguments {
    /// The disk.
    #[command(flatten)]
    pub disk: DiskArguments,
    /// Seconds after which they are shown again, with the rates in between.
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u32).range(1..))]
    pub interval: Option<u32>,
    /// Shows the rates of each second until Ctrl-C: in place on a terminal, else a line each.
    #[arg(long, conflicts_with_all = ["interval", "json"])]
    pub watch: bool,
    /// For scripts: counts since the disk was connected.
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `xen-disk metrics`.
#[derive(Args, Debug)]
#[command(after_help = after_help("  xen-disk metrics >/var/lib/prometheus/node-exporter/xen-disk.prom"))]
pub struct MetricsArguments {}

/// The arguments of `xen-disk order`.
#[derive(Args, Debug)]
#[command(after_help = after_help(r#"  xen-disk order '"list"'
  xen-disk order '"metrics"'
  xen-disk order '"reload"'
  xen-disk order '{"add":{"vm":"vm1","vdev":"xvdb","path":"/srv/disk.raw"}}'
  xen-disk order '{"remove":{"vm":"vm1","vdev":"xvdb"}}'
  xen-disk order '{"disk":[{"vm":"vm1","vdev":"xvdb"},{"resize":{"bytes":2147483648,"shrink":false}}]}'"#))]
pub struct OrderArguments {
    /// The order.
    #[arg(value_name = "JSON")]
    pub order: String,
}

/// The arguments of `xen-disk disconnect`.
#[derive(Args, Debug)]
#[command(after_help = after_help("  xen-disk disconnect vm1 xvdb"))]
pub struct DisconnectArguments {
    /// The disk.
    #[command(flatten)]
    pub disk: DiskArguments,
    /// Does not wait for the guest to let go of it.
    #[arg(long)]
    pub force: bool,
}

/// The arguments of `xen-disk resize`.
#[derive(Args, Debug)]
#[command(after_help = after_help("  xen-disk resize vm1 xvdb 20G"))]
pub struct ResizeArguments {
    /// The disk.
    #[command(flatten)]
    pub disk: DiskArguments,
    /// Its new length, for instance 20G.
    #[arg(value_name = "SIZE", value_parser = parse_size)]
    pub size: u64,
    /// Makes it shorter as well: what lies behind the new end is lost.
    #[arg(long)]
    pub shrink: bool,
}

/// The arguments of `xen-disk convert`.
#[derive(Args, Debug)]
#[command(after_help = after_help(&format!("  xen-disk convert cow:golden.raw file:copy.raw\n\n{}", stack::help())))]
pub struct ConvertArguments {
    /// The storage to read.
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// The storage to write, at least as long. A file that is missing is made.
    #[arg(value_name = "DESTINATION")]
    pub destination: String,
}

/// The arguments of `xen-disk commit`, `revert` and `rebase`.
#[derive(Args, Debug)]
#[command(after_help = after_help("\
  xen-disk commit 'overlay:changes/file:disk.raw'
  xen-disk revert 'overlay:changes/file:disk.raw'
  xen-disk rebase 'overlay:changes/file:disk.raw'"))]
pub struct OverlayArguments {
    /// The overlay and what lies below it, as they were served.
    #[arg(value_name = "STACK")]
    pub stack: String,
}

/// The arguments of `xen-disk replay`.
#[derive(Args, Debug)]
#[command(after_help = after_help("  xen-disk replay trace.log file:scratch.raw"))]
pub struct ReplayArguments {
    /// The file that the `log` layer wrote.
    #[arg(value_name = "LOG")]
    pub log: PathBuf,
    /// The storage to do it to.
    #[arg(value_name = "STACK")]
    pub stack: String,
}

#[cfg(test)]
mod tests;
