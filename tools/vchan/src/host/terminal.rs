//! The user's terminal, for `vchan connect --raw`.

use crate::other;
use vchan::{Code, Failure};
use xen_linux::{IoError, Linux, RawMode, WindowChanges};
use xen_vchan::WindowSize;

/// The terminal that is standard input.
pub(crate) struct Terminal {
    terminal: xen_linux::Terminal,
    changes: WindowChanges,
}

impl Terminal {
    /// Opens it. Fails if standard input is something else.
    pub fn open(linux: &Linux) -> Result<Self, Failure> {
        let Some(terminal) = xen_linux::Terminal::stdin().map_err(IoError).map_err(other)? else {
            let text = "--raw needs a terminal, and standard input is none: leave --raw out";
            return Err(Failure::new(Code::Usage, text));
        };
        Ok(Terminal { terminal, changes: WindowChanges::catch(linux).map_err(other)? })
    }
}

impl vchan::Terminal for Terminal {
    type Raw = RawMode;

    fn make_raw(&self) -> Result<RawMode, Failure> {
        let raw = self.terminal.make_raw();
        raw.map_err(|error| {
            Failure::other(format!("cannot put the terminal into raw mode: {}", IoError(error)))
        })
    }

    fn size(&self) -> Option<WindowSize> {
        self.terminal.size().and_then(|(columns, rows)| WindowSize::new(columns, rows))
    }

    async fn resized(&self) {
        self.changes.next().await
    }
}
