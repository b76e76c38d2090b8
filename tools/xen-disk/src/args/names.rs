//! Domains and disks as users call them.

use std::fmt;
use std::str::FromStr;
use xen_blk::protocol::{Units, vdev};

/// A virtual disk's number, which users know by its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Vdev(pub u32);

impl FromStr for Vdev {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let vdev = vdev::parse(text).map(Vdev);
        vdev.ok_or_else(|| {
            format!("{text:?} is no virtual disk: they are called xvda to xvdz, and so on")
        })
    }
}

impl fmt::Display for Vdev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&vdev::name(self.0))
    }
}

/// The units that a guest counts in, by the name of a set of them.
pub fn parse_units(text: &str) -> Result<Units, String> {
    let names = Units::NAMED.map(|(name, _)| name).join(", ");
    Units::from_name(text).ok_or_else(|| format!("{text:?} are no units; there are {names}"))
}
