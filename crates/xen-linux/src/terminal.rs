//! The terminal at which the program's user sits: its size, and its raw mode.

use crate::reactor::os_error;
use crate::signal::Caught;
use crate::{Error, Linux, error, sys};
use rustix::fd::OwnedFd;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::SIGWINCH;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::panic;
use std::sync::{Mutex, Once, PoisonError};

/// A terminal of this program.
pub struct Terminal(OwnedFd);

impl Terminal {
    /// Returns the terminal that standard input is; `None` if it is something else.
    pub fn stdin() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        match stdin.is_terminal() {
            true => Self::new(stdin.as_fd().try_clone_to_owned()?).map(Some),
            false => Ok(None),
        }
    }

    /// Returns the terminal behind a descriptor. Fails if it is none.
    pub fn new(fd: std::os::fd::OwnedFd) -> io::Result<Self> {
        let fd = sys::owned(fd);
        tcgetattr(&fd).map_err(os_error)?;
        Ok(Terminal(fd))
    }

    /// Returns the number of columns and of rows; `None` if the terminal does not know them.
    pub fn size(&self) -> Option<(u16, u16)> {
        let size = tcgetwinsize(&self.0).ok()?;
        (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
    }

    /// Puts the terminal into raw mode until the result is dropped or the program panics. Fails if
    /// a terminal of this program is in raw mode already.
    pub fn make_raw(&self) -> io::Result<RawMode> {
        let before = tcgetattr(&self.0).map_err(os_error)?;
        let mut raw = before.clone();
        raw.make_raw();
        let fd = rustix::io::dup(&self.0).map_err(os_error)?;
        // A panic aborts the program, so that nothing is dropped: the hook runs before.
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let next = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                restore();
                next(info);
            }));
        });
        let mut saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
        if saved.is_some() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        *saved = Some((fd, before));
        drop(saved);
        let guard = RawMode(());
        tcsetattr(&self.0, OptionalActions::Drain, &raw).map_err(os_error)?;
        Ok(guard)
    }
}

/// The terminal that is in raw mode, and its settings before.
static SAVED: Mutex<Option<(OwnedFd, Termios)>> = Mutex::new(None);

/// Gives the terminal that is in raw mode its settings back.
fn restore() {
    let saved = SAVED.try_lock().ok().and_then(|mut saved| saved.take());
    if let Some((fd, before)) = saved {
        // A terminal that is gone needs no settings. What was written to it still uses the old
        // ones.
        let _ = tcsetattr(&fd, OptionalActions::Drain, &before);
    }
}

/// The raw mode of a terminal, which ends when this is dropped.
pub struct RawMode(());

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// The changes of the size of this program's terminal (SIGWINCH).
pub struct WindowChanges {
    linux: Linux,
    caught: Caught,
}

impl WindowChanges {
    /// Catches them from now on.
    pub fn catch(linux: &Linux) -> Result<Self, Error> {
        let caught = Caught::new(SIGWINCH).map_err(error::signals)?;
        Ok(WindowChanges { linux: linux.clone(), caught })
    }

    /// Waits for the next change; several since the last call count as one.
    pub async fn next(&self) {
        self.caught.next(&self.linux).await
    }
}
