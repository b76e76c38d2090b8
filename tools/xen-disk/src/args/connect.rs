//! The arguments of `xen-disk connect` and `serve`.

use super::names::parse_units;
use super::{DomainArgument, Vdev, after_help};
use crate::stack::{self, Files, StackError, parse_size};
use crate::storage::Storage;
use crate::{Code, Failure};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use xen_blk::protocol::Units;

/// The arguments of `xen-disk connect`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help(&format!("  xen-disk connect vm1 --path disk.raw
  xen-disk connect vm1 --path golden.raw --backend cow
  xen-disk connect 7 --vdev xvdc --size 10G --backend ram
  xen-disk connect vm1 --stack 'throttle:iops=500/file:disk.raw'

{}", stack::help())))]
pub struct ConnectArguments {
    /// The domain: its number, name or UUID.
    #[arg(value_name = "VM")]
    pub domain: DomainArgument,
    /// The guest's name for the disk, for instance xvdb [default: the first that is free].
    #[arg(long, value_name = "DISK")]
    pub vdev: Option<Vdev>,
    /// The storage of the disk.
    #[command(flatten)]
    pub source: DiskSource,
    /// Also tells what the guest negotiates, and at the end what it did.
    #[arg(long, short)]
    pub verbose: bool,
}

/// The storage of a disk, as the command line and configuration files say it.
#[derive(Args, Clone, PartialEq, Debug, Default)]
pub struct DiskSource {
    /// The image or block device.
    #[arg(long, value_name = "PATH", conflicts_with = "stack")]
    pub path: Option<PathBuf>,
    /// Kind of its storage [default: file with --path, discard without].
    #[arg(long, value_enum, conflicts_with = "stack")]
    pub backend: Option<Backend>,
    /// The length of a disk without a file, for instance 20G [default: 1G].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub size: Option<u64>,
    /// The guest may not write it.
    #[arg(long)]
    pub readonly: bool,
    /// Layers over a storage; see below.
    #[arg(long, value_name = "STACK")]
    pub stack: Option<String>,
    /// The guest's way to count sectors of 4096 bytes: header (Linux, Ringside), qemu (Windows,
    /// Unikraft), freebsd, minios or tapdisk [default: header].
    #[arg(long, value_name = "NAME", value_parser = parse_units)]
    pub units: Option<Units>,
    /// Action on a write that finds no room.
    #[arg(long, value_enum, value_name = "ACTION", default_value_t = OnEnospc::Pause)]
    pub on_enospc: OnEnospc,
    /// Action on an object store that is out of reach: wait, wait:SECONDS or fail [default: wait].
    #[arg(long, value_name = "ACTION", value_parser = parse_outage)]
    pub on_outage: Option<String>,
    /// The disk of an object store is taken from a program that has it.
    #[arg(long)]
    pub take_over: bool,
}

/// Parses the action on an outage, and returns the option of `object` that says it.
pub(crate) fn parse_outage(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?}: wait, wait:SECONDS or fail is possible");
    match text.split_once(':') {
        None if ["wait", "fail"].contains(&text) => Ok(format!("outage={text}")),
        Some(("wait", seconds)) => match seconds.parse::<u32>() {
            Ok(seconds) if seconds > 0 => Ok(format!("outage={seconds}s")),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

/// Action on a write that finds no room.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnEnospc {
    /// It waits until there is room: the guest waits with it.
    #[default]
    Pause,
    /// It fails: the guest is told.
    Fail,
}

/// Kind of a storage.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Takes everything, keeps nothing.
    Discard,
    /// In memory.
    Ram,
    /// In a file or on a block device.
    File,
    /// In a file that is mapped into memory.
    Mmap,
    /// In a file that never changes; what is written is in memory.
    Cow,
}

impl DiskSource {
    /// Adds what the arguments say about an object store to a stack: its storage is the last part.
    fn with_options(&self, stack: &str) -> String {
        let take_over = self.take_over.then(|| "takeover".to_string());
        let options = self.on_outage.iter().cloned().chain(take_over);
        options.fold(stack.to_string(), |stack, option| format!("{stack},{option}"))
    }

    /// Returns the stack that they amount to.
    pub fn stack(&self) -> Result<String, Failure> {
        let usage = |text: String| Err(Failure::new(Code::Usage, text));
        if let Some(stack) = &self.stack {
            return match (&self.path, self.backend) {
                (None, None) => Ok(self.with_options(stack)),
                _ => usage(
                    "a stack says where the disk is: leave the path and the backend out".into(),
                ),
            };
        }
        if self.on_outage.is_some() || self.take_over {
            return usage("only disks in object stores are taken over and have outages".into());
        }
        let backend = self.backend.unwrap_or(if self.path.is_some() {
            Backend::File
        } else {
            Backend::Discard
        });
        let name = backend.to_possible_value().expect("none is skipped").get_name().to_string();
        let needs_path = !matches!(backend, Backend::Discard | Backend::Ram);
        match &self.path {
            Some(path) if needs_path => match path.to_str() {
                Some(path) if !path.contains('"') => Ok(format!("{name}:\"{path}\"")),
                _ => usage(format!(
                    "the path {path:?} cannot be used: it has a quote, or is no UTF-8"
                )),
            },
            Some(_) => {
                usage(format!("the backend {name} keeps nothing in a file: leave the path out"))
            }
            None if needs_path => usage(format!("the backend {name} needs a path")),
            None => Ok(name),
        }
    }

    /// Finds what is wrong with the words and with the files that they name; opens and makes
    /// nothing.
    pub fn check(&self) -> Result<(), Failure> {
        let files = Files { read_only: self.readonly, size: self.size };
        Ok(stack::check(&self.stack()?, &files)?)
    }

    /// Opens it.
    pub fn open(&self) -> Result<Arc<dyn Storage>, Failure> {
        // An overlay or a copy on write is written even if what it stands on is not; the guest is
        // told by other means.
        let files = Files { read_only: self.readonly, size: self.size };
        stack::build(&self.stack()?, &files).map_err(|error: StackError| error.into())
    }
}

/// The arguments of `xen-disk serve`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help("  xen-disk serve /etc/xen/xen-disk.toml

with for instance in that file:
  [[disk]]
  vm = \"vm1\"
  vdev = \"xvdb\"
  path = \"/srv/disk.raw\"

  [[disk]]
  vm = \"vm2\"
  vdev = \"xvdb\"
  stack = \"overlay:\\\"/srv/vm2.changes\\\"/file:/srv/golden.raw\""))]
pub struct ServeArguments {
    /// The configuration; without one, only the disks that xl makes are seen to.
    #[arg(value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// Also tells what the guests negotiate, and at the end what they did.
    #[arg(long, short)]
    pub verbose: bool,
}
