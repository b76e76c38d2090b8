//! A pseudo terminal for a program that this one starts.

use crate::local::open_pair;
use crate::reactor::{os_error, retry};
use crate::{IoError, Linux, sys};
use embedded_io_async::{ErrorType, Read, Write};
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::termios::{SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::process::{Child, Command};
use std::rc::{Rc, Weak};
use std::task::Poll;
use xen_platform::EventCounter;

/// The side of a pseudo terminal that is not the program's. When it and its streams are dropped,
/// the terminal hangs up.
#[derive(Clone)]
pub struct ProgramPty(Rc<Shared>);

struct Shared {
    linux: Linux,
    master: Rc<OwnedFd>,
    /// Number of end-of-file characters that the program's input still lacks.
    ends_owed: Cell<usize>,
    /// Counts the changes of that.
    ended: EventCounter,
}

impl ProgramPty {
    /// Starts the program of `command` in a session of its own, with a new pseudo terminal of
    /// `columns` and `rows` for its standard input, output and error, and as its controlling
    /// terminal.
    pub fn spawn(
        linux: &Linux,
        command: &mut Command,
        size: Option<(u16, u16)>,
    ) -> io::Result<(Child, Self)> {
        let (master, slave, _) = open_pair()?;
        let master = sys::owned(master);
        rustix::io::ioctl_fionbio(&master, true).map_err(os_error)?;
        let shared = Shared {
            linux: linux.clone(),
            master: Rc::new(master),
            ends_owed: Cell::new(0),
            ended: EventCounter::new(),
        };
        let pty = ProgramPty(Rc::new(shared));
        if let Some((columns, rows)) = size {
            pty.resize(columns, rows)?;
        }
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        sys::lead_session(command);
        let child = command.spawn();
        // It holds the terminal open otherwise, and reading would not end with the program.
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        Ok((child?, pty))
    }

    /// Sets the size, of which the kernel informs the program by SIGWINCH.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&*self.0.master, size).map_err(os_error)
    }

    /// Returns a reference that does not keep the terminal from hanging up.
    pub fn downgrade(&self) -> WeakPty {
        WeakPty(Rc::downgrade(&self.0))
    }

    /// Returns the program's output and its input.
    pub fn streams(&self) -> (ProgramOutput, ProgramInput) {
        (ProgramOutput(self.0.clone()), ProgramInput { shared: self.0.clone(), mid_line: false })
    }
}

/// A reference to a pseudo terminal that does not keep it from hanging up.
#[derive(Clone)]
pub struct WeakPty(Weak<Shared>);

impl WeakPty {
    /// Returns the terminal, unless it has hung up.
    pub fn upgrade(&self) -> Option<ProgramPty> {
        self.0.upgrade().map(ProgramPty)
    }
}

/// The output of a program on a pseudo terminal. It ends when no program has the terminal open.
pub struct ProgramOutput(Rc<Shared>);

impl ErrorType for ProgramOutput {
    type Error = IoError;
}

impl Read for ProgramOutput {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, IoError> {
        let shared = &*self.0;
        let mut ending = pin!(shared.send_ends());
        let read = |fd: rustix::fd::BorrowedFd<'_>| sys::read(fd, &mut *to);
        let mut reading = pin!(retry(shared.linux.reactor(), &shared.master, PollFlags::IN, read));
        let read = poll_fn(|cx| {
            let _: Poll<()> = ending.as_mut().poll(cx);
            reading.as_mut().poll(cx)
        });
        match read.await {
            // The last program that had the terminal open has ended.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(0),
            done => done.map_err(IoError),
        }
    }
}

/// The input of a program on a pseudo terminal, as if it were typed. Dropping it types the
/// end-of-file character, which ends the input of a program that reads lines.
pub struct ProgramInput {
    shared: Rc<Shared>,
    /// The last byte did not end a line.
    mid_line: bool,
}

impl ErrorType for ProgramInput {
    type Error = IoError;
}

impl Write for ProgramInput {
    async fn write(&mut self, from: &[u8]) -> Result<usize, IoError> {
        let Shared { linux, master, .. } = &*self.shared;
        let write = |fd: rustix::fd::BorrowedFd<'_>| sys::write(fd, from);
        let count = retry(linux.reactor(), master, PollFlags::OUT, write).await.map_err(IoError)?;
        if let Some(last) = from[..count].last() {
            self.mid_line = !matches!(last, b'\n' | b'\r');
        }
        Ok(count)
    }

    async fn flush(&mut self) -> Result<(), IoError> {
        Ok(())
    }
}

impl Drop for ProgramInput {
    fn drop(&mut self) {
        // In a line the first one ends that line's part, and only the second one the input.
        self.shared.ends_owed.set(if self.mid_line { 2 } else { 1 });
        self.shared.ended.signal();
    }
}

impl Shared {
    /// Types the end-of-file characters once they are owed, and stays pending.
    async fn send_ends(&self) {
        let mut seen = 0;
        loop {
            poll_fn(|cx| self.ended.poll_after(&mut seen, cx)).await;
            while self.ends_owed.get() > 0 {
                let end = end_of_file(&self.master);
                let write = |fd: rustix::fd::BorrowedFd<'_>| sys::write(fd, &[end]);
                let written = retry(self.linux.reactor(), &self.master, PollFlags::OUT, write);
                // A terminal that is gone takes none.
                let _ = written.await;
                self.ends_owed.set(self.ends_owed.get().saturating_sub(1));
            }
        }
    }
}

/// Returns the terminal's end-of-file character: Ctrl-D unless the program has chosen another.
fn end_of_file(master: &OwnedFd) -> u8 {
    tcgetattr(master).map_or(4, |settings| settings.special_codes[SpecialCodeIndex::VEOF])
}
