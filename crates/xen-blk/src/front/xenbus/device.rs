//! A disk's folders in xenstore: the states of both ends, and the keys that publish the rings.

use super::keys::{Boxed, keys, read, write};
use super::negotiate::{BackendKeys, DISK_KEYS, Offer, RING_KEYS, RingPlan, parse_number, shorten};
use crate::front::config::Config;
use crate::front::error::{Error, GoneReason, PeerError};
use crate::front::io::queue::{self, Queue};
use crate::front::note::Note;
use crate::protocol::handshake::{FrontStep, front};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::{Context, Poll};
use core::time::Duration;
use xen_abi::xenbus::State;
use xen_platform::{Channel, DomId, Platform, deadline};
use xen_store::{Store, Watch};

/// The folder of the own domain's disks.
pub(crate) const DISKS: &str = "device/vbd";

/// Beginnings of the keys that publish rings: those of an earlier connection must not be left.
const OLD_KEYS: [&str; 5] =
    ["ring-ref", "ring-page-order", "event-channel", "queue-", "multi-queue-num-queues"];

/// Both ends' folders, seen from the frontend.
pub(crate) struct XenbusDevice {
    store: Store,
    /// The frontend's folder.
    pub nodename: String,
    /// The backend's folder.
    pub otherend: String,
    /// The backend's domain.
    pub otherend_id: DomId,
    /// Watches the backend's state.
    watch: Watch,
    /// The state that this end wrote last.
    pub mine: State,
    /// The backend's state when it was read last.
    pub theirs: State,
}

/// The backend's offer, and the faults in its keys.
pub(crate) type Offered = (Offer, Vec<Note>);

/// A connection whose handshake is done.
pub(crate) struct Connected<P: Platform> {
    pub queues: Vec<Queue<P>>,
    pub plan: RingPlan,
    pub offer: Offer,
    /// Faults in the backend's keys.
    pub notes: Vec<Note>,
}

/// Rings that are published and not connected yet.
struct Published<P: Platform> {
    queues: Vec<Queue<P>>,
    plan: RingPlan,
    notes: Vec<Note>,
}

impl<P: Platform> Published<P> {
    /// Tells if the backend has bound to the event channels.
    fn are_bound(&self) -> bool {
        self.queues.iter().all(|queue| queue.channel.is_bound())
    }
}

impl XenbusDevice {
    /// Finds the backend of a disk.
    pub fn find(store: &Store, vdev: u32) -> Boxed<'_, Result<XenbusDevice, xen_store::Error>> {
        let nodename = format!("{DISKS}/{vdev}");
        Box::pin(async move {
            let otherend = store.read_string(&format!("{nodename}/backend")).await?;
            let otherend_id = DomId(store.read_number(&format!("{nodename}/backend-id")).await?);
            let watch = store.watch(&format!("{otherend}/state")).await?;
            let (mine, theirs) = (State::INITIALISING, State::UNKNOWN);
            let store = store.clone();
            Ok(XenbusDevice { store, nodename, otherend, otherend_id, watch, mine, theirs })
        })
    }

    /// Returns the connection to xenstore.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Reads the backend's state; a missing key is [`State::UNKNOWN`].
    pub fn read_otherend_state<E>(&mut self) -> Boxed<'_, Result<State, Error<E>>> {
        Box::pin(async move {
            self.theirs = match read(&self.store, &self.otherend, "state").await? {
                None => State::UNKNOWN,
                Some(value) => {
                    let number = parse_number(&value).and_then(|number| number.try_into().ok());
                    State(number.ok_or_else(|| PeerError::Key {
                        key: "state",
                        value: shorten(&value),
                        expected: "the number of a state",
                    })?)
                }
            };
            Ok(self.theirs)
        })
    }

    /// Writes the own state.
    pub fn write(&mut self, state: State) -> Boxed<'_, Result<(), xen_store::Error>> {
        self.mine = state;
        write(&self.store, &self.nodename, "state", state.0.to_string())
    }

    /// Tells if the backend is to stay or to come back: the toolstack sets `online` to 0 before it
    /// takes a disk away.
    pub async fn is_online(&self) -> bool {
        let online = read(&self.store, &self.otherend, "online").await;
        matches!(online, Ok(Some(online)) if online == "1")
    }

    /// Waits until the backend's state may have changed.
    pub async fn changed(&mut self) -> Result<(), xen_store::Error> {
        poll_fn(|cx| self.poll_changed(cx)).await
    }

    /// Polls for a change of the backend's state.
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), xen_store::Error>> {
        self.watch.poll_next(cx).map_ok(drop)
    }

    /// Takes back the state that an earlier life of this domain left: it would keep the backend
    /// from beginning anew.
    pub fn begin<'a, E: 'a>(&'a mut self) -> Boxed<'a, Result<(), Error<E>>> {
        Box::pin(async {
            let left = read(&self.store, &self.nodename, "state").await?;
            let busy = [State::INITIALISED, State::CONNECTED, State::CLOSING]
                .contains(&self.read_otherend_state().await?);
            if left != Some(State::INITIALISING.0.to_string()) {
                match busy {
                    true => self.reset().await?,
                    false => self.write(State::INITIALISING).await?,
                }
            }
            Ok(())
        })
    }

    /// Goes through the handshake until both ends are connected, within the time `within`.
    pub fn connect<'a, P: Platform>(
        &'a mut self,
        platform: &'a P,
        config: &'a Config,
        within: Duration,
    ) -> Boxed<'a, Result<Connected<P>, Error<P::Error>>> {
        Box::pin(async move {
            let until = platform.now() + within;
            match deadline(platform, Some(until), self.shake_hands(platform, config)).await {
                Ok(result) => result,
                Err(_) => Err(Error::NoBackend { path: self.otherend.clone(), state: self.theirs }),
            }
        })
    }

    async fn shake_hands<P: Platform>(
        &mut self,
        platform: &P,
        config: &Config,
    ) -> Result<Connected<P>, Error<P::Error>> {
        let mut published: Option<Published<P>> = None;
        loop {
            let theirs = self.read_otherend_state().await?;
            match (front(self.mine, theirs), published.take()) {
                // It has taken older rings, which are gone.
                (FrontStep::Connect, Some(rings)) if !rings.are_bound() => self.reset().await?,
                (FrontStep::Connect, Some(Published { queues, plan, mut notes })) => {
                    let (offer, more) = self.read_offer(config).await?;
                    self.write(State::CONNECTED).await?;
                    notes.extend(more);
                    return Ok(Connected { queues, plan, offer, notes });
                }
                (FrontStep::Publish, _) => published = Some(self.publish(platform, config).await?),
                (FrontStep::Close, _) => return Err(Error::Gone(GoneReason::Unplugged)),
                (FrontStep::Lost, _) => return Err(Error::Gone(GoneReason::Lost)),
                (FrontStep::Restart, _) => self.write(State::INITIALISING).await?,
                (FrontStep::Reset, _) => self.reset().await?,
                (FrontStep::Wait | FrontStep::Refresh | FrontStep::Connect, rings) => {
                    published = rings;
                    self.changed().await?;
                }
            }
        }
    }

    /// Makes a backend let go of the rings of an earlier frontend.
    pub fn reset(&mut self) -> Boxed<'_, Result<(), xen_store::Error>> {
        Box::pin(async {
            self.write(State::CLOSING).await?;
            self.write(State::CLOSED).await
        })
    }

    /// Creates rings and writes the keys that lead to them, all at once.
    fn publish<'a, P: Platform>(
        &'a mut self,
        platform: &'a P,
        config: &'a Config,
    ) -> Boxed<'a, Result<Published<P>, Error<P::Error>>> {
        Box::pin(async {
            let mut offered = self.read_keys(RING_KEYS).await?;
            let plan = RingPlan::new(&mut offered, config);
            let queues = queue::create(platform, self.otherend_id, plan, config.abi)
                .map_err(Error::Platform)?;
            self.publish_keys(&keys(&queues, config)).await?;
            Ok(Published { queues, plan, notes: offered.notes })
        })
    }

    /// Writes keys into the own folder, the state among them, all at once, and removes those that
    /// an earlier connection had published.
    pub async fn publish_keys(
        &mut self,
        keys: &[(String, String)],
    ) -> Result<(), xen_store::Error> {
        let nodename = &self.nodename;
        self.store
            .transaction(async |store| {
                for key in store.directory(nodename).await? {
                    if OLD_KEYS.iter().any(|old| key.starts_with(old)) {
                        store.rm(&format!("{nodename}/{key}")).await?;
                    }
                }
                for (key, value) in keys {
                    write(store, nodename, key, value.clone()).await?;
                }
                Ok(())
            })
            .await?;
        self.mine = State::INITIALISED;
        Ok(())
    }

    /// Reads the disk's size and features, and notes the faults in their keys.
    pub fn read_offer<'a, E: 'a>(
        &'a mut self,
        config: &'a Config,
    ) -> Boxed<'a, Result<Offered, Error<E>>> {
        Box::pin(async {
            let mut keys = self.read_keys(DISK_KEYS).await?;
            let offer = Offer::new(&mut keys, config)?;
            Ok((offer, keys.notes))
        })
    }

    /// Reads those of `names` that the backend has written.
    fn read_keys<'a>(
        &'a self,
        names: &'a [&'static str],
    ) -> Boxed<'a, Result<BackendKeys, xen_store::Error>> {
        Box::pin(async move {
            let mut values = Vec::new();
            for &name in names {
                let value = read(&self.store, &self.otherend, name).await?;
                values.extend(value.map(|value| (name, value)));
            }
            Ok(BackendKeys::new(values))
        })
    }

    /// Closes this end and waits until the backend has let go, for the time `within`; tells if it
    /// has. A folder that is gone is as good.
    pub async fn close<P: Platform>(&mut self, platform: &P, within: Duration) -> bool {
        let until = platform.now() + within;
        let closed = deadline(platform, Some(until), self.try_close::<P::Error>()).await;
        match closed {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => log::debug!("{}: while closing: {error}", self.nodename),
            Err(_) => {
                log::warn!("{}: backend does not close: it stays in {}", self.nodename, self.theirs)
            }
        }
        false
    }

    async fn try_close<E: core::error::Error>(&mut self) -> Result<(), Error<E>> {
        let gone = State::UNKNOWN;
        let steps: [(State, &[State]); 2] = [
            (State::CLOSING, &[State::CLOSING, State::CLOSED, gone]),
            (State::CLOSED, &[State::CLOSED, State::INITIALISING, State::INIT_WAIT, gone]),
        ];
        for (state, until) in steps {
            // Writing would make a folder again that is gone, or close another disk.
            if !self.owns_folder().await? {
                return Ok(());
            }
            self.write(state).await?;
            while !until.contains(&self.read_otherend_state().await?) {
                self.changed().await?;
            }
        }
        Ok(())
    }

    /// Tells if the own folder is the one that this end has written to: the toolstack may have
    /// removed it, and made another one for another disk of the same number.
    pub async fn owns_folder(&self) -> Result<bool, xen_store::Error> {
        let state = read(&self.store, &self.nodename, "state").await?;
        Ok(state == Some(self.mine.0.to_string()))
    }
}
