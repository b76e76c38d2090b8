//! The background of a disk that is open to be written: its lease is renewed, and when much has
//! gathered, it is flushed, and checkpoints are made.

use super::Objects;
use super::disk::Disk;
use super::lease::Fenced;
use super::view::Moment;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Things to do.
#[derive(Default)]
pub struct Work {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Wanted {
    flush: bool,
    checkpoint: bool,
    end: bool,
}

impl Work {
    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wanted.lock().expect("no holder panics"));
        self.changed.notify_all();
    }

    /// Asks for a flush.
    pub fn flush(&self) {
        self.want(|wanted| wanted.flush = true);
    }

    /// Asks for a checkpoint.
    pub fn checkpoint(&self) {
        self.want(|wanted| wanted.checkpoint = true);
    }

    /// Asks for an end.
    pub fn end(&self) {
        self.want(|wanted| wanted.end = true);
    }

    fn next(&self) -> Wanted {
        let wanted = self.wanted.lock().expect("no holder panics");
        let idle = |wanted: &mut Wanted| !(wanted.flush || wanted.checkpoint || wanted.end);
        let mut wanted = self.changed.wait_while(wanted, idle).expect("no holder panics");
        let now = *wanted;
        *wanted = Wanted { end: now.end, ..Wanted::default() };
        now
    }

    /// Waits, and returns true if it is the end.
    fn wait(&self, time: Duration) -> bool {
        let wanted = self.wanted.lock().expect("no holder panics");
        let waited = self.changed.wait_timeout_while(wanted, time, |wanted| !wanted.end);
        waited.expect("no holder panics").0.end
    }
}

/// Starts the threads of a disk; they end after [`Work::end`].
pub fn start<O: Objects + 'static>(disk: &Arc<Disk<O>>) -> Vec<JoinHandle<()>> {
    let (renewing, working) = (disk.clone(), disk.clone());
    let renew = move || {
        while !renewing.work.wait(renewing.options.times.renew) {
            renewing.renew();
        }
    };
    let work = move || {
        loop {
            let wanted = working.work.next();
            if wanted.end {
                return;
            }
            // A flush that fails here fails again when the guest waits for one.
            if wanted.flush {
                let _ = working.flush();
            }
            if wanted.checkpoint
                && let Err(error) = working.checkpoint()
            {
                log::warn!("disk {}: no checkpoint was made: {error}", working.name);
            }
        }
    };
    vec![thread::spawn(renew), thread::spawn(work)]
}

impl<O: Objects> Disk<O> {
    /// Renews the lease, and looks whether garbage is collected.
    fn renew(&self) {
        let done = self.update_head(|lease| {
            if let Some(lease) = lease {
                lease.renewed += 1;
            }
        });
        if done.is_ok() {
            *self.renewed.lock().expect("no holder panics") = Moment::now();
        }
        // One that cannot be renewed for too long is taken by others, and that is met then.
        let _ = done.and_then(|()| self.chunks.look());
    }

    /// Gives the lease back, for others to have the disk at once.
    pub(super) fn release(&self) {
        // One that stays is that of a dead program.
        let _ = self.update_head(|lease| *lease = None);
    }

    fn update_head(&self, change: impl Fn(&mut Option<super::head::Lease>)) -> io::Result<()> {
        self.check_fence(&self.state())?;
        let mut held = self.held.lock().expect("no holder panics");
        let Some(held) = held.as_mut() else { return Ok(()) };
        let done = held.update(&self.chunks.objects, &self.name, |head| change(&mut head.lease));
        done.inspect_err(|error| self.note_fence(error))
    }

    /// Remembers that another program has the disk, if this error says so.
    pub(super) fn note_fence(&self, error: &io::Error) {
        let fenced = error.get_ref().and_then(|inner| inner.downcast_ref::<Fenced>());
        if let Some(fenced) = fenced {
            log::warn!("{fenced}");
            self.state().fenced = Some(fenced.clone());
        }
    }
}
