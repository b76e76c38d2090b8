//! The arguments of `xen-disk export`.

use super::after_help;
use crate::stack::{self, parse_size};
use clap::{ArgGroup, Args};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The arguments of `xen-disk export`.
#[derive(Args, Clone, Debug)]
#[command(
    group(ArgGroup::new("place").required(true).args(["socket", "listen"])),
    after_help = after_help(&format!("  xen-disk export file:disk.raw --socket /run/disk.sock
  xen-disk export 'overlay:\"vm1.over\"/file:golden.raw' --socket /run/vm1.sock --name vm1
  xen-disk export qcow2:disk.qcow2 --read-only --listen 127.0.0.1:10809
  nbdinfo 'nbd+unix:///?socket=/run/disk.sock'
  nbdcopy 'nbd+unix:///?socket=/run/disk.sock' copy.raw

{}", stack::help()))
)]
pub struct ExportArguments {
    /// The storage, with layers over it; see below.
    #[arg(value_name = "STACK")]
    pub stack: String,
    /// The socket that is made for clients of this machine, for its owner alone.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Address and port for clients of this machine; port 0 is one that is free. Every user of the
    /// machine can connect to it.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Clients may not write.
    #[arg(long)]
    pub read_only: bool,
    /// Name of the export. Clients that name none reach it as well.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub name: String,
    /// The length of a disk without a file, for instance 20G [default: 1G].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub size: Option<u64>,
    /// Also tells at the end what clients did.
    #[arg(long, short)]
    pub verbose: bool,
}
