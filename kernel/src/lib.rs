//! The unikernel's program: serves the vchan echo, and tries disks.
//!
//! [`main`] is the table of contents; what it stands on is `xen-rt`'s.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

#[cfg(feature = "block")]
mod block;
#[cfg(not(feature = "block"))]
#[path = "no_block.rs"]
mod block;
mod capitals;
#[cfg(feature = "client")]
mod client;
#[cfg(not(feature = "client"))]
#[path = "no_client.rs"]
mod client;
mod commands;
mod crash;
mod echo;
#[cfg(feature = "exercise")]
mod exercise;
#[cfg(all(feature = "block", not(feature = "exercise")))]
#[path = "no_exercise.rs"]
mod exercise;
mod options;

use alloc::boxed::Box;
use commands::Commands;
use core::pin::Pin;
use embassy_futures::select::{Either, Either3, select, select3};
use log::warn;
use options::{Options, Role};
use xen_rt::{Domain, Reason, balloon, control, shell};

/// Runs what the command line says until the domain shall end; returns why.
///
/// In a box, so that the program is compiled here, once, and not as a part of the binary.
pub fn main(domain: Domain) -> Pin<Box<dyn Future<Output = Reason>>> {
    Box::pin(run(domain))
}

async fn run(domain: Domain) -> Reason {
    let options = Options::parse(domain.command_line()).unwrap_or_else(|why| panic!("{why}"));
    if !options.ignored.is_empty() {
        let words = options.ignored.join(" ");
        warn!("command line: ignored, as they are words of other kernels: {words}");
    }
    domain.spawn(balloon::follow(domain.clone()));
    let disks = block::Disks::new(&domain);
    let commands = Commands { disks: &disks };
    let end = async {
        let control = control::wait(&domain);
        match select3(control, shell::run(&domain, &commands), disks.serve(&options)).await {
            Either3::First(reason) | Either3::Second(reason) | Either3::Third(reason) => reason,
        }
    };
    let crash = || options.crash.into_iter().for_each(crash::on_purpose);
    match options.role {
        Role::Server => echo::serve(&domain, &options, crash, end).await,
        Role::Client => match select(client::run(&domain, &options), end).await {
            Either::First(reason) | Either::Second(reason) => reason,
        },
        Role::None => end.await,
    }
}
