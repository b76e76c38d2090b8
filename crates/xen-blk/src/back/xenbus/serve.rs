//! Life of a served disk: the handshake with its frontend, again and again, until the end.

mod events;
mod steps;

use self::events::{Event, Watches};
use super::keys;
use crate::back::config::Config;
use crate::back::error::{End, Error};
use crate::back::handle::{Handle, Wanted};
use crate::back::io::connection::{Connection, Shared, Unfinished};
use crate::back::io::request::Limits;
use crate::back::io::write_fence::WriteFence;
use crate::back::storage::Storage;
use crate::protocol::handshake::{self, BackStep};
use crate::toolstack::Device;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use xen_abi::xenbus::State;
use xen_platform::{Platform, Time};
use xen_store::{ErrorKind, Store};

/// Interval at which a connected backend looks if the frontend's event channels are still there: a
/// domain that is destroyed closes them without a word.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Serves a disk, whose folders in xenstore exist, until one side ends it. The module's
/// documentation has the details.
pub async fn serve<P: Platform, S: Storage>(
    platform: &P,
    store: &Store,
    device: &Device,
    storage: &S,
    config: &Config,
    handle: &Handle,
) -> Result<End, Error> {
    config.check();
    let (front_path, back_path) = (device.front_path(), device.back_path());
    let watches = Watches::set(store, device).await?;
    let limits = keys::limits(store, &back_path, storage.info(), config).await?;
    let storage = &WriteFence::new(storage);
    let mut server = Server {
        shared: Shared { platform, storage, config, handle },
        store,
        device,
        front_path,
        back_path,
        watches,
        limits,
        mine: State::INITIALISING,
        connection: None,
        unfinished: Unfinished::default(),
        changed: Box::pin(storage.changed()),
        asked: handle.asked(),
        stop_by: None,
        next_look: platform.now(),
        offered: config.offer_time.is_zero(),
        connect_from: None,
    };
    if server.state_at(&server.back_path).await?.is_none() {
        return Err(Error::NoDevice { path: server.back_path.clone() });
    }
    let end = server.run().await;
    handle.set_state(State::UNKNOWN);
    end
}

struct Server<'a, P: Platform, S> {
    shared: Shared<'a, P, S>,
    store: &'a Store,
    device: &'a Device,
    front_path: String,
    back_path: String,
    watches: Watches,
    /// The limits that were offered last.
    limits: Limits,
    /// The state that this backend wrote last, whatever xenstore says.
    mine: State,
    connection: Option<Connection<'a, P, S>>,
    /// Operations of earlier connections that the storage has not ended.
    unfinished: Unfinished<'a>,
    /// Ends when the storage changes.
    changed: Pin<Box<dyn Future<Output = ()> + 'a>>,
    /// Count of the handle's requests, when they were last looked at.
    asked: u32,
    /// Time by which the frontend has to have let go.
    stop_by: Option<Time>,
    next_look: Time,
    /// The first offer was made, or need not stand for any time.
    offered: bool,
    /// Time until which the first offer stands.
    connect_from: Option<Time>,
}

impl<P: Platform, S: Storage> Server<'_, P, S> {
    async fn run(&mut self) -> Result<End, Error> {
        loop {
            if let Some(end) = self.step().await? {
                log::info!("{}: {end:?}", self.back_path);
                self.finish(end).await?;
                return Ok(end);
            }
            match poll_fn(|cx| self.poll_event(cx)).await? {
                Event::Changed => {}
                Event::Resized => self.resized().await?,
                Event::Broken(why) => self.broken(why).await?,
                Event::StopTimeout => {
                    let end = self.force().await?;
                    self.finish(end).await?;
                    return Ok(end);
                }
                Event::DomainGone => {
                    if self.is_front_gone().await? {
                        let end = self.gone().await?;
                        self.finish(end).await?;
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// Does the step that the two states ask for.
    async fn step(&mut self) -> Result<Option<End>, Error> {
        let Some(written) = self.state_at(&self.back_path).await? else {
            self.drain().await;
            return Ok(Some(End::Removed));
        };
        if self.shared.handle.wanted() == Wanted::Force {
            return self.force().await.map(Some);
        }
        // A toolstack that wants the disk to go writes that for the backend.
        let told =
            written == State::CLOSING && matches!(self.mine, State::INIT_WAIT | State::CONNECTED);
        if self.stop_by.is_none() && (told || self.shared.handle.wanted() == Wanted::Stop) {
            return self.stop().await;
        }
        // Of a backend that is closed already, libxl asks nothing else.
        if self.mine == State::CLOSED && !self.is_online().await {
            return Ok(Some(End::Closed));
        }
        let theirs = self.state_at(&self.front_path).await?.unwrap_or(State::UNKNOWN);
        match handshake::back(self.mine, theirs) {
            // It has closed and begun anew before this end saw it.
            BackStep::Wait if (self.mine, theirs) == (State::CLOSING, State::INITIALISING) => {
                self.closed().await
            }
            BackStep::Wait => Ok(None),
            // An old write could overwrite a newer one: the event at its end comes first.
            BackStep::Offer | BackStep::Connect if self.unfinished.len() > 0 => Ok(None),
            BackStep::Offer => self.offer().await.map(|()| None),
            // A frontend need not wait for an offer, but a toolstack may.
            BackStep::Connect if !self.offered => self.offer().await.map(|()| None),
            BackStep::Connect if self.connect_from.is_some() => Ok(None),
            BackStep::Connect => self.connect().await.map(|()| None),
            BackStep::Close => {
                self.drain().await;
                self.switch(State::CLOSING, &[]).await.map(|()| None)
            }
            BackStep::Closed => self.closed().await,
            BackStep::Gone => self.gone().await.map(Some),
        }
    }

    /// Tells if the toolstack wants the frontend to be able to connect again.
    async fn is_online(&self) -> bool {
        let online = self.store.read(&format!("{}/online", self.back_path)).await;
        online.is_ok_and(|value| value == b"1")
    }

    /// Asks if the frontend's domain is gone. Only dom0 is told of domains; others see that the
    /// frontend's folder went with it.
    async fn is_front_gone(&self) -> Result<bool, Error> {
        match self.store.is_domain_introduced(self.device.front).await {
            Ok(introduced) => Ok(!introduced),
            Err(error) if error.kind == ErrorKind::Access => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the state in a folder, if there is one. A value that is no number is an unknown state.
    async fn state_at(&self, folder: &str) -> Result<Option<State>, Error> {
        match self.store.read_number(&format!("{folder}/state")).await {
            Ok(state) => Ok(Some(State(state))),
            Err(error) => match error.kind {
                // A folder that is gone is hidden from domains that may not read the one above it.
                ErrorKind::NoEntry | ErrorKind::Access => Ok(None),
                ErrorKind::NotNumber(_) | ErrorKind::NotText => Ok(Some(State(u32::MAX))),
                _ => Err(error.into()),
            },
        }
    }

    /// Serves the connection, and polls for an event.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        if let Some(connection) = &mut self.connection {
            if let Poll::Ready(why) = connection.poll(cx) {
                return Poll::Ready(Ok(Event::Broken(why)));
            }
        }
        if self.unfinished.len() > 0 && self.unfinished.poll_ended(cx).is_ready() {
            log::info!("{}: the storage has ended all operations", self.back_path);
            return Poll::Ready(Ok(Event::Changed));
        }
        if let Poll::Ready(event) = self.watches.poll(cx) {
            return Poll::Ready(event);
        }
        let Shared { platform, storage, handle, .. } = self.shared;
        if handle.poll_asked(&mut self.asked, cx).is_ready() {
            return Poll::Ready(Ok(Event::Changed));
        }
        if self.changed.as_mut().poll(cx).is_ready() {
            self.changed = Box::pin(storage.changed());
            return Poll::Ready(Ok(Event::Resized));
        }
        if self.connect_from.is_some_and(|at| platform.poll_until(at, cx).is_ready()) {
            self.connect_from = None;
            return Poll::Ready(Ok(Event::Changed));
        }
        if self.stop_by.is_some_and(|at| platform.poll_until(at, cx).is_ready()) {
            return Poll::Ready(Ok(Event::StopTimeout));
        }
        self.poll_look(cx).map(Ok)
    }

    /// Looks for the frontend from time to time, while it is connected.
    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let Some(connection) = &self.connection else { return Poll::Pending };
        while self.shared.platform.poll_until(self.next_look, cx).is_ready() {
            self.next_look = self.shared.platform.now() + LOOK_EVERY;
            if !connection.is_bound() {
                return Poll::Ready(Event::DomainGone);
            }
        }
        Poll::Pending
    }
}
