//! The keys that are typed ahead of a server, among them the one that leaves it. They are read
//! whether the server takes them or not, so that a server that hangs can be left.

use embedded_io_async::{Error, ErrorKind, ErrorType, Read};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{pending, poll_fn};
use xen_platform::EventCounter;

/// Number of bytes typed ahead beyond which no more are read.
const MAX_AHEAD_BYTES: usize = 64 * 1024;

/// Number of bytes that are read at once.
const CHUNK: usize = 4096;

/// The keys that were typed and not taken.
pub(super) struct Keyboard {
    escape: Option<u8>,
    ahead: RefCell<VecDeque<u8>>,
    /// The end of the input, or the reason why there is no more.
    end: Cell<Option<Option<Broken>>>,
    changes: EventCounter,
}

/// The error of a terminal that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Broken {
    kind: ErrorKind,
    text: String,
}

impl Keyboard {
    pub fn new(escape: Option<u8>) -> Self {
        let (ahead, end, changes) = Default::default();
        Keyboard { escape, ahead, end, changes }
    }

    /// Reads keys until the escape key comes. What was typed before it may not have been taken.
    pub async fn watch(&self, mut input: impl Read) {
        let mut chunk = [0; CHUNK];
        loop {
            self.until(|| self.ahead.borrow().len() <= MAX_AHEAD_BYTES).await;
            let end = match input.read(&mut chunk).await {
                Ok(0) => Some(None),
                Ok(count) => {
                    let typed = &chunk[..count];
                    if typed.iter().any(|byte| Some(*byte) == self.escape) {
                        return;
                    }
                    self.ahead.borrow_mut().extend(typed);
                    None
                }
                Err(error) => Some(Some(Broken { kind: error.kind(), text: error.to_string() })),
            };
            let is_over = end.is_some();
            self.end.set(end);
            self.changes.signal();
            if is_over {
                return pending().await;
            }
        }
    }

    /// Returns the keys as a stream.
    pub fn typed(&self) -> Typed<'_> {
        Typed(self)
    }

    async fn until(&self, is_so: impl Fn() -> bool) {
        while !is_so() {
            let mut seen = self.changes.count();
            poll_fn(|cx| self.changes.poll_after(&mut seen, cx)).await;
        }
    }
}

/// The keys of a keyboard, without the one that leaves the server.
pub(super) struct Typed<'a>(&'a Keyboard);

impl ErrorType for Typed<'_> {
    type Error = Broken;
}

impl Read for Typed<'_> {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, Broken> {
        let keyboard = self.0;
        loop {
            let count = {
                let mut ahead = keyboard.ahead.borrow_mut();
                let count = ahead.len().min(to.len());
                to.iter_mut().zip(ahead.drain(..count)).for_each(|(to, byte)| *to = byte);
                count
            };
            if count > 0 || to.is_empty() {
                keyboard.changes.signal();
                return Ok(count);
            }
            if let Some(end) = keyboard.end.take() {
                keyboard.end.set(Some(end.clone()));
                return end.map_or(Ok(0), Err);
            }
            let mut seen = keyboard.changes.count();
            poll_fn(|cx| keyboard.changes.poll_after(&mut seen, cx)).await;
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Broken {}

impl Error for Broken {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}
