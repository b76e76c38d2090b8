//! The end of a domain that cannot go on: say why, tell the peers, and let the toolstack act
//! (`on_crash`).
//!
//! Nothing here allocates, waits without end or takes a lock that might be held.

use crate::arch::{backtrace, traps::Frame};
use crate::{console, log, xen};
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use xen_abi::sched::Reason;
use xen_hypercall::sched;

/// Reads of a full console ring before a report goes on without it.
const MAX_RETRIES: u32 = 50_000;
/// Lines of the log that a report repeats.
const LOG_LINES: usize = 16;

static CRASHING: AtomicBool = AtomicBool::new(false);

/// Writes to the console without the log, and gives up on a console that nobody reads.
struct Report {
    retries: u32,
}

impl Write for Report {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        console::crash_write(text, &mut self.retries);
        Ok(())
    }
}

/// Reports a panic and ends the domain.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    let frame = Frame::here();
    let message = info.message();
    match info.location() {
        Some(at) => end(format_args!("{message} at {at}"), &frame),
        None => end(format_args!("{message}"), &frame),
    }
}

/// Reports an exception and ends the domain.
pub fn trap(what: fmt::Arguments<'_>, frame: &Frame) -> ! {
    end(what, frame)
}

fn end(what: fmt::Arguments<'_>, frame: &Frame) -> ! {
    if CRASHING.swap(true, Ordering::Relaxed) {
        console::emergency("PANIC: once more, while the first was reported\n");
        sched::shutdown(Reason::Crash);
    }
    // First of all, so that no peer waits for this domain.
    xen::death::announce();
    // Writing cannot fail: what a console does not take is dropped.
    let _ = report(&mut Report { retries: MAX_RETRIES }, what, frame);
    sched::shutdown(Reason::Crash)
}

fn report(out: &mut Report, what: fmt::Arguments<'_>, frame: &Frame) -> fmt::Result {
    writeln!(out, "\nPANIC: {what}\nregisters:\n{frame}")?;
    writeln!(out, "backtrace: (addr2line -fe ringside.elf ADDRESS...)\n  {:#x}", frame.rip)?;
    for address in backtrace::walk(frame.rbp) {
        writeln!(out, "  {address:#x}")?;
    }
    writeln!(out, "last lines of the log:")?;
    log::for_recent_lines(LOG_LINES, |line| {
        let _ = writeln!(out, "  {line}");
    });
    writeln!(out, "the domain ends with SHUTDOWN_crash")
}
