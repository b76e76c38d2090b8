//! A client's ends of its connection, which is forgotten when both are dropped.

use super::{Id, Xenstored};
use embedded_io_async::{ErrorKind, ErrorType};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

/// The connection is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("xenstored closed the connection")]
pub struct Disconnected;

impl embedded_io_async::Error for Disconnected {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BrokenPipe
    }
}

/// Tells the daemon when the client is gone.
pub(super) struct End {
    pub daemon: Xenstored,
    pub id: Id,
}

impl Drop for End {
    fn drop(&mut self) {
        self.daemon.forget(self.id);
    }
}

/// The stream from the daemon.
pub struct Reader(pub(super) Rc<End>);

/// The stream to the daemon, which carries out each request at once.
pub struct Writer(pub(super) Rc<End>);

impl ErrorType for Reader {
    type Error = Disconnected;
}

impl ErrorType for Writer {
    type Error = Disconnected;
}

impl embedded_io_async::Read for Reader {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, Disconnected> {
        let End { daemon, id } = &*self.0;
        poll_fn(|cx| match daemon.drain(*id, to, cx.waker()) {
            Some(count) => Poll::Ready(Ok(count)),
            None => Poll::Pending,
        })
        .await
    }
}

impl embedded_io_async::Write for Writer {
    async fn write(&mut self, from: &[u8]) -> Result<usize, Disconnected> {
        let End { daemon, id } = &*self.0;
        poll_fn(|cx| daemon.feed(*id, from, cx.waker())).await
    }

    async fn flush(&mut self) -> Result<(), Disconnected> {
        Ok(())
    }
}
