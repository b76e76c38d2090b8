//! A disk's folders in xenstore: the states of both ends, and the keys that publish the rings.

use super::keys::{Boxed, keys, read, write};
use super::offer::{DISK_KEYS, Found, Offer, RING_KEYS, RingPlan, number, short};
use super::rings::{self, Queue};
use super::{Error, Note, PeerError, Why, Wishes};
use crate::handshake::{FrontStep, front};
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

/// Keys that publish rings, by their beginnings: those of an earlier connection must not be left.
const OLD_KEYS: [&str; 5] = ["ring-ref", "ring-page-order", "event-channel", "queue-", "multi-queue-num-queues"];

/// Both ends' folders.
pub(crate) struct Bus {
    store: Store,
    /// The own folder.
    pub front: String,
    /// The backend's.
    pub back: String,
    pub backend: DomId,
    /// Tells of changes of the backend's state.
    watch: Watch,
    /// What this end has written as its state.
    pub mine: State,
    /// The backend's, when last read.
    pub theirs: State,
}

/// What a backend offers, and what is wrong with its keys.
pub(crate) type Offered = (Offer, Vec<Note>);

/// A connection that is made.
pub(crate) struct Connected<P: Platform> {
    pub queues: Vec<Queue<P>>,
    pub plan: RingPlan,
    pub offer: Offer,
    /// What is wrong with the backend's keys.
    pub notes: Vec<Note>,
}

/// Rings that are published.
struct Published<P: Platform> {
    queues: Vec<Queue<P>>,
    plan: RingPlan,
    notes: Vec<Note>,
}

impl<P: Platform> Published<P> {
    /// Whether the backend has bound to the event channels.
    fn are_taken(&self) -> bool {
        self.queues.iter().all(|queue| queue.channel.is_bound())
    }
}

impl Bus {
    /// Finds the backend of a disk.
    pub fn find(store: &Store, vdev: u32) -> Boxed<'_, Result<Bus, xen_store::Error>> {
        let front = format!("{DISKS}/{vdev}");
        Box::pin(async move {
            let back = store.read_string(&format!("{front}/backend")).await?;
            let backend = DomId(store.read_number(&format!("{front}/backend-id")).await?);
            let watch = store.watch(&format!("{back}/state")).await?;
            let (mine, theirs) = (State::INITIALISING, State::UNKNOWN);
            Ok(Bus { store: store.clone(), front, back, backend, watch, mine, theirs })
        })
    }

    /// Reads the backend's state; a missing key is [`State::UNKNOWN`].
    pub fn look<E>(&mut self) -> Boxed<'_, Result<State, Error<E>>> {
        Box::pin(async move {
            self.theirs = match read(&self.store, &self.back, "state").await? {
                None => State::UNKNOWN,
                Some(value) => match number(&value).and_then(|number| u32::try_from(number).ok()) {
                    Some(number) => State(number),
                    None => {
                        let (key, value) = ("state", short(&value));
                        return Err(PeerError::Key { key, value, expected: "a state's number" }.into());
                    }
                },
            };
            Ok(self.theirs)
        })
    }

    /// Writes the own state.
    pub fn write(&mut self, state: State) -> Boxed<'_, Result<(), xen_store::Error>> {
        self.mine = state;
        write(&self.store, &self.front, "state", state.0.to_string())
    }

    /// Whether the backend is to stay, or to come back: the toolstack sets `online` to 0 before it takes a disk away.
    pub async fn is_online(&self) -> bool {
        matches!(read(&self.store, &self.back, "online").await, Ok(Some(online)) if online == "1")
    }

    /// Waits until the backend's state may have changed.
    pub async fn changed(&mut self) -> Result<(), xen_store::Error> {
        poll_fn(|cx| self.poll_changed(cx)).await
    }

    /// As [`Bus::changed`].
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), xen_store::Error>> {
        self.watch.poll_next(cx).map_ok(drop)
    }

    /// Takes back what an earlier life of this domain left as its state: it would keep the backend from beginning anew.
    pub fn begin<'a, E: 'a>(&'a mut self) -> Boxed<'a, Result<(), Error<E>>> {
        Box::pin(async {
            let left = read(&self.store, &self.front, "state").await?;
            let busy = [State::INITIALISED, State::CONNECTED, State::CLOSING].contains(&self.look().await?);
            if left != Some(State::INITIALISING.0.to_string()) {
                match busy {
                    true => self.reset().await?,
                    false => self.write(State::INITIALISING).await?,
                }
            }
            Ok(())
        })
    }

    /// Goes through the handshake until both ends are connected, in `within` at most.
    pub fn connect<'a, P: Platform>(
        &'a mut self,
        platform: &'a P,
        wishes: &'a Wishes,
        within: Duration,
    ) -> Boxed<'a, Result<Connected<P>, Error<P::Error>>> {
        Box::pin(async move {
            let until = platform.now() + within;
            match deadline(platform, Some(until), self.shake_hands(platform, wishes)).await {
                Ok(result) => result,
                Err(_) => Err(Error::NoBackend { path: self.back.clone(), state: self.theirs }),
            }
        })
    }

    async fn shake_hands<P: Platform>(
        &mut self,
        platform: &P,
        wishes: &Wishes,
    ) -> Result<Connected<P>, Error<P::Error>> {
        let mut published: Option<Published<P>> = None;
        loop {
            let theirs = self.look().await?;
            match (front(self.mine, theirs), published.take()) {
                // It has taken older rings, which are gone.
                (FrontStep::Connect, Some(rings)) if !rings.are_taken() => self.reset().await?,
                (FrontStep::Connect, Some(Published { queues, plan, mut notes })) => {
                    let (offer, more) = self.offer(wishes).await?;
                    self.write(State::CONNECTED).await?;
                    notes.extend(more);
                    return Ok(Connected { queues, plan, offer, notes });
                }
                (FrontStep::Publish, _) => published = Some(self.publish(platform, wishes).await?),
                (FrontStep::Close, _) => return Err(Error::Gone(Why::Unplugged)),
                (FrontStep::Lost, _) => return Err(Error::Gone(Why::Lost)),
                (FrontStep::Restart, _) => self.write(State::INITIALISING).await?,
                (FrontStep::Reset, _) => self.reset().await?,
                (FrontStep::Wait | FrontStep::Refresh | FrontStep::Connect, kept) => {
                    published = kept;
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

    /// Makes rings and writes the keys that lead to them, all at once.
    fn publish<'a, P: Platform>(
        &'a mut self,
        platform: &'a P,
        wishes: &'a Wishes,
    ) -> Boxed<'a, Result<Published<P>, Error<P::Error>>> {
        Box::pin(async {
            let mut found = self.found(RING_KEYS).await?;
            let plan = RingPlan::new(&mut found, wishes);
            let queues = rings::make(platform, self.backend, plan, wishes.abi).map_err(Error::Platform)?;
            self.publish_keys(&keys(&queues, wishes)).await?;
            Ok(Published { queues, plan, notes: found.notes })
        })
    }

    /// Writes keys into the own folder, the state among them, all at once, and removes what an earlier connection had
    /// published there.
    pub async fn publish_keys(&mut self, keys: &[(String, String)]) -> Result<(), xen_store::Error> {
        let front = &self.front;
        self.store
            .transaction(async |store| {
                for key in store.directory(front).await? {
                    if OLD_KEYS.iter().any(|old| key.starts_with(old)) {
                        store.rm(&format!("{front}/{key}")).await?;
                    }
                }
                for (key, value) in keys {
                    write(store, front, key, value.clone()).await?;
                }
                Ok(())
            })
            .await?;
        self.mine = State::INITIALISED;
        Ok(())
    }

    /// Reads the disk's size and the features, and what is wrong with them.
    pub fn offer<'a, E: 'a>(&'a mut self, wishes: &'a Wishes) -> Boxed<'a, Result<Offered, Error<E>>> {
        Box::pin(async {
            let mut found = self.found(DISK_KEYS).await?;
            let offer = Offer::new(&mut found, wishes)?;
            Ok((offer, found.notes))
        })
    }

    /// Reads those of `keys` that the backend has written.
    fn found<'a>(&'a self, keys: &'a [&'static str]) -> Boxed<'a, Result<Found, xen_store::Error>> {
        Box::pin(async move {
            let mut values = Vec::new();
            for &key in keys {
                values.extend(read(&self.store, &self.back, key).await?.map(|value| (key, value)));
            }
            Ok(Found::new(values))
        })
    }

    /// Closes this end, and waits until the backend has let go, in `within` at most; says whether it has. A folder that is
    /// gone is as good.
    pub async fn close<P: Platform>(&mut self, platform: &P, within: Duration) -> bool {
        let until = platform.now() + within;
        let closed = deadline(platform, Some(until), self.try_close::<P::Error>()).await;
        match closed {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => log::debug!("{}: while closing: {error}", self.front),
            Err(_) => log::warn!("{}: the backend does not close, it stays in {}", self.front, self.theirs),
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
            self.write_if_there(state).await?;
            while !until.contains(&self.look().await?) {
                self.changed().await?;
            }
        }
        Ok(())
    }

    /// Writes the own state, unless the toolstack has removed the folder: writing would make it again.
    async fn write_if_there(&mut self, state: State) -> Result<(), xen_store::Error> {
        match read(&self.store, &self.front, "state").await? {
            None => Ok(()),
            Some(_) => self.write(state).await,
        }
    }
}
