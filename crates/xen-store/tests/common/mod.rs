//! A host with a xenstored, for the tests of the client.
#![allow(dead_code, reason = "no test file uses all of it")]

use embedded_io_async::{ErrorType, Write};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use xen_platform::DomId;
use xen_sim::Sim;
use xen_sim::xenstore::Xenstored;
use xen_store::Store;

pub const DOM0: DomId = DomId(0);
/// A guest.
pub const ONE: DomId = DomId(1);
/// Another guest.
pub const TWO: DomId = DomId(2);

/// A world with dom0, two guests and a xenstored that knows them.
pub struct Host {
    pub sim: Sim,
    pub daemon: Xenstored,
}

impl Host {
    pub fn new() -> Host {
        let daemon = Xenstored::new();
        daemon.introduce(ONE);
        daemon.introduce(TWO);
        Host { sim: Sim::new(), daemon }
    }

    /// A client in a domain.
    pub fn client(&self, domain: DomId) -> Store {
        let (reader, writer) = self.daemon.connect(domain);
        let (store, driver) = xen_store::connect(reader, writer);
        self.sim.spawn(&self.sim.domain(domain.0), driver);
        store
    }

    pub fn run<T: 'static>(&mut self, main: impl Future<Output = T> + 'static) -> T {
        self.sim.run(main)
    }
}

/// Lets the other tasks do all that they can do now.
pub async fn settle() {
    for _ in 0..20 {
        xen_exec::yield_now().await;
    }
}

/// Polls `work` once, with nobody to be woken.
pub fn poll_once<F: Future + ?Sized>(work: Pin<&mut F>) -> Poll<F::Output> {
    work.poll(&mut Context::from_waker(Waker::noop()))
}

/// A writer that calls `before` with the number of each message that is written, from 1 on.
pub struct Counting<W, F> {
    pub inner: W,
    pub messages: usize,
    pub before: F,
}

impl<W: ErrorType, F> ErrorType for Counting<W, F> {
    type Error = W::Error;
}

impl<W: Write, F: FnMut(usize)> Write for Counting<W, F> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, W::Error> {
        self.messages += 1;
        (self.before)(self.messages);
        self.inner.write_all(bytes).await?;
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), W::Error> {
        self.inner.flush().await
    }
}
