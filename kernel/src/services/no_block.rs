//! A kernel without disks: what [`super`] and the options see of them then.

use crate::options::Options;
use crate::xen::Xen;
use alloc::string::String;
use core::future::pending;
use core::str::SplitWhitespace;
use xen_abi::sched::Reason;
use xen_exec::Spawner;
use xen_store::Store;

/// Says, in place of the names of options, why there are none.
pub const OPTIONS: &str = "and none of disks, which this kernel was built without";

/// There are no commands for disks.
pub const HELP: &str = "";

/// Nothing to try.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {}

impl Plan {
    /// There is no such option.
    pub fn set(&mut self, _: &str, _: &str) -> Result<bool, String> {
        Ok(false)
    }
}

/// The disks of this domain: none.
pub struct Disks;

impl Disks {
    /// Knows of none.
    pub fn new(_: &Xen, _: &Store, _: &Spawner) -> Disks {
        Disks
    }

    /// Has nothing to do, for ever.
    pub async fn serve(&self, _: &Options) -> Reason {
        pending().await
    }

    /// Knows no command.
    pub async fn command(&self, _: &mut SplitWhitespace<'_>) -> bool {
        false
    }
}
