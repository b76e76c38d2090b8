//! A connection to a block backend without a driver: any bytes in any slot, any index, any key.

use crate::environment::{Error, ErrorKind};
use crate::tasks::Boxed;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;
use core::time::Duration;
use xen_abi::xenbus::State;
use xen_blk::front::raw::{Index, RawConnection, RawRing};
use xen_blk::front::{self, Config};
use xen_blk::protocol::wire::Response;
use xen_platform::{DomId, Granted, PAGE_SIZE, Platform, SharedMem};
use xen_store::Store;

/// Time that the backend has for a step of the handshake.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Pages for data and lists that the backend may read and write.
pub const PAGES: usize = 32;

/// The rings to connect with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rings {
    /// Their number.
    pub count: u32,
    /// Number of pages of each.
    pub pages: u32,
}

impl Rings {
    /// One ring of one page.
    pub const ONE: Rings = Rings { count: 1, pages: 1 };
}

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

/// An open connection, with one ring or several.
pub trait Raw {
    /// Selects a ring by its number, from 0: from here on, requests, indices, events and responses
    /// are those of that ring.
    fn select(&mut self, ring: usize);
    /// Puts a request into the next slot and shows it, with an event.
    fn send(&mut self, request: &[u8]);
    /// Puts requests into the next slots and shows all of them at once, with an event only if the
    /// backend asked for one.
    fn send_all(&mut self, requests: &[Vec<u8>]);
    /// Changes bytes of the slot of the last request, from the byte `at` on.
    fn rewrite(&mut self, at: usize, bytes: &[u8]);
    /// Moves the index of requests `beyond` its place, with an event.
    fn move_index(&self, beyond: u32);
    /// Sends an event.
    fn notify(&self);
    /// Waits for the next response, for the time `within`.
    fn response(&mut self, within: Duration) -> Boxed<'_, Option<Response>>;
    /// Asks for an event at the `count`th response from here, and waits for it, for the time
    /// `within`.
    fn wait_for(&mut self, count: u32, within: Duration) -> Boxed<'_, ()>;
    /// Returns the number of waits that ran out although responses were there: no event came.
    fn lost_events(&self) -> u32;
    /// Returns the number of responses that the backend says it has given.
    fn responses(&self) -> u32;
    /// Returns an id for a request that no other of the selected ring has had.
    fn next_id(&self) -> u64;
    /// Returns the number of bytes that the backend wrote into slots beside its responses.
    fn stray_bytes(&self) -> u32;
    /// Returns the grant reference of a page.
    fn gref(&self, page: Page) -> u32;
    /// Writes into a page of data.
    fn write(&self, page: usize, at: usize, bytes: &[u8]);
    /// Reads from a page of data.
    fn read(&self, page: usize, at: usize, to: &mut [u8]);
    /// Takes the pages of data back, and shares others instead.
    fn renew(&mut self) -> Result<(), Error>;
    /// Writes the frontend's state, valid or not.
    fn state<'a>(&'a self, state: &'a str) -> Boxed<'a, ()>;
    /// Closes, and waits until the backend has closed, too.
    fn close(self: Box<Self>) -> Boxed<'static, Result<(), Error>>;
}

struct Connection<P: Platform> {
    store: Store,
    vdev: u32,
    state: String,
    connection: RawConnection<P>,
    /// Number of the selected ring.
    selected: usize,
    data: P::Grant,
    read_only: P::Grant,
    /// Last id that was handed out for each ring.
    last_ids: Vec<Cell<u64>>,
}

/// Connects to a disk's backend with rings; `keys` are written instead of the usual ones of the
/// same names, or beside them, and those with an empty value are left away.
pub async fn connect<P: Platform>(
    platform: &P,
    store: &Store,
    vdev: u32,
    rings: Rings,
    keys: &[(&str, &str)],
) -> Result<Box<dyn Raw>, Error> {
    let config = Config::default().with(|config| {
        (config.ring_pages, config.queues) = (rings.pages, rings.count);
        config.persistent = false;
        config.connect_timeout = TIMEOUT;
    });
    let published = RawConnection::publish(platform, store, vdev, &config, |all| {
        all.retain(|(key, _)| !keys.iter().any(|(other, _)| key == other));
        let written = keys.iter().filter(|(_, value)| !value.is_empty());
        all.extend(written.map(|(key, value)| (key.to_string(), value.to_string())));
    });
    let mut connection = published.await.map_err(other)?;
    let backend = store
        .read_number(&format!("device/vbd/{vdev}/backend-id"))
        .await
        .map(DomId)
        .map_err(other)?;
    let data = connection.share(PAGES).map_err(other)?;
    let read_only = platform.share_read_only(backend, 1).map_err(other)?;
    let ends = [State::CONNECTED, State::CLOSING, State::CLOSED, State::UNKNOWN];
    match connection.backend_is(&ends, TIMEOUT).await.map_err(other)? {
        State::CONNECTED => {
            connection.write_state(State::CONNECTED).await.map_err(other)?;
            let state = format!("device/vbd/{vdev}/state");
            let last_ids = (0..rings.count).map(|_| Cell::new(0)).collect();
            let store = store.clone();
            Ok(Box::new(Connection {
                store,
                vdev,
                state,
                connection,
                selected: 0,
                data,
                read_only,
                last_ids,
            }))
        }
        state => {
            // For the next connection; that this one failed is what counts.
            let _ = connection.close(TIMEOUT).await;
            Err(Error::new(
                ErrorKind::Gone,
                format!("the backend did not connect: it is in state {state}"),
            ))
        }
    }
}

fn other(why: impl ToString) -> Error {
    Error::other(why.to_string())
}

impl<P: Platform> Connection<P> {
    fn ring(&self) -> &RawRing<P> {
        &self.connection.rings[self.selected]
    }

    fn ring_mut(&mut self) -> &mut RawRing<P> {
        &mut self.connection.rings[self.selected]
    }
}

impl<P: Platform> Raw for Connection<P> {
    fn select(&mut self, ring: usize) {
        self.selected = ring;
    }

    fn send(&mut self, request: &[u8]) {
        let ring = self.ring_mut();
        ring.put(request);
        ring.push();
    }

    fn send_all(&mut self, requests: &[Vec<u8>]) {
        let ring = self.ring_mut();
        requests.iter().for_each(|request| ring.put(request));
        ring.push_if_asked();
    }

    fn rewrite(&mut self, at: usize, bytes: &[u8]) {
        self.ring_mut().rewrite(1, at, bytes);
    }

    fn move_index(&self, beyond: u32) {
        let ring = self.ring();
        let prod = ring.load(Index::ReqProd);
        ring.store(Index::ReqProd, prod.wrapping_add(beyond));
        ring.notify();
    }

    fn notify(&self) {
        self.ring().notify();
    }

    fn response(&mut self, within: Duration) -> Boxed<'_, Option<Response>> {
        Box::pin(self.ring_mut().response(within))
    }

    fn wait_for(&mut self, count: u32, within: Duration) -> Boxed<'_, ()> {
        Box::pin(self.ring_mut().wait_for(count, within))
    }

    fn lost_events(&self) -> u32 {
        self.ring().lost_events()
    }

    fn responses(&self) -> u32 {
        self.ring().load(Index::RspProd)
    }

    fn next_id(&self) -> u64 {
        let last_id = &self.last_ids[self.selected];
        let id = last_id.get() + 1;
        last_id.set(id);
        0x1122_3344_0000_0000 | id
    }

    fn stray_bytes(&self) -> u32 {
        self.ring().stray_bytes()
    }

    fn gref(&self, page: Page) -> u32 {
        match page {
            Page::Data(number) => self.data.refs()[number].0,
            Page::ReadOnly => self.read_only.refs()[0].0,
            Page::Ring => self.ring().memory().refs()[0].0,
            Page::Unshared => 0x00ff_fff0,
        }
    }

    fn write(&self, page: usize, at: usize, bytes: &[u8]) {
        self.data.write(page * PAGE_SIZE + at, bytes);
    }

    fn read(&self, page: usize, at: usize, to: &mut [u8]) {
        self.data.read(page * PAGE_SIZE + at, to);
    }

    fn renew(&mut self) -> Result<(), Error> {
        self.data = self.connection.share(PAGES).map_err(other)?;
        Ok(())
    }

    fn state<'a>(&'a self, state: &'a str) -> Boxed<'a, ()> {
        Box::pin(async move {
            // A refusal of xenstore is not the backend's fault.
            let _ = self.store.write(&self.state, state.as_bytes()).await;
        })
    }

    fn close(self: Box<Self>) -> Boxed<'static, Result<(), Error>> {
        Box::pin(async move {
            // What is shared stays until the backend has let go of the ring.
            let Connection { connection, data, read_only, store, vdev, .. } = *self;
            let closed = connection.close(TIMEOUT).await;
            drop((data, read_only));
            if closed {
                return Ok(());
            }
            let mut text = String::from("the backend does not close:");
            let keys = front::backend_keys(&store, vdev).await.unwrap_or_default();
            for (key, value) in keys.iter().filter(|(key, _)| key == "state" || key == "error") {
                text += &format!(" {key} {value}");
            }
            Err(Error::new(ErrorKind::TimedOut, text))
        })
    }
}
