//! Commands typed at the console (`xl console`): a service that a program may run.

use crate::memory::{FRAMES, HEAP};
use crate::{Domain, Reason, console, xen};
use alloc::rc::Rc;
use alloc::string::String;
use core::fmt::Write;
use core::future::{Future, pending, poll_fn};
use embassy_futures::select::{Either, select};
use embedded_io_async::Read;
use log::{LevelFilter, error};
use xen_platform::{Channel, Platform};
use xen_ring::stream::{self, RingReader};

/// Longest line that is listened to; the rest of it is dropped.
const MAX_LINE: usize = 128;

const HELP: &str = "\
commands:
  status      time, memory, grants
  reconnect   begin the connection to xenstore anew
  log LEVEL   log from this level up: off, error, warn, info, debug, trace
  poweroff    end the domain
  reboot      start it again
  crash       panic, to see what on_crash does
";

/// The program's own commands, beside those of every domain.
pub trait Commands {
    /// Writes the lines that `help` shows for them.
    fn help(&self, out: &mut dyn Write) -> core::fmt::Result;
    /// Carries out one line; returns false if it is no command, or makes no sense.
    fn run(&self, line: &str) -> impl Future<Output = bool>;
}

/// No commands of the program's own.
impl Commands for () {
    fn help(&self, _: &mut dyn Write) -> core::fmt::Result {
        Ok(())
    }

    async fn run(&self, _: &str) -> bool {
        false
    }
}

/// Carries out commands until one of them ends the domain.
pub async fn run(domain: &Domain, commands: &impl Commands) -> Reason {
    let mut seen = domain.xen().resumes().count();
    loop {
        // A restored domain has another ring.
        let restored = poll_fn(|cx| domain.xen().resumes().poll_after(&mut seen, cx));
        match select(restored, obey_ring(domain, commands)).await {
            Either::First(()) => {}
            Either::Second(reason) => return reason,
        }
    }
}

async fn obey_ring(domain: &Domain, commands: &impl Commands) -> Reason {
    let (ring, channel) = domain.console();
    let page = Rc::new(ring.page.shared());
    match stream::split(page, channel, console::INPUT, console::OUTPUT) {
        Ok((reader, _)) => obey(reader, domain, commands).await,
        Err(why) => {
            error!("no input from the console: {why}");
            pending().await
        }
    }
}

async fn obey<M: xen_platform::SharedMem, C: Channel>(
    mut input: RingReader<M, C>,
    domain: &Domain,
    commands: &impl Commands,
) -> Reason {
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
                && let Some(reason) = command(&core::mem::take(&mut line), domain, commands).await
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
async fn command(line: &str, domain: &Domain, commands: &impl Commands) -> Option<Reason> {
    let mut words = line.split_whitespace();
    let reply = match (words.next(), words.next()) {
        (None, _) => Ok(()),
        (Some("help"), None) => {
            write!(console::Out, "{HELP}").and_then(|()| commands.help(&mut console::Out))
        }
        (Some("status"), None) => status(),
        (Some("reconnect"), None) if domain.reconnect_store() => Ok(()),
        (Some("reconnect"), None) => {
            writeln!(console::Out, "this xenstored offers no reconnection")
        }
        (Some("log"), Some(level)) => match level.parse::<LevelFilter>() {
            Ok(level) => {
                log::set_max_level(level);
                Ok(())
            }
            Err(_) => {
                writeln!(console::Out, "log {level}: wants off, error, warn, info, debug or trace")
            }
        },
        (Some("poweroff"), None) => return Some(Reason::Poweroff),
        (Some("reboot"), None) => return Some(Reason::Reboot),
        (Some("crash"), None) => panic!("as the console says"),
        _ if commands.run(line).await => Ok(()),
        _ => writeln!(console::Out, "'{}': try help", line.trim()),
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
