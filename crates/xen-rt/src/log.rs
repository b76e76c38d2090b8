//! The log: lines with the time since boot, on the console and in a ring that a crash report
//! quotes.

use crate::console;
use crate::xen::clock;
use core::fmt::{self, Write};
use log::{LevelFilter, Log, Metadata, Record};
use spin::Mutex;

/// Bytes of the log that are kept for a crash report.
const KEPT: usize = 4096;

struct Logger;

static LOGGER: Logger = Logger;
static RECENT: Mutex<Recent> = Mutex::new(Recent { bytes: [0; KEPT], end: 0 });

/// Makes the `log` macros write here, from the level `Info` up.
pub fn init() {
    // Fails only when called twice, and then there is nothing to do.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(LevelFilter::Info);
}

/// The last bytes of everything that was logged.
struct Recent {
    bytes: [u8; KEPT],
    /// Number of bytes that were ever written.
    end: usize,
}

impl Write for Recent {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            self.bytes[self.end % KEPT] = byte;
            self.end += 1;
        }
        Ok(())
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let target = record.target().rsplit(':').next().unwrap_or_default();
            line(format_args!("{:<5} {}: {}", record.level(), target, record.args()));
        }
    }

    fn flush(&self) {}
}

/// Logs one line, whatever the level.
pub fn line(text: fmt::Arguments<'_>) {
    let micros = clock::nanos_since_boot() / 1000;
    let stamped = format_args!("[{:5}.{:06}] {text}\n", micros / 1_000_000, micros % 1_000_000);
    // Neither can fail: both take everything.
    let _ = RECENT.lock().write_fmt(stamped);
    let _ = console::Out.write_fmt(stamped);
}

/// Hands the last lines of the log to `each`, oldest first. For crash reports: a log that is being
/// written to at this very moment is skipped rather than waited for.
pub fn for_recent_lines(count: usize, mut each: impl FnMut(&str)) {
    let Some(recent) = RECENT.try_lock() else { return };
    let len = recent.end.min(KEPT);
    let mut bytes = [0; KEPT];
    for (i, byte) in bytes[..len].iter_mut().enumerate() {
        *byte = recent.bytes[(recent.end - len + i) % KEPT];
    }
    let lines = || bytes[..len].split(|&b| b == b'\n').filter(|l| !l.is_empty());
    let skip = lines().count().saturating_sub(count);
    for line in lines().skip(skip) {
        // The oldest line may have lost its beginning, in the middle of a character.
        each(core::str::from_utf8(line).unwrap_or("..."));
    }
}
