//! A disk's life: the handshake with its frontend, again and again, until it is to end.

mod news;

use self::news::{News, Watches};
use super::handle::Wanted;
use super::keys::{self, Wrong};
use super::link::{Common, Link};
use super::request::Limits;
use super::storage::Storage;
use super::{Config, End, Error, Handle, PeerError};
use crate::handshake::{self, BackStep};
use crate::toolstack::{self, Device};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use xen_abi::xenbus::State;
use xen_platform::{Platform, Time, deadline};
use xen_store::{ErrorKind, Store};

/// Serves a disk, whose folders in xenstore are there, until one side ends it. See the module's text.
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
    let common = Common { platform, storage, config, handle };
    let mut server = Server {
        common,
        store,
        device,
        front_path,
        back_path,
        watches,
        limits,
        mine: State::INITIALISING,
        link: None,
        changed: Box::pin(storage.changed()),
        asked: handle.asked(),
        stop_by: None,
        next_look: platform.now(),
    };
    if server.state_at(&server.back_path).await?.is_none() {
        return Err(Error::NoDevice { path: server.back_path.clone() });
    }
    let end = server.run().await;
    handle.set_state(State::UNKNOWN);
    end
}

struct Server<'a, P: Platform, S> {
    common: Common<'a, P, S>,
    store: &'a Store,
    device: &'a Device,
    front_path: String,
    back_path: String,
    watches: Watches,
    /// What was offered last.
    limits: Limits,
    /// The state that this backend wrote last, whatever stands in xenstore.
    mine: State,
    link: Option<Link<'a, P, S>>,
    /// Ends when the storage changes.
    changed: Pin<Box<dyn Future<Output = ()> + 'a>>,
    /// How often something had been asked of the handle, when that was last looked at.
    asked: u32,
    /// When the frontend has to have let go.
    stop_by: Option<Time>,
    next_look: Time,
}

impl<P: Platform, S: Storage> Server<'_, P, S> {
    async fn run(&mut self) -> Result<End, Error> {
        loop {
            if let Some(end) = self.step().await? {
                log::info!("{}: {end:?}", self.back_path);
                return Ok(end);
            }
            match self.news().await? {
                News::Look => {}
                News::Resized => self.resized().await?,
                News::Broken(why) => self.broken(why).await?,
                News::Late => return self.force().await,
                News::Death => {
                    if !self.store.is_domain_introduced(self.device.front).await? {
                        return self.gone().await;
                    }
                }
            }
        }
    }

    /// Does what the two states ask for.
    async fn step(&mut self) -> Result<Option<End>, Error> {
        let Some(written) = self.state_at(&self.back_path).await? else {
            self.drain().await;
            return Ok(Some(End::Removed));
        };
        if self.common.handle.wanted() == Wanted::Force {
            return self.force().await.map(Some);
        }
        // A toolstack that wants the disk to go writes that for us.
        let told = written == State::CLOSING && matches!(self.mine, State::INIT_WAIT | State::CONNECTED);
        if self.stop_by.is_none() && (told || self.common.handle.wanted() == Wanted::Stop) {
            return self.stop().await;
        }
        let theirs = self.state_at(&self.front_path).await?.unwrap_or(State::UNKNOWN);
        match handshake::back(self.mine, theirs) {
            // It has closed and begun anew before we saw it.
            BackStep::Wait if (self.mine, theirs) == (State::CLOSING, State::INITIALISING) => self.closed().await,
            BackStep::Wait => Ok(None),
            BackStep::Offer => self.offer().await.map(|()| None),
            BackStep::Connect => self.connect().await.map(|()| None),
            BackStep::Close => {
                self.drain().await;
                self.switch(State::CLOSING, &[]).await.map(|()| None)
            }
            BackStep::Closed => self.closed().await,
            BackStep::Gone => self.gone().await.map(Some),
        }
    }

    /// The state in a folder, if there is one; what is no number is no state that anything is done for.
    async fn state_at(&self, folder: &str) -> Result<Option<State>, Error> {
        match self.store.read_number(&format!("{folder}/state")).await {
            Ok(state) => Ok(Some(State(state))),
            Err(error) => match error.kind {
                ErrorKind::NoEntry => Ok(None),
                ErrorKind::NotNumber(_) | ErrorKind::NotText => Ok(Some(State(u32::MAX))),
                _ => Err(error.into()),
            },
        }
    }

    /// Writes keys and then the state, all or nothing, and nothing if the folder is not there any more.
    async fn switch(&mut self, state: State, keys: &[(&str, String)]) -> Result<(), Error> {
        let path = &self.back_path;
        let written = self.store.transaction(async |tx| {
            tx.read(&format!("{path}/state")).await?;
            for (key, value) in keys {
                tx.write(&format!("{path}/{key}"), value.as_bytes()).await?;
            }
            tx.write(&format!("{path}/state"), state.0.to_string().as_bytes()).await
        });
        match written.await {
            // Its absence is found by the next step.
            Err(error) if error.is_not_found() => Ok(()),
            other => {
                other?;
                log::debug!("{path}: {state}");
                self.mine = state;
                self.common.handle.set_state(state);
                Ok(())
            }
        }
    }

    async fn look_at_storage(&mut self) -> Result<Vec<(&'static str, String)>, Error> {
        let Common { storage, config, .. } = self.common;
        self.limits = keys::limits(self.store, &self.back_path, storage.info(), config).await?;
        Ok(keys::offer(&self.limits, config))
    }

    async fn offer(&mut self) -> Result<(), Error> {
        let keys = self.look_at_storage().await?;
        self.switch(State::INIT_WAIT, &keys).await
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let wish = match keys::wish(self.store, &self.front_path, self.common.config).await {
            Ok(wish) => wish,
            Err(Wrong::Peer(why)) => return self.broken(why).await,
            Err(Wrong::Store(error)) => return Err(error.into()),
        };
        let keys = self.look_at_storage().await?;
        match Link::new(&self.common, self.device.front, &wish, self.limits) {
            Ok(link) => self.link = Some(link),
            Err(why) => return self.broken(why).await,
        }
        self.common.handle.count().connections += 1;
        self.switch(State::CONNECTED, &keys).await
    }

    /// The frontend gets nothing more, and has to close before it can connect again.
    async fn broken(&mut self, why: PeerError) -> Result<(), Error> {
        log::error!("{}: the frontend broke the protocol: {why}", self.back_path);
        self.drain().await;
        let text = why.to_string();
        self.common.handle.count().broken += 1;
        self.common.handle.set_broken(why);
        self.switch(State::CLOSING, &[("error", text)]).await
    }

    async fn resized(&mut self) -> Result<(), Error> {
        let before = self.limits;
        let keys = self.look_at_storage().await?;
        if self.limits == before {
            return Ok(());
        }
        let limits = self.limits;
        if let Some(link) = &mut self.link {
            link.set_limits(limits);
        }
        // The state is written again although it is the same: that is what a frontend watches.
        match self.mine {
            State::INIT_WAIT | State::CONNECTED => self.switch(self.mine, &keys).await,
            _ => Ok(()),
        }
    }

    /// Asks the frontend to let go, if there is one that holds on.
    async fn stop(&mut self) -> Result<Option<End>, Error> {
        let Common { platform, config, .. } = self.common;
        self.stop_by = Some(platform.now() + config.stop_timeout);
        self.switch(State::CLOSING, &[]).await?;
        if self.link.is_some() {
            return Ok(None);
        }
        self.switch(State::CLOSED, &[]).await?;
        Ok(Some(End::Stopped))
    }

    /// Ends without the frontend's consent.
    async fn force(&mut self) -> Result<End, Error> {
        self.drain().await;
        self.switch(State::CLOSING, &[]).await?;
        self.switch(State::CLOSED, &[]).await?;
        Ok(End::Forced)
    }

    /// The frontend has closed: that is the end, unless it may come again.
    async fn closed(&mut self) -> Result<Option<End>, Error> {
        self.drain().await;
        self.switch(State::CLOSED, &[]).await?;
        if self.stop_by.is_some() {
            return Ok(Some(End::Stopped));
        }
        let online = self.store.read(&format!("{}/online", self.back_path)).await;
        let online = online.is_ok_and(|value| value == b"1");
        Ok(if online { None } else { Some(End::Closed) })
    }

    async fn gone(&mut self) -> Result<End, Error> {
        self.drain().await;
        toolstack::remove(self.store, self.device).await?;
        Ok(End::Gone)
    }

    /// Finishes what the storage has been asked, lets go of all that is the frontend's, and flushes.
    async fn drain(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        let Common { platform, storage, config, .. } = self.common;
        link.close();
        let until = Some(platform.now() + config.drain_timeout);
        let drained = deadline(platform, until, poll_fn(|cx| link.poll_idle(cx))).await;
        drop(link);
        let wants_flush = self.limits.info.flush && !self.limits.info.read_only;
        let flushed = match wants_flush && drained.is_ok() {
            true => deadline(platform, until, storage.flush()).await,
            false => Ok(Ok(())),
        };
        if drained.is_err() || flushed.is_err() {
            log::error!("{}: the storage did not finish within {:?}", self.back_path, config.drain_timeout);
        } else if let Ok(Err(why)) = flushed {
            log::error!("{}: the storage could not be flushed: {why}", self.back_path);
        }
    }
}
