//! A connection to a block backend that does as it is told: any bytes in any slot, any index, any key.

use crate::crowd::Boxed;
use crate::site::{Failure, Kind};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::mem::offset_of;
use core::time::Duration;
use xen_abi::ring::Sring;
use xen_abi::xenbus::State;
use xen_blk::handshake::{FrontStep, front};
use xen_blk::wire::{Abi, RESPONSE_MAX, Response};
use xen_platform::{Channel, DomId, Granted, IndexMemory, Platform, SharedMem, deadline};
use xen_ring::slots::{Front, Shape};
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

/// What came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// A response.
    Response(Response),
    /// Nothing in time.
    Silence,
    /// An index that cannot be.
    Corrupt,
}

/// An open connection.
pub trait Raw {
    /// How many slots the ring has.
    fn slots(&self) -> u32;
    /// Puts a request into the next slot and shows it. Whether the backend wants an event or not, it gets one.
    fn send(&self, request: &[u8]);
    /// Writes the index that says where the next request goes, as `beyond` what it is.
    fn move_index(&self, beyond: u32);
    /// Sends an event.
    fn ring_bell(&self);
    /// The next response, if one comes within that time.
    fn answer(&self, within: Duration) -> Boxed<'_, Answer>;
    /// The reference of a page.
    fn gref(&self, page: Page) -> u32;
    /// Writes into a page of data.
    fn write(&self, page: usize, at: usize, bytes: &[u8]);
    /// Reads from a page of data.
    fn read(&self, page: usize, at: usize, to: &mut [u8]);
    /// Writes a key of the frontend, whatever it is.
    fn set<'a>(&'a self, key: &'a str, value: &'a str) -> Boxed<'a, ()>;
    /// Closes, and waits until the backend has closed, too.
    fn close(&self) -> Boxed<'_, Result<(), Failure>>;
}

/// The folders of both ends.
struct Folders<P> {
    platform: P,
    store: Store,
    front: String,
    back: String,
    backend: DomId,
}

impl<P: Platform> Folders<P> {
    async fn theirs(&self) -> State {
        State(self.store.read_number(&format!("{}/state", self.back)).await.unwrap_or(0))
    }

    async fn set(&self, key: &str, value: &str) -> Result<(), xen_store::Error> {
        self.store.write(&format!("{}/{key}", self.front), value.as_bytes()).await
    }

    async fn state(&self, state: State) -> Result<(), xen_store::Error> {
        self.set("state", &state.0.to_string()).await
    }

    /// Goes through the handshake; `keys` are written once the backend waits for them.
    async fn connect(&self, keys: &[(String, String)]) -> Result<(), Failure> {
        let mut watch = self.store.watch(&format!("{}/state", self.back)).await.map_err(store)?;
        let mut mine = State::INITIALISING;
        let shaken = async {
            if matches!(self.theirs().await, State::CLOSED | State::INIT_WAIT | State::INITIALISING) {
                self.state(mine).await?;
            }
            loop {
                let theirs = self.theirs().await;
                mine = match front(mine, theirs) {
                    FrontStep::Publish => {
                        for (key, value) in keys {
                            self.set(key, value).await?;
                        }
                        State::INITIALISED
                    }
                    FrontStep::Connect => {
                        self.state(State::CONNECTED).await?;
                        return Ok(true);
                    }
                    FrontStep::Reset => {
                        self.state(State::CLOSING).await?;
                        State::CLOSED
                    }
                    FrontStep::Restart => State::INITIALISING,
                    FrontStep::Close | FrontStep::Lost => return Ok(false),
                    FrontStep::Wait | FrontStep::Refresh => {
                        watch.next().await?;
                        continue;
                    }
                };
                self.state(mine).await?;
            }
        };
        let refused = |text: String| Err(Failure { kind: Kind::Gone, text });
        match deadline(&self.platform, Some(self.platform.now() + PATIENCE), shaken).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => refused("the backend refused the rings".into()),
            Ok(Err(why)) => Err(store(why)),
            Err(_) => refused(format!("the backend did not connect, and is in state {}", self.theirs().await)),
        }
    }

    async fn close(&self) -> Result<(), Failure> {
        let mut watch = self.store.watch(&format!("{}/state", self.back)).await.map_err(store)?;
        let closing = async {
            self.state(State::CLOSING).await?;
            while !matches!(self.theirs().await, State::CLOSING | State::CLOSED | State::UNKNOWN) {
                watch.next().await?;
            }
            self.state(State::CLOSED).await?;
            while !matches!(self.theirs().await, State::CLOSED | State::INIT_WAIT | State::UNKNOWN) {
                watch.next().await?;
            }
            Ok(())
        };
        match deadline(&self.platform, Some(self.platform.now() + PATIENCE), closing).await {
            Ok(done) => done.map_err(store),
            Err(_) => Err(Failure {
                kind: Kind::TimedOut,
                text: format!("the backend does not close, and is in state {}", self.theirs().await),
            }),
        }
    }
}

fn store(why: xen_store::Error) -> Failure {
    Failure::other(why.to_string())
}

struct Connection<P: Platform> {
    folders: Folders<P>,
    ring: P::Grant,
    end: RefCell<Front>,
    channel: P::Channel,
    seen: Cell<u32>,
    data: P::Grant,
    read_only: P::Grant,
}

/// Connects to a disk's backend with one ring of one page; `keys` are written instead of the usual ones of the same
/// names, or beside them, and those with an empty value are left away.
pub async fn connect<P: Platform>(
    platform: &P,
    xenstore: &Store,
    vdev: u32,
    keys: &[(&str, &str)],
) -> Result<Rc<dyn Raw>, Failure> {
    let front = format!("device/vbd/{vdev}");
    let back = xenstore.read_string(&format!("{front}/backend")).await.map_err(store)?;
    let backend = DomId(xenstore.read_number(&format!("{front}/backend-id")).await.map_err(store)?);
    let folders = Folders { platform: platform.clone(), store: xenstore.clone(), front, back, backend };
    let opened = open(folders).map_err(|why| Failure::other(why.to_string()))?;
    let all = opened.keys(keys);
    match opened.folders.connect(&all).await {
        Ok(()) => Ok(Rc::new(opened)),
        Err(why) => {
            // For the next one; that this one failed is what counts.
            let _ = opened.folders.close().await;
            opened.clear(keys).await;
            Err(why)
        }
    }
}

fn open<P: Platform>(folders: Folders<P>) -> Result<Connection<P>, P::Error> {
    let (platform, backend) = (&folders.platform, folders.backend);
    let ring = platform.share(backend, 1)?;
    let data = platform.share(backend, PAGES)?;
    let read_only = platform.share_read_only(backend, 1)?;
    let channel = platform.listen(backend)?;
    let end = RefCell::new(Front::new(Shape::new(ring.len(), Abi::X86_64.slot()), &ring));
    Ok(Connection { seen: Cell::new(channel.seen()), folders, ring, end, channel, data, read_only })
}

impl<P: Platform> Connection<P> {
    fn keys(&self, instead: &[(&str, &str)]) -> Vec<(String, String)> {
        let usual = [
            ("ring-ref", self.ring.refs()[0].to_string()),
            ("event-channel", self.channel.port().to_string()),
            ("protocol", Abi::X86_64.name().to_string()),
            ("feature-persistent", "0".to_string()),
            // What an earlier connection left.
            ("ring-page-order", "0".to_string()),
            ("multi-queue-num-queues", "1".to_string()),
        ];
        let kept = usual.into_iter().filter(|(key, _)| !instead.iter().any(|(other, _)| other == key));
        let written = instead.iter().filter(|(_, value)| !value.is_empty());
        let written = written.map(|(key, value)| (key.to_string(), value.to_string()));
        kept.map(|(key, value)| (key.to_string(), value)).chain(written).collect()
    }

    /// Removes strange keys.
    async fn clear(&self, keys: &[(&str, &str)]) {
        let usual = ["ring-page-order", "multi-queue-num-queues", "ring-ref", "event-channel"];
        for key in keys.iter().map(|(key, _)| *key).chain(usual) {
            // One that is not there need not be removed.
            let _ = self.folders.store.rm(&format!("{}/{key}", self.folders.front)).await;
        }
    }
}

impl<P: Platform> Raw for Connection<P> {
    fn slots(&self) -> u32 {
        self.end.borrow().shape().slots()
    }

    fn send(&self, request: &[u8]) {
        let mut end = self.end.borrow_mut();
        end.put(&self.ring, request);
        let _wanted = end.push(&self.ring);
        self.channel.notify();
    }

    fn move_index(&self, beyond: u32) {
        let at = offset_of!(Sring, req_prod);
        self.ring.store(at, self.ring.load(at).wrapping_add(beyond));
        self.channel.notify();
    }

    fn ring_bell(&self) {
        self.channel.notify();
    }

    fn answer(&self, within: Duration) -> Boxed<'_, Answer> {
        Box::pin(async move {
            let until = self.folders.platform.now() + within;
            let mut bytes = [0; RESPONSE_MAX];
            loop {
                let taken = self.end.borrow_mut().take(&self.ring, &mut bytes);
                let armed = match taken {
                    Ok(true) => return Answer::Response(Response::decode(&bytes)),
                    Ok(false) => self.end.borrow_mut().arm(&self.ring, 1),
                    Err(_) => return Answer::Corrupt,
                };
                match armed {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(_) => return Answer::Corrupt,
                }
                let mut seen = self.seen.get();
                let event = core::future::poll_fn(|cx| self.channel.poll_after(&mut seen, cx));
                if deadline(&self.folders.platform, Some(until), event).await.is_err() {
                    return Answer::Silence;
                }
                self.seen.set(seen);
            }
        })
    }

    fn gref(&self, page: Page) -> u32 {
        match page {
            Page::Data(number) => self.data.refs()[number].0,
            Page::ReadOnly => self.read_only.refs()[0].0,
            Page::Ring => self.ring.refs()[0].0,
            Page::Unshared => 0x00ff_fff0,
        }
    }

    fn write(&self, page: usize, at: usize, bytes: &[u8]) {
        self.data.write(page * 4096 + at, bytes);
    }

    fn read(&self, page: usize, at: usize, to: &mut [u8]) {
        self.data.read(page * 4096 + at, to);
    }

    fn set<'a>(&'a self, key: &'a str, value: &'a str) -> Boxed<'a, ()> {
        Box::pin(async move {
            // What xenstore refuses to take is not the backend's to suffer.
            let _ = self.folders.set(key, value).await;
        })
    }

    fn close(&self) -> Boxed<'_, Result<(), Failure>> {
        Box::pin(async move {
            let closed = self.folders.close().await;
            self.clear(&[]).await;
            closed
        })
    }
}
