//! SIGINT and SIGTERM as events.

use crate::reactor::{os_error, retry};
use crate::{Error, Linux, error, sys};
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};
use std::future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

/// A request to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// The exit code that shells give to a program which the signal ended: 128 and its number.
    pub fn exit_code(self) -> u8 {
        match self {
            Signal::Interrupt => 130,
            Signal::Terminate => 143,
        }
    }
}

/// Catches the signals instead of letting them end the program. After dropping this they are ignored.
pub struct Signals {
    linux: Linux,
    interrupt: Caught,
    terminate: Caught,
}

/// A signal whose handler writes a byte into a pipe.
struct Caught {
    id: SigId,
    pipe: Rc<OwnedFd>,
}

impl Caught {
    fn new(signal: i32) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let reader = sys::owned(reader);
        rustix::io::ioctl_fionbio(&reader, true).map_err(os_error)?;
        Ok(Caught { id: pipe::register(signal, writer)?, pipe: Rc::new(reader) })
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        unregister(self.id);
    }
}

impl Signals {
    /// Catches from now on.
    pub fn catch(linux: &Linux) -> Result<Self, Error> {
        let catch = |signal| Caught::new(signal).map_err(error::signals);
        Ok(Signals { linux: linux.clone(), interrupt: catch(SIGINT)?, terminate: catch(SIGTERM)? })
    }

    /// Waits for the next signal.
    pub async fn next(&self) -> Signal {
        let mut interrupt = pin!(self.wait(&self.interrupt));
        let mut terminate = pin!(self.wait(&self.terminate));
        future::poll_fn(|cx| {
            if interrupt.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Signal::Interrupt);
            }
            terminate.as_mut().poll(cx).map(|()| Signal::Terminate)
        })
        .await
    }

    async fn wait(&self, caught: &Caught) {
        let read = |fd: rustix::fd::BorrowedFd<'_>| sys::read(fd, &mut [0u8; 16]);
        // Several of the same count as one. The writing end is open for as long as `caught` is, so there is no end.
        let read = retry(self.linux.reactor(), &caught.pipe, PollFlags::IN, read).await;
        read.expect("a pipe of this program can be read");
    }
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
