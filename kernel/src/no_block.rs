//! A kernel without disks, as the options and the console see it.

use crate::options::Options;
use alloc::string::String;
use core::future::pending;
use core::str::SplitWhitespace;
use xen_rt::{Domain, Reason};

/// Says, in place of the names of options, why there are none.
pub const OPTIONS: &str = "and none of disks, which this kernel was built without";

/// There are no commands for disks.
pub const HELP: [&str; 0] = [];

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
    pub fn new(_: &Domain) -> Disks {
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
