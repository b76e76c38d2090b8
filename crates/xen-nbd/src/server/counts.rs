//! Counts of what a server has done.

use crate::wire::Command;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since a server was started.
#[derive(Default, Debug)]
pub struct Counts {
    clients: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    others: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counts {
    pub(super) fn add_client(&self) {
        add(&self.clients, 1);
    }

    pub(super) fn add_request(&self, command: Command, len: u32) {
        match command {
            Command::Read => {
                add(&self.reads, 1);
                add(&self.bytes_read, len.into());
            }
            Command::Write => {
                add(&self.writes, 1);
                add(&self.bytes_written, len.into());
            }
            _ => add(&self.others, 1),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write!(
            f,
            "{} clients; {} reads of {} bytes, {} writes of {} bytes, {} other requests",
            get(&self.clients),
            get(&self.reads),
            get(&self.bytes_read),
            get(&self.writes),
            get(&self.bytes_written),
            get(&self.others),
        )
    }
}
