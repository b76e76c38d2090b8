//! The console's input: a few commands for whoever sits at `xl console`.

use super::block::{self, Disks};
use super::echo;
use crate::console;
use crate::memory::{FRAMES, HEAP};
use crate::xen;
use crate::xen::rings::Ring;
use alloc::rc::Rc;
use alloc::string::String;
use core::fmt::Write;
use core::future::pending;
use embedded_io_async::Read;
use log::{LevelFilter, error};
use xen_abi::sched::Reason;
use xen_platform::{Channel, ReadySince};
use xen_ring::stream::{self, RingReader};

/// Longest line that is listened to; the rest of it is dropped.
const MAX_LINE: usize = 128;

const HELP: &str = "\
commands:
  status      time, memory, grants
  vchan status                    how many clients the echo server has
  log LEVEL   log from this level up: off, error, warn, info, debug, trace
  poweroff    end the domain
  reboot      start it again
  crash       panic, to see what on_crash does
";

/// Obeys commands until one of them ends the domain.
pub async fn run(ring: Ring, disks: &Disks) -> Reason {
    let channel = ring.channel();
    let output = pump(channel.clone());
    let input = async {
        match stream::split(Rc::new(ring.page.shared()), channel.clone(), console::INPUT, console::OUTPUT) {
            Ok((reader, _)) => obey(reader, disks).await,
            Err(why) => {
                error!("no input from the console: {why}");
                pending().await
            }
        }
    };
    match embassy_futures::select::select(output, input).await {
        embassy_futures::select::Either::First(never) => match never {},
        embassy_futures::select::Either::Second(reason) => reason,
    }
}

/// Writes what waits for the ring whenever the other side has read.
async fn pump(channel: Rc<impl Channel>) -> core::convert::Infallible {
    let mut events = ReadySince::now(&channel);
    loop {
        console::pump();
        events.wait(&channel).await;
    }
}

async fn obey<M: xen_platform::SharedMem, C: Channel>(mut input: RingReader<M, C>, disks: &Disks) -> Reason {
    let mut line = String::new();
    let mut bytes = [0; 64];
    loop {
        let n = match input.read(&mut bytes).await {
            Ok(n) => n,
            Err(why) => {
                error!("no more input from the console: {why}");
                pending().await
            }
        };
        for &byte in &bytes[..n] {
            echo(byte, &mut line);
            if matches!(byte, b'\r' | b'\n')
                && let Some(reason) = command(&core::mem::take(&mut line), disks).await
            {
                return reason;
            }
        }
    }
}

/// Shows what is typed, and edits the line.
fn echo(byte: u8, line: &mut String) {
    let mut out = console::Out;
    // Writing to the console cannot fail.
    let _ = match byte {
        b'\r' | b'\n' => out.write_str("\n"),
        0x08 | 0x7f if line.pop().is_some() => out.write_str("\x08 \x08"),
        b' '..=b'~' if line.len() < MAX_LINE => {
            line.push(byte.into());
            out.write_char(byte.into())
        }
        _ => Ok(()),
    };
}

/// Carries out one line. Returns the reason if it ends the domain.
async fn command(line: &str, disks: &Disks) -> Option<Reason> {
    let mut words = line.split_whitespace();
    if let Some(rest) = line.trim_start().strip_prefix("blk ") {
        if !disks.command(&mut rest.split_whitespace()).await {
            // Writing to the console cannot fail.
            let _ = writeln!(console::Out, "'{line}': no such disk or command: try help");
        }
        return None;
    }
    let reply = match (words.next(), words.next()) {
        (None, _) => Ok(()),
        (Some("help"), None) => write!(console::Out, "{HELP}{}", block::HELP),
        (Some("status"), None) => status(),
        (Some("vchan"), Some("status")) => writeln!(console::Out, "clients  {} connected", echo::clients()),
        (Some("log"), Some(level)) => match level.parse::<LevelFilter>() {
            Ok(level) => {
                log::set_max_level(level);
                Ok(())
            }
            Err(_) => writeln!(console::Out, "log {level}: wants off, error, warn, info, debug or trace"),
        },
        (Some("poweroff"), None) => return Some(Reason::Poweroff),
        (Some("reboot"), None) => return Some(Reason::Reboot),
        (Some("crash"), None) => panic!("as the console says"),
        (Some(word), _) => writeln!(console::Out, "'{word}': try help"),
    };
    // Writing to the console cannot fail.
    let _ = reply;
    None
}

fn status() -> core::fmt::Result {
    let (used, claimed, unclaimed) = HEAP.usage();
    let grants = xen::grant_usage();
    let mut out = console::Out;
    writeln!(out, "up       {} ms", xen::clock::nanos_since_boot() / 1_000_000)?;
    writeln!(out, "heap     {used} bytes in use of {claimed}, {unclaimed} unclaimed")?;
    writeln!(out, "frames   {} KiB free", FRAMES.free_bytes() / 1024)?;
    writeln!(
        out,
        "grants   {} in use, {} of {} frames, {} still mapped by a peer that left",
        grants.used, grants.frames, grants.max_frames, grants.still_mapped
    )
}
