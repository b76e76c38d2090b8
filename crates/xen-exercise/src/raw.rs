//! A connection to a block backend that does as it is told: any bytes in any slot, any index, any key.

use crate::crowd::Boxed;
use crate::site::{Failure, Kind};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;
use xen_abi::xenbus::State;
use xen_blk::front::Wishes;
use xen_blk::front::raw::{Index, RawRing};
use xen_blk::wire::Response;
use xen_platform::{DomId, Granted, PAGE_SIZE, Platform, SharedMem};
use xen_store::Store;

/// How long the backend may take for a step of the handshake.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pages for data and lists that the backend may read and write.
pub const PAGES: usize = 32;

/// A page that can be named in a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Page {
    /// One of those that are shared for data and lists.
    Data(usize),
    /// One that is shared for reading only.
    ReadOnly,
    /// The ring itself.
    Ring,
    /// One that is not shared.
    Unshared,
}

/// An open connection.
pub trait Raw {
    /// Puts a request into the next slot and shows it, with an event.
    fn send(&mut self, request: &[u8]);
    /// Tells the backend that the next request goes `beyond` where it does, with an event.
    fn move_index(&self, beyond: u32);
    /// Sends an event.
    fn ring_bell(&self);
    /// The next response, if one comes within that time.
    fn answer(&mut self, within: Duration) -> Boxed<'_, Option<Response>>;
    /// The reference of a page.
    fn gref(&self, page: Page) -> u32;
    /// Writes into a page of data.
    fn write(&self, page: usize, at: usize, bytes: &[u8]);
    /// Reads from a page of data.
    fn read(&self, page: usize, at: usize, to: &mut [u8]);
    /// Writes the frontend's state, whatever it is.
    fn state<'a>(&'a self, state: &'a str) -> Boxed<'a, ()>;
    /// Closes, and waits until the backend has closed, too.
    fn close(self: Box<Self>) -> Boxed<'static, Result<(), Failure>>;
}

struct Connection<P: Platform> {
    store: Store,
    state: String,
    ring: RawRing<P>,
    data: P::Grant,
    read_only: P::Grant,
}

/// Connects to a disk's backend with one ring of one page; `keys` are written instead of the usual ones of the same
/// names, or beside them, and those with an empty value are left away.
pub async fn connect<P: Platform>(
    platform: &P,
    store: &Store,
    vdev: u32,
    keys: &[(&str, &str)],
) -> Result<Box<dyn Raw>, Failure> {
    let wishes = Wishes { ring_pages: 1, persistent: false, connect_timeout: PATIENCE, ..Wishes::default() };
    let published = RawRing::publish(platform, store, vdev, &wishes, |all| {
        all.retain(|(key, _)| !keys.iter().any(|(other, _)| key == other));
        let written = keys.iter().filter(|(_, value)| !value.is_empty());
        all.extend(written.map(|(key, value)| (key.to_string(), value.to_string())));
    });
    let mut ring = published.await.map_err(other)?;
    let backend = store.read_number(&format!("device/vbd/{vdev}/backend-id")).await.map(DomId).map_err(other)?;
    let data = ring.share(PAGES).map_err(other)?;
    let read_only = platform.share_read_only(backend, 1).map_err(other)?;
    let ends = [State::CONNECTED, State::CLOSING, State::CLOSED, State::UNKNOWN];
    match ring.backend_is(&ends, PATIENCE).await.map_err(other)? {
        State::CONNECTED => {
            ring.write_state(State::CONNECTED).await.map_err(other)?;
            let state = format!("device/vbd/{vdev}/state");
            Ok(Box::new(Connection { store: store.clone(), state, ring, data, read_only }))
        }
        state => {
            // For the next connection; that this one failed is what counts.
            let _ = ring.close(PATIENCE).await;
            Err(Failure::new(Kind::Gone, format!("the backend did not connect: it is in state {state}")))
        }
    }
}

fn other(why: impl ToString) -> Failure {
    Failure::other(why.to_string())
}

impl<P: Platform> Raw for Connection<P> {
    fn send(&mut self, request: &[u8]) {
        self.ring.put(request);
        self.ring.push();
    }

    fn move_index(&self, beyond: u32) {
        let prod = self.ring.load(Index::ReqProd);
        self.ring.store(Index::ReqProd, prod.wrapping_add(beyond));
        self.ring.notify();
    }

    fn ring_bell(&self) {
        self.ring.notify();
    }

    fn answer(&mut self, within: Duration) -> Boxed<'_, Option<Response>> {
        Box::pin(self.ring.response(within))
    }

    fn gref(&self, page: Page) -> u32 {
        match page {
            Page::Data(number) => self.data.refs()[number].0,
            Page::ReadOnly => self.read_only.refs()[0].0,
            Page::Ring => self.ring.memory().refs()[0].0,
            Page::Unshared => 0x00ff_fff0,
        }
    }

    fn write(&self, page: usize, at: usize, bytes: &[u8]) {
        self.data.write(page * PAGE_SIZE + at, bytes);
    }

    fn read(&self, page: usize, at: usize, to: &mut [u8]) {
        self.data.read(page * PAGE_SIZE + at, to);
    }

    fn state<'a>(&'a self, state: &'a str) -> Boxed<'a, ()> {
        Box::pin(async move {
            // What xenstore refuses is not the backend's to suffer.
            let _ = self.store.write(&self.state, state.as_bytes()).await;
        })
    }

    fn close(self: Box<Self>) -> Boxed<'static, Result<(), Failure>> {
        Box::pin(async move {
            // What is shared stays until the backend has let go of the ring.
            let Connection { ring, data, read_only, .. } = *self;
            let closed = ring.close(PATIENCE).await;
            drop((data, read_only));
            let text = "the backend does not close";
            closed.then_some(()).ok_or_else(|| Failure::new(Kind::TimedOut, text))
        })
    }
}
