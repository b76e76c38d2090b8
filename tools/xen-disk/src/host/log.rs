//! The log of the crates that serve a disk, on standard error: systemd takes it to the journal.

use log::{LevelFilter, Log, Metadata, Record};
use tools_common::report;

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        report(&format!("{}: {}", record.target(), record.args()));
    }

    fn flush(&self) {}
}

/// Sends warnings and errors to standard error, and with `verbose` also what is for information.
pub(super) fn install(verbose: bool) {
    static LOG: Stderr = Stderr;
    // A program of one's own may have a log already.
    if log::set_logger(&LOG).is_ok() {
        log::set_max_level(if verbose { LevelFilter::Info } else { LevelFilter::Warn });
    }
}
