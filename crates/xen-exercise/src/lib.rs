//! The exerciser: a guest as an instrument that tries out block backends.
//!
//! [`Plan`] is what the command line asks for, [`run()`] carries it out over a [`Site`], and [`Front`] is the site that
//! stands on `xen-blk`'s frontend on any platform. The tests themselves ([`CASES`]) have no type parameters.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod area;
mod cases;
mod crc;
mod crowd;
mod front;
mod latency;
mod log;
mod plan;
mod random;
mod raw;
mod run;
mod site;
mod stamp;

pub use cases::{CASES, Case, Needs, describe, numbers};
pub use crowd::Boxed;
pub use front::{Front, Host};
pub use plan::{OPTIONS, Plan};
pub use raw::{Page, Raw};
pub use run::{Verdict, run};
pub use site::{Device, Failure, Io, Kind, Pages, Site, Usage, Way};
pub use stamp::{Flaw, SECTOR, Stamps};
