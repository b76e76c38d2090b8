//! The machine that the two processes share: a file of pages and two eventfds. `c/standins.h` has
//! the same layout.

use crate::native::Error;
use crate::pages::{Pages, inherited};
use crate::{CLIENT, MEMORY, SERVER};
use anyhow::{Context, Result};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::env;
use std::process::Command;
use xen_platform::{IndexMemory, PAGE_SIZE};

/// Pages of the file: those of two rings of 1 MiB, and some.
const PAGES: u64 = 1024;

/// Offsets in the first page: the next free page, and the two keys, each plus one.
const NEXT_PAGE: usize = 0;
const RING_REF: usize = 4;
const EVENT_CHANNEL: usize = 8;

/// A machine as its maker has it. Its descriptors are left open for the processes.
pub struct Made {
    memory: OwnedFd,
    server: OwnedFd,
    client: OwnedFd,
}

impl Made {
    /// Makes a machine without anything in it.
    pub fn new() -> Result<Self, Error> {
        let memory = memfd_create("vchan-native", MemfdFlags::empty())?;
        ftruncate(&memory, PAGES * PAGE_SIZE as u64)?;
        Pages::map(&memory, 0, 1)?.store(NEXT_PAGE, 1);
        let (server, client) =
            (eventfd(0, EventfdFlags::empty())?, eventfd(0, EventfdFlags::empty())?);
        Ok(Made { memory, server, client })
    }

    /// Hands it to a process.
    pub fn give(&self, command: &mut Command) {
        for (name, fd) in [(MEMORY, &self.memory), (SERVER, &self.server), (CLIENT, &self.client)] {
            command.env(name, fd.as_raw_fd().to_string());
        }
    }
}

/// A machine as one of its processes has it.
pub struct Machine {
    pub memory: OwnedFd,
    /// The eventfd that wakes the server, and that which wakes the client.
    pub wakes: (OwnedFd, OwnedFd),
    first: Pages,
}

impl Machine {
    /// Takes over what the environment names.
    pub fn from_env() -> Result<Self> {
        let take = |name: &str| -> Result<OwnedFd> {
            let number = env::var(name).with_context(|| format!("{name} is not set"))?;
            Ok(inherited(number.parse().with_context(|| format!("{name}={number}"))?))
        };
        let (memory, wakes) = (take(MEMORY)?, (take(SERVER)?, take(CLIENT)?));
        let first = Pages::map(&memory, 0, 1)?;
        Ok(Machine { memory, wakes, first })
    }

    /// Takes `count` free pages.
    pub fn take_pages(&self, count: usize) -> Result<Pages, Error> {
        // Only the server takes any, and it has one thread.
        let first = self.first.load(NEXT_PAGE);
        self.first.store(NEXT_PAGE, first + count as u32);
        Pages::map(&self.memory, first, count)
    }

    /// Publishes the keys.
    pub fn publish(&self, ring_ref: u32, event_channel: u32) {
        self.first.store(RING_REF, ring_ref + 1);
        self.first.store(EVENT_CHANNEL, event_channel + 1);
    }

    /// Returns the keys once they are there.
    pub fn keys(&self) -> (u32, u32) {
        loop {
            let keys = (self.first.load(RING_REF), self.first.load(EVENT_CHANNEL));
            if keys.0 > 0 && keys.1 > 0 {
                return (keys.0 - 1, keys.1 - 1);
            }
            std::thread::yield_now();
        }
    }
}
