//! A backend with one act: from its offer to its end.

use crate::acts::{Act, Deed};
use crate::disk::{Disk, SECTORS, map_pages};
use crate::error::Error;
use crate::play::Patience;
use crate::played::Reaction;
use crate::ring::Ring;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;
use xen_abi::xenbus::State;
use xen_blk::protocol::wire::{Decoded, Response};
use xen_blk::toolstack::Device;
use xen_platform::{Channel, Platform, ReadySince, Time, deadline, sleep};
use xen_store::Store;

/// Time between two looks at the frontend's state.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time after which a frontend that is connected has done what it does first: Linux looks for
/// partitions.
const SETTLE: Duration = Duration::from_secs(1);
/// Time that a single wrong state stands.
const STATE_STANDS: Duration = Duration::from_millis(500);
/// Time that each of many states stands.
const STATE_TOGGLES: Duration = Duration::from_millis(2);

/// A backend as it is played.
pub(crate) struct Rogue<'a, P: Platform> {
    platform: &'a P,
    store: &'a Store,
    device: &'a Device,
    act: &'a Act,
    patience: &'a Patience,
    disk: Disk,
    ring: Option<Ring<P>>,
    /// Requests that are answered later, or never.
    held: Vec<Decoded>,
    kept: Vec<P::Map>,
    /// Number of requests since the deed, once it is done.
    after: Option<u32>,
}

impl<'a, P: Platform> Rogue<'a, P> {
    pub fn new(
        platform: &'a P,
        store: &'a Store,
        device: &'a Device,
        act: &'a Act,
        patience: &'a Patience,
    ) -> Self {
        let (held, kept) = (Vec::new(), Vec::new());
        let (disk, ring, after) = (Disk::default(), None, None);
        Rogue { platform, store, device, act, patience, disk, ring, held, kept, after }
    }

    /// Returns the pages that stay mapped.
    pub fn into_kept(self) -> Vec<P::Map> {
        self.kept
    }

    /// Begins, lets the frontend connect, and looks at what it does.
    pub async fn act_out(&mut self) -> Result<Reaction, Error<P::Error>> {
        self.offer().await?;
        if !self.until(self.patience.connect, &[State::INITIALISED, State::CONNECTED]).await? {
            return Ok(Reaction::Refused);
        }
        let folder = self.device.front_path();
        let ring = Ring::map(self.platform, self.store, self.device.front, &folder).await?;
        self.ring = Some(ring);
        self.set_state(State::CONNECTED).await?;
        // It looks at the disk before it says that it is connected, or right after.
        let connect_by = self.platform.now() + self.patience.connect;
        loop {
            self.serve(false).await?;
            match self.state().await? {
                State::CONNECTED => break,
                State::INITIALISED if self.platform.now() < connect_by => self.pause().await,
                _ => return Ok(Reaction::Refused),
            }
        }
        self.watch().await
    }

    /// Writes the keys and states with which it begins.
    async fn offer(&self) -> Result<(), Error<P::Error>> {
        let honest = [
            ("sectors", SECTORS.to_string()),
            ("sector-size", "512".into()),
            ("info", "0".into()),
            ("feature-flush-cache", "1".into()),
        ];
        let folder = self.device.back_path();
        for (name, value) in honest {
            self.store.write(&format!("{folder}/{name}"), value.as_bytes()).await?;
        }
        if let Deed::Keys(keys) = self.act.deed {
            for (name, value) in keys {
                let path = format!("{folder}/{name}");
                match value {
                    Some(value) => self.store.write(&path, value.as_bytes()).await?,
                    None => self.store.rm(&path).await?,
                }
            }
        }
        if let Deed::States(states, times) = self.act.deed {
            let stands = if times == 1 { STATE_STANDS } else { STATE_TOGGLES };
            for state in (0..times).flat_map(|_| states) {
                self.set_state(State(*state)).await?;
                sleep(self.platform, stands).await;
            }
        }
        self.set_state(State::INIT_WAIT).await
    }

    /// Serves the connected frontend, does the deed, and looks at what comes of it.
    async fn watch(&mut self) -> Result<Reaction, Error<P::Error>> {
        let begun = self.platform.now();
        if matches!(self.act.deed, Deed::None | Deed::Keys(_) | Deed::States(..)) {
            // The deed is done, and connecting was the answer.
            self.serve_until(begun + SETTLE, false).await?;
            let count = self.after.get_or_insert(0);
            return Ok(Reaction::WentOn(*count));
        }
        self.serve_until(begun + SETTLE, false).await?;
        let mut end = self.platform.now() + self.patience.watch;
        let mut done = false;
        while self.platform.now() < end {
            if self.serve_until(self.platform.now() + LOOK_EVERY, true).await? {
                return Ok(Reaction::Closed);
            }
            if !done && self.after.is_some() {
                done = true;
                end = self.platform.now() + self.patience.watch;
            }
        }
        Ok(match self.after {
            None => Reaction::Unasked,
            Some(0) => Reaction::Silent,
            Some(count) => Reaction::WentOn(count),
        })
    }

    /// Serves until `end`; true if the frontend has ended the connection before.
    async fn serve_until(&mut self, end: Time, deed: bool) -> Result<bool, Error<P::Error>> {
        loop {
            self.serve(deed).await?;
            if !matches!(self.state().await?, State::CONNECTED | State::INITIALISED) {
                return Ok(true);
            }
            if self.platform.now() >= end {
                return Ok(false);
            }
            self.pause().await;
        }
    }

    /// Waits for an event, for a moment.
    async fn pause(&self) {
        let Some(ring) = &self.ring else { return sleep(self.platform, LOOK_EVERY).await };
        let mut since = ReadySince::now(&ring.channel);
        if !ring.arm() {
            let at = self.platform.now() + LOOK_EVERY;
            let _ = deadline(self.platform, Some(at), since.wait(&ring.channel)).await;
        }
    }

    /// Answers the requests that are there; `deed` lets the first of them meet the deed.
    async fn serve(&mut self, deed: bool) -> Result<(), Error<P::Error>> {
        loop {
            let Some(ring) = &mut self.ring else { return Ok(()) };
            let Some(request) = ring.take() else { break };
            let (platform, peer) = (self.platform, self.device.front);
            if deed && matches!(self.act.deed, Deed::Mapped) {
                self.kept.extend(map_pages(platform, peer, &request));
            }
            let first = deed && self.after.is_none();
            match self.act.deed {
                Deed::Closes | Deed::Vanishes if deed => {
                    self.held.push(request);
                    self.after.get_or_insert(0);
                }
                Deed::Reversed if deed => {
                    self.held.push(request);
                    self.count();
                }
                _ => {
                    let status = self.disk.carry_out(platform, peer, &request);
                    let Decoded { id, operation, .. } = request;
                    self.answer(Response { id, operation, status }, first).await;
                    if deed {
                        self.count();
                    }
                }
            }
        }
        self.answer_held(deed).await
    }

    fn count(&mut self) {
        self.after = Some(self.after.map_or(0, |count| count + 1));
    }

    /// Answers what was held back, or goes away with it.
    async fn answer_held(&mut self, deed: bool) -> Result<(), Error<P::Error>> {
        match self.act.deed {
            _ if self.held.is_empty() => Ok(()),
            Deed::Closes if deed => self.set_state(State::CLOSED).await,
            Deed::Vanishes if deed => Ok(self.store.rm(&self.device.back_path()).await?),
            Deed::Reversed => {
                // Others may come that can be answered before.
                sleep(self.platform, LOOK_EVERY).await;
                while let Some(request) = self.ring.as_mut().and_then(Ring::take) {
                    self.held.push(request);
                    self.count();
                }
                while let Some(request) = self.held.pop() {
                    let status = self.disk.carry_out(self.platform, self.device.front, &request);
                    let Decoded { id, operation, .. } = request;
                    self.answer(Response { id, operation, status }, false).await;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Answers a request, in another way if it is the one that the act is for.
    async fn answer(&mut self, right: Response, wrong: bool) {
        let Some(ring) = &mut self.ring else { return };
        match self.act.deed {
            Deed::Events(count) if wrong => {
                ring.respond(right, 0);
                for number in 0..count {
                    ring.channel.notify();
                    if number % 1000 == 0 {
                        sleep(self.platform, Duration::from_millis(1)).await;
                    }
                }
            }
            Deed::Response(response) if wrong => ring.answer_wrong(right, response),
            _ => ring.respond(right, 0),
        }
    }

    /// Lets the frontend go.
    pub async fn close(&mut self) -> Result<(), Error<P::Error>> {
        if self.own_state().await? == State::UNKNOWN {
            return Ok(());
        }
        self.set_state(State::CLOSING).await?;
        let end = self.platform.now() + self.patience.close;
        while self.platform.now() < end {
            if matches!(self.act.deed, Deed::Closes | Deed::Vanishes) {
                self.pause().await;
            } else {
                self.serve_until(self.platform.now(), false).await?;
            }
            if matches!(self.state().await?, State::CLOSED | State::UNKNOWN) {
                break;
            }
            self.pause().await;
        }
        self.ring = None;
        self.set_state(State::CLOSED).await
    }

    /// Waits until the frontend's state is one of `states`; false if it takes too long, or if it
    /// goes away.
    async fn until(&self, most: Duration, states: &[State]) -> Result<bool, Error<P::Error>> {
        let end = self.platform.now() + most;
        loop {
            let state = self.state().await?;
            if states.contains(&state) {
                return Ok(true);
            }
            if self.platform.now() >= end || state == State::UNKNOWN {
                return Ok(false);
            }
            sleep(self.platform, LOOK_EVERY).await;
        }
    }

    /// Returns the frontend's state.
    async fn state(&self) -> Result<State, Error<P::Error>> {
        self.state_at(&self.device.front_path()).await
    }

    async fn own_state(&self) -> Result<State, Error<P::Error>> {
        self.state_at(&self.device.back_path()).await
    }

    async fn state_at(&self, folder: &str) -> Result<State, Error<P::Error>> {
        match self.store.read_string(&format!("{folder}/state")).await {
            Ok(text) => Ok(State(text.parse().unwrap_or(u32::MAX))),
            Err(error) if error.is_not_found() => Ok(State::UNKNOWN),
            Err(error) => Err(error.into()),
        }
    }

    async fn set_state(&self, state: State) -> Result<(), Error<P::Error>> {
        let path = format!("{}/state", self.device.back_path());
        Ok(self.store.write(&path, state.0.to_string().as_bytes()).await?)
    }
}
