//! One process in dom0.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::{Client, Mailbox};
use crate::wire::{MAX_PAYLOAD, Message, Status};

/// A running process; dropping it kills it.
pub struct Process {
    client: Client,
    id: u32,
    words: String,
    mailbox: Arc<Mailbox>,
}

/// Output and end of a process.
#[derive(Debug)]
pub struct Finished {
    /// The command, for messages.
    pub words: String,
    /// Its end.
    pub status: Status,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error, as text.
    pub stderr: String,
}

impl Finished {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Itself if the exit code is `code`, else an error that shows the output.
    pub fn expect(self, code: i32) -> Result<Finished> {
        if self.status == Status::Code(code) {
            return Ok(self);
        }
        let said = format!("{}{}", tail(&self.text()), tail(&self.stderr));
        bail!(
            "'{}' ended with {} instead of exit code {code}:\n{}",
            self.words,
            self.status,
            said.trim_end()
        );
    }

    /// Standard output as text if it exited with 0, else an error.
    pub fn success(self) -> Result<String> {
        Ok(self.expect(0)?.text())
    }
}

/// The last lines of `text`.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].iter().map(|line| format!("{line}\n")).collect()
}

impl Process {
    pub(super) fn new(client: Client, id: u32, words: String, mailbox: Arc<Mailbox>) -> Process {
        Process { client, id, words, mailbox }
    }

    /// Sends bytes to its standard input.
    pub fn write(&self, data: &[u8]) -> Result<()> {
        data.chunks(MAX_PAYLOAD)
            .try_for_each(|piece| self.client.send(self.id, Message::Stdin(piece.to_vec())))
    }

    /// Ends its standard input.
    pub fn close_stdin(&self) -> Result<()> {
        self.client.send(self.id, Message::StdinEnd)
    }

    /// Sends it (and its children) a signal by number.
    pub fn signal(&self, number: i32) -> Result<()> {
        self.client.send(self.id, Message::Signal(number))
    }

    /// Returns true if it still runs.
    pub fn running(&self) -> bool {
        self.mailbox.lock().ended.is_none()
    }

    /// Returns the number of bytes that it has written to standard output.
    pub fn written(&self) -> usize {
        self.mailbox.lock().stdout.len()
    }

    /// The last of what it said so far, for messages.
    pub fn said(&self) -> String {
        let state = self.mailbox.lock();
        [&state.stdout[..], &state.stderr[..]]
            .map(|data| tail(&String::from_utf8_lossy(data)))
            .concat()
    }

    /// Waits for output beyond the first `seen` bytes; none if it ended or the
    /// time is over (then [`Process::running`] tells which).
    pub fn output_after(&self, seen: usize, patience: Duration) -> Option<Vec<u8>> {
        let found = self.mailbox.wait(self.client.deadline(patience), |state| {
            match state.stdout.get(seen..) {
                Some(data) if !data.is_empty() => Some(Some(data.to_vec())),
                _ => state.ended.is_some().then_some(None),
            }
        });
        found.flatten()
    }

    /// Waits until standard output or standard error holds `text`; an error if
    /// it ends before, or after `patience`.
    pub fn wait_for(&self, text: &str, patience: Duration) -> Result<()> {
        let holds = |data: &[u8]| data.windows(text.len()).any(|window| window == text.as_bytes());
        let found = self.mailbox.wait(self.client.deadline(patience), |state| {
            let all = holds(&state.stdout) || holds(&state.stderr);
            (all || state.ended.is_some()).then_some(all)
        });
        let why = match found {
            Some(true) => return Ok(()),
            Some(false) => "ended",
            None => "was still running",
        };
        bail!(
            "'{}' {why} without saying {text:?} (waited up to {patience:?}); it said:\n{}",
            self.words,
            self.said()
        );
    }

    /// Waits for its end; kills it when that takes longer than `patience`.
    pub fn wait(&self, patience: Duration) -> Result<Finished> {
        let ended = self.mailbox.wait(self.client.deadline(patience), |state| {
            let ended = state.ended.clone()?;
            Some((ended, std::mem::take(&mut state.stdout), std::mem::take(&mut state.stderr)))
        });
        let Some((ended, stdout, stderr)) = ended else {
            self.signal(9)?;
            bail!(
                "'{}' was still running after {patience:?} and was killed; it said:\n{}",
                self.words,
                self.said()
            );
        };
        let status = ended
            .map_err(|reason| anyhow!(reason))
            .with_context(|| format!("'{}' failed", self.words))?;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Ok(Finished { words: self.words.clone(), status, stdout, stderr })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.running() {
            let _ = self.signal(9);
        }
    }
}
