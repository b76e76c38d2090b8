//! The tool `xen-disk` as a library: a program of one's own registers storages and layers, and is
//! the same tool with these (`examples/own_storage.rs`).
//!
//! Disks are served over any platform, so that they can be tested without Xen.
#![deny(unsafe_code)]

pub mod adopt;
mod args;
pub mod config;
pub mod control;
mod convert;
pub mod disk;
pub mod export;
mod generate;
mod host;
pub mod identity;
pub mod pool;
pub mod report;
pub mod served;

pub use args::*;
pub use convert::{Copied, convert};
pub use generate::generate;
pub use tools_common::{Code, Failure};
pub use xen_storage::{layer, stack, storage};

use clap::Parser;
use std::process::ExitCode;

/// Is the program `xen-disk`: carries out its command line, and returns its exit code. Storages
/// and layers that were registered before ([`stack::register`]) are known to all commands.
pub fn main() -> ExitCode {
    match host::run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            host::say(&format!("xen-disk: {failure}"));
            failure.code.into()
        }
    }
}
