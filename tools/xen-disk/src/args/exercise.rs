//! The arguments of `xen-disk exercise`.

use super::{DomainArgument, Vdev, after_help};
use clap::Args;
use xen_blk_rogue::{ACTS, Act};

/// The arguments of `xen-disk exercise`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help(&format!("  xen-disk exercise vm1
  xen-disk exercise vm1 xvdz --act far-id,twice
  xen-disk exercise --list

The guest has to use the disk meanwhile, for instance:
  while :; do dd if=/dev/xvdz of=/dev/null bs=4k count=64 iflag=direct; sleep 0.1; done

Acts: {}", names())))]
pub struct ExerciseArguments {
    /// The domain: its number, name or UUID.
    #[arg(value_name = "VM", required_unless_present = "list")]
    pub domain: Option<DomainArgument>,
    /// The disk that is plugged in and taken away for each act [default: the first that is free].
    #[arg(value_name = "DISK")]
    pub vdev: Option<Vdev>,
    /// Only these acts.
    #[arg(long = "act", value_name = "NAME", value_delimiter = ',', value_parser = parse_act)]
    pub acts: Vec<&'static Act>,
    /// Lists the acts, with their sources.
    #[arg(long)]
    pub list: bool,
    /// Times as long as usual that the guest has for everything: on a busy or an emulated host.
    #[arg(long, value_name = "FACTOR", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub slowness: u32,
    /// A line of JSON for each act instead of TAP.
    #[arg(long)]
    pub json: bool,
}

fn names() -> String {
    ACTS.iter().map(|act| act.name).collect::<Vec<_>>().join(", ")
}

fn parse_act(name: &str) -> Result<&'static Act, String> {
    ACTS.iter().find(|act| act.name == name).ok_or_else(|| format!("it is none of {}", names()))
}
