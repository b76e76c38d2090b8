//! Blocking and pollable.

use super::{Peer, io_error, open};
use crate::Linux;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;
use xen_exec::{Executor, Turn};
use xen_platform::{DomId, Platform};
use xen_vchan::{Connection, Reader, Writer};

/// A vchan as a stream of bytes, with the manners of
/// [`UnixStream`](std::os::unix::net::UnixStream).
///
/// Reading returns 0 once the peer has closed the connection, and fails with
/// [`ErrorKind::ConnectionReset`] if it died. The descriptor of [`AsFd`] is for poll(2) and the
/// like: once it is readable, try to read and to write; after [`Stream::set_nonblocking`] both fail
/// with [`ErrorKind::WouldBlock`] where they would wait. The stream stays on its thread.
///
/// ```no_run
/// use std::io::{Read, Write};
/// use std::time::Duration;
/// use xen_linux::vchan::Stream;
///
/// fn main() -> std::io::Result<()> {
///     let mut stream = Stream::connect_name("echo", "data/vchan", Duration::from_secs(10))?;
///     stream.write_all(b"hello")?;
///     let mut answer = [0; 5];
///     stream.read_exact(&mut answer)?;
///     println!("{}", String::from_utf8_lossy(&answer));
///     stream.close()
/// }
/// ```
pub struct Stream<P: Platform = Linux> {
    executor: Executor,
    wait: Box<dyn FnMut(Turn)>,
    look: Box<dyn FnMut()>,
    reader: Rc<RefCell<Reader<P>>>,
    writer: Rc<RefCell<Writer<P>>>,
    connection: Connection<P>,
    nonblocking: bool,
    platform: P,
}

impl Stream {
    /// Connects to the server at `path` below the folder of the domain `peer`, such as
    /// `data/vchan`, within `timeout`.
    pub fn connect(peer: DomId, path: &str, timeout: Duration) -> io::Result<Self> {
        Self::open(Peer::Number(peer), path, timeout)
    }

    /// As [`Stream::connect`], for the first living domain of this name. Only dom0 may look names
    /// up.
    pub fn connect_name(name: &str, path: &str, timeout: Duration) -> io::Result<Self> {
        Self::open(Peer::Name(name.to_string()), path, timeout)
    }

    fn open(peer: Peer, path: &str, timeout: Duration) -> io::Result<Self> {
        let (linux, mut executor) = (Linux::new(), Executor::new());
        let (platform, spawner, path) = (linux.clone(), executor.spawner(), path.to_string());
        let opening = async move {
            open(&platform, peer, path, timeout, |driver| drop(spawner.spawn(driver))).await
        };
        let connection = executor.run(opening, |turn| linux.turn(turn))?;
        // Made here, where it can fail.
        linux.descriptor()?;
        let (waiting, looking) = (linux.clone(), linux.clone());
        let (wait, look) = (move |turn| waiting.turn(turn), move || looking.dispatch());
        Ok(Self::over(linux, executor, wait, look, connection))
    }
}

impl<P: Platform> Stream<P> {
    /// Makes a stream of a connection on another platform. `executor` has the task of its
    /// xenstore; `wait` is the platform's turn, and `look` hands out events without waiting.
    pub fn over(
        platform: P,
        executor: Executor,
        wait: impl FnMut(Turn) + 'static,
        look: impl FnMut() + 'static,
        connection: Connection<P>,
    ) -> Self {
        let (reader, writer) = connection.split();
        Stream {
            executor,
            wait: Box::new(wait),
            look: Box::new(look),
            reader: Rc::new(RefCell::new(reader)),
            writer: Rc::new(RefCell::new(writer)),
            connection,
            nonblocking: false,
            platform,
        }
    }

    /// Decides whether reading and writing fail with [`ErrorKind::WouldBlock`] instead of waiting.
    pub fn set_nonblocking(&mut self, nonblocking: bool) {
        self.nonblocking = nonblocking;
    }

    /// Returns the platform that the stream stands on.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Announces that the output is complete, as a socket's shutdown for writing does. A peer that
    /// cannot half-close learns of it only by [`Stream::close`].
    pub fn finish(&mut self) -> io::Result<()>
    where
        P::Error: Send + Sync,
    {
        self.writer.borrow_mut().finish().map_err(io_error)
    }

    /// Closes the connection. The peer still reads what was written.
    pub fn close(mut self) -> io::Result<()>
    where
        P::Error: Send + Sync,
    {
        let connection = self.connection;
        self.executor.run(async move { connection.close().await }, self.wait).map_err(io_error)
    }

    /// Waits for `news`, or fails if that would take time and the stream must not wait.
    fn wait_for(&mut self, news: impl Future<Output = ()> + 'static) -> io::Result<()> {
        if !self.nonblocking {
            self.executor.run(news, &mut self.wait);
            return Ok(());
        }
        let stall = Rc::new((Cell::new(0), Cell::new(None::<Waker>)));
        let stalled = stall.clone();
        let trying = async move {
            let mut news = pin!(news);
            poll_fn(|cx| match news.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Ok(())),
                Poll::Pending if stalled.0.get() > 1 => {
                    Poll::Ready(Err(io::Error::from(ErrorKind::WouldBlock)))
                }
                Poll::Pending => {
                    stalled.1.set(Some(cx.waker().clone()));
                    Poll::Pending
                }
            })
            .await
        };
        let look = &mut self.look;
        // Idle for a second time in a row: the look in between has woken no task.
        self.executor.run(trying, |turn| {
            look();
            let (idle, waker) = &*stall;
            idle.set(if turn == Turn::Idle { idle.get() + 1 } else { 0 });
            if idle.get() > 1
                && let Some(waker) = waker.take()
            {
                waker.wake();
            }
        })
    }
}

impl<P: Platform<Error: Send + Sync>> Read for Stream<P> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.reader.borrow_mut().try_read(to).map_err(io_error)?;
            if let Some(bytes) = read {
                return Ok(bytes);
            }
            let reader = self.reader.clone();
            // No other task uses it while this one is run.
            #[expect(clippy::await_holding_refcell_ref)]
            self.wait_for(async move {
                let mut reader = reader.borrow_mut();
                if let Ok(0) = reader.data_ready() {
                    reader.next_event().await;
                }
            })?;
        }
    }
}

impl<P: Platform<Error: Send + Sync>> Write for Stream<P> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        if from.is_empty() {
            return Ok(0);
        }
        loop {
            let written = self.writer.borrow_mut().try_write(from).map_err(io_error)?;
            if let Some(bytes) = written {
                return Ok(bytes);
            }
            let writer = self.writer.clone();
            // As in `read`.
            #[expect(clippy::await_holding_refcell_ref)]
            self.wait_for(async move {
                let mut writer = writer.borrow_mut();
                if let Ok(0) = writer.space() {
                    writer.next_event().await;
                }
            })?;
        }
    }

    /// Does nothing: what was written is in the ring, and the peer knows.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.platform.descriptor().expect("it was made when the stream was")
    }
}
