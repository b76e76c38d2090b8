//! Domains and disks as users call them.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use xen_blk::front::{self, Units};
use xen_platform::DomId;

/// A domain as the user calls it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DomainArgument {
    /// By its number.
    Number(DomId),
    /// By its UUID, in lower case.
    Uuid(String),
    /// By its name.
    Name(String),
}

impl FromStr for DomainArgument {
    type Err = Infallible;

    /// Digits are a number, if a domain can have it; what looks like a UUID is one; anything else is a name.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().map(DomId).filter(|domid| digits && *domid < DomId::FIRST_RESERVED);
        Ok(match number {
            Some(number) => DomainArgument::Number(number),
            None if is_uuid(text) => DomainArgument::Uuid(text.to_ascii_lowercase()),
            None => DomainArgument::Name(text.to_string()),
        })
    }
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

impl fmt::Display for DomainArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DomainArgument::Number(domid) => write!(f, "{domid}"),
            DomainArgument::Uuid(text) | DomainArgument::Name(text) => f.write_str(text),
        }
    }
}

/// A virtual disk's number, which users know by its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Vdev(pub u32);

impl FromStr for Vdev {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let vdev = front::vdev(text).map(Vdev);
        vdev.ok_or_else(|| format!("{text:?} is no virtual disk: they are called xvda to xvdz, and so on"))
    }
}

impl fmt::Display for Vdev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&front::name(self.0))
    }
}

/// The units that a guest counts in, by the name of a set of them.
pub fn parse_units(text: &str) -> Result<Units, String> {
    let names = Units::NAMED.map(|(name, _)| name).join(", ");
    Units::from_name(text).ok_or_else(|| format!("{text:?} are no units; there are {names}"))
}
