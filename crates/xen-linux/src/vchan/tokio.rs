//! For tokio.

use super::{Peer, io_error, open};
use crate::Linux;
use embedded_io_async::{Read, Write};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::{JoinHandle, spawn_local};
use xen_platform::{DomId, Platform};
use xen_vchan::{Connection, Reader, Writer};

/// A vchan as a stream of bytes in a [`LocalSet`](tokio::task::LocalSet) of tokio. It is not
/// [`Send`]: it stays on its thread.
///
/// Reading returns 0 once the peer has closed the connection, and fails with
/// [`ConnectionReset`](io::ErrorKind::ConnectionReset) if it died. Shutting it down announces the
/// end of the output to a peer that can half-close, and waits until the peer has read everything.
///
/// ```no_run
/// use std::time::Duration;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use xen_linux::vchan::AsyncStream;
///
/// # async fn main_() -> std::io::Result<()> {
/// let mut stream =
///     AsyncStream::connect_name("echo", "data/vchan", Duration::from_secs(10)).await?;
/// stream.write_all(b"hello").await?;
/// let mut answer = [0; 5];
/// stream.read_exact(&mut answer).await?;
/// stream.close().await
/// # }
/// ```
pub struct AsyncStream<P: Platform = Linux> {
    reader: Reader<P>,
    writer: Writer<P>,
    connection: Connection<P>,
    finished: bool,
    _tasks: Tasks,
}

/// Tasks that end with the stream.
#[derive(Default)]
struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl AsyncStream {
    /// Connects to the server at `path` below the folder of the domain `peer`, such as
    /// `data/vchan`, within `timeout`.
    ///
    /// # Panics
    /// Outside of a [`LocalSet`](tokio::task::LocalSet).
    pub async fn connect(peer: DomId, path: &str, timeout: Duration) -> io::Result<Self> {
        Self::open(Peer::Number(peer), path, timeout).await
    }

    /// As [`AsyncStream::connect`], for the first living domain of this name. Only dom0 may look
    /// names up.
    pub async fn connect_name(name: &str, path: &str, timeout: Duration) -> io::Result<Self> {
        Self::open(Peer::Name(name.to_string()), path, timeout).await
    }

    async fn open(peer: Peer, path: &str, timeout: Duration) -> io::Result<Self> {
        let linux = Linux::new();
        // Made here, where it can fail.
        linux.descriptor()?;
        let driven = linux.clone();
        let mut tasks = Tasks(vec![spawn_local(async move {
            // It fails only without tokio's reactor, of which connecting hears, too.
            let _ = driven.drive().await;
        })]);
        let spawn = |driver| tasks.0.push(spawn_local(driver));
        let connection = open(&linux, peer, path.to_string(), timeout, spawn).await?;
        Ok(AsyncStream { _tasks: tasks, ..Self::over(connection) })
    }
}

impl<P: Platform> AsyncStream<P> {
    /// Makes a stream of a connection on a platform whose events come by other ways, such as a task
    /// of [`Linux::drive`].
    pub fn over(connection: Connection<P>) -> Self {
        // A future for each poll has no memory of how often it has looked.
        connection.busy_poll(0);
        let (reader, writer) = connection.split();
        AsyncStream { reader, writer, connection, finished: false, _tasks: Tasks::default() }
    }

    /// Closes the connection. The peer still reads what was written.
    pub async fn close(self) -> io::Result<()>
    where
        P::Error: Send + Sync,
    {
        self.connection.close().await.map_err(io_error)
    }
}

impl<P: Platform<Error: Send + Sync>> AsyncRead for AsyncStream<P>
where
    Self: Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Dropping the future loses nothing, and its wakers stay.
        let bytes = ready!(pin!(self.reader.read(to.initialize_unfilled())).poll(cx));
        to.advance(bytes.map_err(io_error)?);
        Poll::Ready(Ok(()))
    }
}

impl<P: Platform<Error: Send + Sync>> AsyncWrite for AsyncStream<P>
where
    Self: Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        pin!(self.writer.write(from)).poll(cx).map_err(io_error)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.finished, true) {
            self.writer.finish().map_err(io_error)?;
        }
        pin!(self.writer.drained()).poll(cx).map_err(io_error)
    }
}
