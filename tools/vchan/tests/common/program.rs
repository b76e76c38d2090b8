//! A program that sends back what it gets, in capitals: its standard input and output.

use embedded_io_async::{Error, ErrorKind, ErrorType, Read, Write};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use xen_platform::EventCounter;

#[derive(Default)]
struct Shared {
    bytes: RefCell<VecDeque<u8>>,
    /// Bytes it takes before it ends by itself.
    most: Cell<usize>,
    closed: Cell<bool>,
    changes: EventCounter,
}

/// Output of the program.
pub struct Stdout(Rc<Shared>);
/// Input of the program.
pub struct Stdin(Rc<Shared>);

/// Starts it. It ends when its input is dropped, or after `most` bytes.
pub fn program(most: usize) -> (Stdout, Stdin) {
    let shared = Rc::new(Shared::default());
    shared.most.set(most);
    (Stdout(shared.clone()), Stdin(shared))
}

/// The program has ended.
#[derive(Debug)]
pub struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken pipe")
    }
}

impl std::error::Error for Gone {}

impl Error for Gone {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BrokenPipe
    }
}

impl ErrorType for Stdout {
    type Error = Gone;
}

impl ErrorType for Stdin {
    type Error = Gone;
}

impl Read for Stdout {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, Gone> {
        poll_fn(|cx| {
            let mut bytes = self.0.bytes.borrow_mut();
            let count = bytes.len().min(to.len());
            if count == 0 && !self.0.closed.get() {
                let mut seen = self.0.changes.count();
                let Poll::Pending = self.0.changes.poll_after(&mut seen, cx) else {
                    unreachable!()
                };
                return Poll::Pending;
            }
            to[..count].iter_mut().for_each(|to| *to = bytes.pop_front().unwrap());
            Poll::Ready(Ok(count))
        })
        .await
    }
}

impl Write for Stdin {
    async fn write(&mut self, from: &[u8]) -> Result<usize, Gone> {
        let count = from.len().min(self.0.most.get());
        if count == 0 {
            return Err(Gone);
        }
        self.0.bytes.borrow_mut().extend(from[..count].to_ascii_uppercase());
        self.0.most.set(self.0.most.get() - count);
        self.0.closed.set(self.0.most.get() == 0);
        self.0.changes.signal();
        Ok(count)
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        Ok(())
    }
}

impl Drop for Stdin {
    fn drop(&mut self) {
        self.0.closed.set(true);
        self.0.changes.signal();
    }
}
