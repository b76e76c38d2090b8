#![doc = include_str!("../README.md")]
//! The exerciser: a guest as an instrument that tries out block backends.
//!
//! [`Plan`] holds the options of the command line, [`run()`] carries it out in an [`Environment`],
//! and [`Front`] is the environment over `xen-blk`'s frontend on any platform. The tests themselves
//! ([`CASES`]) have no type parameters.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod area;
mod cases;
mod crc;
mod environment;
mod front;
mod latency;
mod local;
mod log;
#[cfg(feature = "mix")]
mod mix;
mod plan;
mod random;
mod raw;
mod run;
mod stamp;
mod tasks;

pub use cases::{CASES, Case, Needs};
pub use environment::{Device, Direction, Environment, Error, ErrorKind, Io, Pages, Usage};
pub use front::{Front, Host};
pub use local::{info, run_on};
#[cfg(feature = "mix")]
pub use mix::Mix;
pub use plan::{OPTIONS, Plan};
pub use raw::{Page, Raw, Rings};
pub use run::{Verdict, run};
pub use stamp::{Flaw, SECTOR, Stamps};
pub use tasks::Boxed;
pub use xen_blk::front::{Config, Info};
