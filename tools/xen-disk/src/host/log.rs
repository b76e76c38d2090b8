//! The log on standard error, of this program and of the crates that serve a disk: for a person, or
//! with the priority of each line for the journal.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::env;
use std::os::fd::AsFd;
use std::sync::LazyLock;
use tools_common::report;

/// Start of the lines that tell of a failure.
const FAILURE: &str = "xen-disk: ";

/// True if standard error is the journal's: sd-daemon(3).
static JOURNAL: LazyLock<bool> = LazyLock::new(|| {
    let wanted = env::var("JOURNAL_STREAM").ok();
    let found = nix::sys::stat::fstat(std::io::stderr().as_fd());
    wanted
        .zip(found.ok())
        .is_some_and(|(wanted, found)| wanted == format!("{}:{}", found.st_dev, found.st_ino))
});

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        write(record.level(), &format!("{}: {}", record.target(), record.args()));
    }

    fn flush(&self) {}
}

/// Sends warnings and errors to standard error, and with `verbose` also what is for information.
pub(super) fn install(verbose: bool) {
    static LOG: Stderr = Stderr;
    // Before files are out of reach.
    LazyLock::force(&JOURNAL);
    // A program of one's own may have a log already.
    if log::set_logger(&LOG).is_ok() {
        log::set_max_level(if verbose { LevelFilter::Info } else { LevelFilter::Warn });
    }
}

/// Reports what happens, or with this program's name in front what failed.
pub(crate) fn say(text: &str) {
    write(if text.starts_with(FAILURE) { Level::Error } else { Level::Info }, text);
}

fn write(level: Level, text: &str) {
    match *JOURNAL {
        true => report(&for_journal(level, text)),
        false => report(text),
    }
}

/// Puts the priority in front of each line, as syslog(3) counts it.
fn for_journal(level: Level, text: &str) -> String {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let lines: Vec<String> = text.lines().map(|line| format!("<{priority}>{line}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_priority() {
        assert_eq!(for_journal(Level::Error, "a\nb"), "<3>a\n<3>b");
        assert_eq!(for_journal(Level::Info, "a"), "<6>a");
    }
}
