#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod acts;
mod disk;
mod error;
mod play;
mod played;
mod ring;
mod rogue;

pub use acts::{ACTS, Act, Demand};
pub use error::Error;
pub use play::{Patience, check, play};
pub use played::{Played, Reaction};
