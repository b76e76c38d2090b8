//! SIGINT, SIGTERM, SIGHUP and SIGQUIT as events.

use crate::reactor::{os_error, retry};
use crate::{Error, Linux, error, sys};
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};
use std::future;
use std::io;
use std::rc::Rc;
use std::task::Poll;

/// A request to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP: the terminal is gone.
    Hangup,
    /// SIGQUIT: Ctrl-\\.
    Quit,
}

impl Signal {
    /// The exit code that shells give to a program which the signal ended: 128 and its number.
    pub fn exit_code(self) -> u8 {
        128 + self.number() as u8
    }

    fn number(self) -> i32 {
        match self {
            Signal::Interrupt => SIGINT,
            Signal::Terminate => SIGTERM,
            Signal::Hangup => SIGHUP,
            Signal::Quit => SIGQUIT,
        }
    }
}

/// Catches signals instead of letting them end the program. After dropping this they are ignored.
pub struct Signals {
    linux: Linux,
    caught: Vec<(Signal, Caught)>,
}

/// A signal whose handler writes a byte into a pipe.
pub(crate) struct Caught {
    id: SigId,
    pipe: Rc<OwnedFd>,
}

impl Caught {
    /// Catches the signal of this number from now on.
    pub(crate) fn new(signal: i32) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let reader = sys::owned(reader);
        rustix::io::ioctl_fionbio(&reader, true).map_err(os_error)?;
        let id = pipe::register(signal, writer)?;
        Ok(Caught { id, pipe: Rc::new(reader) })
    }

    /// Waits for the signal; several that come before this is called count as one.
    pub(crate) async fn next(&self, linux: &Linux) {
        let read = |fd: rustix::fd::BorrowedFd<'_>| sys::read(fd, &mut [0u8; 16]);
        // The handler keeps the writing end open, so there is no end.
        let read = retry(linux.reactor(), &self.pipe, PollFlags::IN, read).await;
        read.expect("a pipe of this program can be read");
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        unregister(self.id);
    }
}

impl Signals {
    /// Catches none yet.
    pub fn none(linux: &Linux) -> Self {
        Signals { linux: linux.clone(), caught: Vec::new() }
    }

    /// Catches SIGINT, SIGTERM and SIGHUP from now on.
    pub fn catch(linux: &Linux) -> Result<Self, Error> {
        let mut signals = Signals::none(linux);
        for signal in [Signal::Interrupt, Signal::Terminate, Signal::Hangup] {
            // nohup(1) has it ignored.
            if signal != Signal::Hangup || !is_ignored(SIGHUP) {
                signals = signals.and(signal)?;
            }
        }
        Ok(signals)
    }

    /// Catches `signal` beside the others.
    pub fn and(mut self, signal: Signal) -> Result<Self, Error> {
        self.caught.push((signal, Caught::new(signal.number()).map_err(error::signals)?));
        Ok(self)
    }

    /// Waits for the next signal.
    pub async fn next(&self) -> Signal {
        let mut waits: Vec<_> = self
            .caught
            .iter()
            .map(|(signal, caught)| (*signal, Box::pin(caught.next(&self.linux))))
            .collect();
        future::poll_fn(|cx| {
            for (signal, wait) in &mut waits {
                if wait.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Returns true if the program was started with a signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::low_level::raise;

    #[test]
    fn both_signals_arrive() {
        let linux = Linux::new();
        let signals = Signals::catch(&linux).unwrap();
        raise(SIGTERM).unwrap();
        let signals = linux.run(|_| async move {
            assert_eq!(signals.next().await, Signal::Terminate);
            signals
        });
        linux.run(|spawner| async move {
            let waiting = spawner.spawn(async move { signals.next().await });
            xen_exec::yield_now().await;
            raise(SIGINT).unwrap();
            assert_eq!(waiting.join().await.exit_code(), 130);
        });
    }
}
