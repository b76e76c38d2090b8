//! The testbed's end of the control channel: processes in dom0 as values.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::wire::{Decoder, Frame, Message, Request, Status};

mod process;

pub use process::{Finished, Process};

/// Output of a process so far; `ended` once nothing more will come.
#[derive(Default)]
struct Mailbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    ended: Option<Result<Status, String>>,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, apply: impl FnOnce(&mut State)) {
        apply(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until `find` finds something or `deadline` is over.
    fn wait<T>(
        &self,
        deadline: Instant,
        mut find: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(found) = find(&mut state) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A connection to an agent. Clones share it.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    output: Mutex<Box<dyn Write + Send>>,
    table: Mutex<HashMap<u32, Arc<Mailbox>>>,
    next: AtomicU32,
    /// No wait lasts longer than this, whatever its own timeout.
    limit: Mutex<Option<Instant>>,
    /// Factor by which each wait may last longer than on an idle machine.
    slowness: Mutex<f64>,
    /// The agent itself: `Hello` is its output, the loss of the channel its end.
    link: Mailbox,
}

impl Client {
    /// Talks to an agent over `input` and `output`.
    pub fn new(input: impl Read + Send + 'static, output: impl Write + Send + 'static) -> Client {
        let shared = Arc::new(Shared {
            output: Mutex::new(Box::new(output)),
            table: Mutex::default(),
            next: AtomicU32::new(1),
            limit: Mutex::default(),
            slowness: Mutex::new(1.0),
            link: Mailbox::default(),
        });
        let reader = shared.clone();
        std::thread::spawn(move || reader.read_all(input));
        Client { shared }
    }

    /// Waits for up to `patience`; true once the agent has said hello.
    pub fn greeted(&self, patience: Duration) -> Result<bool> {
        let said = self.shared.link.wait(Instant::now() + patience, |state| match &state.ended {
            Some(Err(reason)) => Some(Err(reason.clone())),
            _ => (!state.stdout.is_empty()).then_some(Ok(())),
        });
        match said {
            Some(Err(reason)) => bail!("{reason}"),
            found => Ok(found.is_some()),
        }
    }

    /// Lets no wait last beyond `limit` from now on, until this is called again.
    pub fn set_limit(&self, limit: Option<Instant>) {
        *lock(&self.shared.limit) = limit;
    }

    /// Lets waits last longer by this factor from now on, because the machine is busy.
    pub fn set_slowness(&self, slowness: f64) {
        *lock(&self.shared.slowness) = slowness;
    }

    fn deadline(&self, timeout: Duration) -> Instant {
        let latest = Instant::now() + timeout.mul_f64(*lock(&self.shared.slowness));
        lock(&self.shared.limit).map_or(latest, |limit| limit.min(latest))
    }

    /// Starts a process.
    pub fn spawn(&self, request: Request) -> Result<Process> {
        ensure!(!request.argv.is_empty(), "no program named");
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let mailbox = Arc::new(Mailbox::default());
        lock(&self.shared.table).insert(id, mailbox.clone());
        let words = request.argv.join(" ");
        self.send(id, Message::Exec(request))?;
        Ok(Process::new(self.clone(), id, words, mailbox))
    }

    fn send(&self, id: u32, message: Message) -> Result<()> {
        let sent = {
            let mut output = lock(&self.shared.output);
            output.write_all(&Frame { id, message }.encode()).and_then(|()| output.flush())
        };
        if let Err(error) = sent {
            bail!("the control channel to dom0 is gone: {error}");
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn read_all(&self, mut input: impl Read) {
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; 1 << 16];
        let reason = 'read: loop {
            match input.read(&mut buffer) {
                Ok(0) => break "the host is gone: its control channel was closed".to_string(),
                Err(error) => break format!("cannot read the control channel: {error}"),
                Ok(count) => decoder.push(&buffer[..count]),
            }
            loop {
                match decoder.frame() {
                    Ok(Some(frame)) => self.deliver(frame),
                    Ok(None) => break,
                    Err(error) => break 'read format!("the control channel is garbled: {error}"),
                }
            }
        };
        let all: Vec<_> = lock(&self.table).drain().map(|(_, mailbox)| mailbox).collect();
        let end = |state: &mut State| state.ended = Some(Err(reason.clone()));
        all.iter().for_each(|mailbox| mailbox.change(end));
        self.link.change(end);
    }

    fn deliver(&self, frame: Frame) {
        if frame.message == Message::Hello {
            self.link.change(|state| state.stdout.push(1));
        }
        let Some(mailbox) = lock(&self.table).get(&frame.id).cloned() else { return };
        let mut ended = None;
        match frame.message {
            Message::Stdout(data) => mailbox.change(|state| state.stdout.extend(data)),
            Message::Stderr(data) => mailbox.change(|state| state.stderr.extend(data)),
            Message::Exit(status) => ended = Some(Ok(status)),
            Message::Failed(reason) => ended = Some(Err(reason)),
            _ => {}
        }
        if ended.is_some() {
            lock(&self.table).remove(&frame.id);
            mailbox.change(|state| state.ended = ended);
        }
    }
}

#[cfg(test)]
mod tests;
