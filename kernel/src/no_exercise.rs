//! A kernel with disks and without the exerciser, as the options and the console see it.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use xen_blk::protocol::vdev;
use xen_rt::{Domain, Reason};

/// The exerciser is no part of this image.
pub const IS_BUILT: bool = false;
/// Says which image has it.
pub const NOT_BUILT: &str = "this image has no block exerciser, boot ringside.elf for it";

/// The names of all options for disks.
pub const OPTIONS: &str = "blk.disk";

/// There are no commands for tests.
pub const HELP: &str = "";

/// The disks to connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// `blk.disk=`: the disks, such as `xvda`; all if there are none.
    pub disks: Vec<String>,
}

impl Plan {
    /// Sets the option `name`; returns false if it is none of disks. The error says what is wrong.
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool, String> {
        if !name.starts_with("blk.") {
            return Ok(false);
        }
        if name != "blk.disk" {
            return Err(format!("{name}={value}: {NOT_BUILT} (of disks, there is {OPTIONS})"));
        }
        self.disks.clear();
        for disk in value.split(',') {
            if vdev::parse(disk).is_none() {
                return Err(format!("{name}={value}: wants names of disks, such as xvda,xvdb"));
            }
            self.disks.push(disk.to_owned());
        }
        Ok(true)
    }
}

/// Runs nothing: no plan has tests.
pub async fn run(_: &Domain, _: &Plan) {}

/// Runs nothing.
pub async fn at_boot(_: &Domain, _: &Plan) -> Option<Reason> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_of_the_exerciser_is_refused_with_the_image_that_has_it() {
        let mut plan = Plan::default();
        assert_eq!(plan.set("blk.disk", "xvda,xvdb"), Ok(true));
        assert_eq!(plan.disks, ["xvda", "xvdb"]);
        for (name, value, says) in [
            ("blk.run", "report", "blk.run=report: this image has no block exerciser"),
            ("blk.seed", "1", "boot ringside.elf"),
            ("blk.disk", "sda1x!", "blk.disk=sda1x!: wants names of disks"),
        ] {
            let error = plan.set(name, value).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert_eq!(plan.set("vchan.path", "x"), Ok(false));
    }
}
