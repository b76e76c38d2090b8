//! Steps of a served disk.

use super::Server;
use crate::back::error::{End, Error, PeerError};
use crate::back::io::connection::{ConnectError, Connection, Shared};
use crate::back::storage::Storage;
use crate::back::xenbus::keys::{self, Wrong};
use crate::toolstack;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::future::poll_fn;
use xen_abi::xenbus::State;
use xen_platform::{Platform, deadline};

impl<P: Platform, S: Storage> Server<'_, P, S> {
    /// Writes keys and then the state, all or nothing, and nothing if the folder is gone.
    pub(super) async fn switch(
        &mut self,
        state: State,
        keys: &[(&str, String)],
    ) -> Result<(), Error> {
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
                self.shared.handle.set_state(state);
                Ok(())
            }
        }
    }

    /// Looks at the storage anew, and returns the keys to offer.
    async fn read_storage(&mut self) -> Result<Vec<(&'static str, String)>, Error> {
        let Shared { storage, config, .. } = self.shared;
        self.limits = keys::limits(self.store, &self.back_path, storage.info(), config).await?;
        Ok(keys::offer(&self.limits, config))
    }

    pub(super) async fn offer(&mut self) -> Result<(), Error> {
        let keys = self.read_storage().await?;
        self.switch(State::INIT_WAIT, &keys).await?;
        if !self.offered {
            self.offered = true;
            let Shared { platform, config, .. } = self.shared;
            self.connect_from = Some(platform.now() + config.offer_time);
        }
        Ok(())
    }

    pub(super) async fn connect(&mut self) -> Result<(), Error> {
        let requested =
            match keys::requested(self.store, &self.front_path, self.shared.config).await {
                Ok(requested) => requested,
                Err(Wrong::Peer(why)) => return self.broken(why).await,
                Err(Wrong::Store(error)) => return Err(error.into()),
            };
        let keys = self.read_storage().await?;
        match Connection::new(&self.shared, self.device.front, &requested, self.limits) {
            Ok(connection) => self.connection = Some(connection),
            Err(ConnectError::Peer(why)) => return self.broken(why).await,
            Err(ConnectError::Local(why)) => return self.failed(why).await,
        }
        self.shared.handle.count().connections += 1;
        self.switch(State::CONNECTED, &keys).await
    }

    /// Ends the connection: the frontend gets nothing more, and has to close before it can connect
    /// again.
    pub(super) async fn broken(&mut self, why: PeerError) -> Result<(), Error> {
        log::error!("{}: the frontend broke the protocol: {why}", self.back_path);
        self.drain().await;
        let text = why.to_string();
        self.shared.handle.count().broken += 1;
        self.shared.handle.set_broken(why);
        self.switch(State::CLOSING, &[("error", text)]).await
    }

    /// Gives the disk up for a cause in this domain, which is no fault of the frontend.
    async fn failed(&mut self, why: String) -> Result<(), Error> {
        let text = format!("the backend cannot connect: {why}");
        self.switch(State::CLOSING, &[("error", text)]).await?;
        self.switch(State::CLOSED, &[]).await?;
        Err(Error::Platform { path: self.back_path.clone(), why })
    }

    /// Announces new properties of the storage.
    pub(super) async fn resized(&mut self) -> Result<(), Error> {
        let before = self.limits;
        let keys = self.read_storage().await?;
        if self.limits == before {
            return Ok(());
        }
        let limits = self.limits;
        if let Some(connection) = &mut self.connection {
            connection.set_limits(limits);
        }
        // The state is written again although it is the same: that is what a frontend watches.
        match self.mine {
            State::INIT_WAIT | State::CONNECTED => self.switch(self.mine, &keys).await,
            _ => Ok(()),
        }
    }

    /// Asks the frontend to let go, if one holds on.
    pub(super) async fn stop(&mut self) -> Result<Option<End>, Error> {
        let Shared { platform, config, .. } = self.shared;
        self.stop_by = Some(platform.now() + config.stop_timeout);
        self.switch(State::CLOSING, &[]).await?;
        if self.connection.is_some() {
            return Ok(None);
        }
        self.switch(State::CLOSED, &[]).await?;
        Ok(Some(End::Stopped))
    }

    /// Ends without the frontend's consent.
    pub(super) async fn force(&mut self) -> Result<End, Error> {
        self.drain().await;
        self.switch(State::CLOSING, &[]).await?;
        self.switch(State::CLOSED, &[]).await?;
        Ok(End::Forced)
    }

    /// Follows a frontend that has closed: that is the end, unless it may come again.
    pub(super) async fn closed(&mut self) -> Result<Option<End>, Error> {
        self.drain().await;
        self.switch(State::CLOSED, &[]).await?;
        if self.stop_by.is_some() {
            return Ok(Some(End::Stopped));
        }
        Ok(if self.is_online().await { None } else { Some(End::Closed) })
    }

    /// Removes the folders of a disk whose frontend is gone, or tells the toolstack that it can.
    pub(super) async fn gone(&mut self) -> Result<End, Error> {
        self.drain().await;
        if self.shared.config.leave_folders {
            self.switch(State::CLOSED, &[]).await?;
        } else {
            toolstack::remove(self.store, self.device).await?;
        }
        Ok(End::Gone)
    }

    /// Finishes the operations of the connection, lets go of everything that is the frontend's, and
    /// flushes. Operations that take longer than the timeout stay behind as unfinished.
    pub(super) async fn drain(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let Shared { platform, storage, config, .. } = self.shared;
        connection.close();
        let until = Some(platform.now() + config.drain_timeout);
        let drained = deadline(platform, until, poll_fn(|cx| connection.poll_idle(cx))).await;
        if drained.is_err() {
            self.unfinished = connection.into_unfinished();
            log::error!(
                "{}: the storage did not end {} operations within {:?}: no other connection is \
                 served before; check the storage",
                self.back_path,
                self.unfinished.len(),
                config.drain_timeout
            );
            return;
        }
        drop(connection);
        if !self.limits.info.flush || self.limits.info.read_only {
            return;
        }
        match deadline(platform, until, storage.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => {
                log::error!("{}: the storage could not be flushed: {why}", self.back_path)
            }
            Err(_) => log::error!(
                "{}: the storage did not end a flush within {:?}",
                self.back_path,
                config.drain_timeout
            ),
        }
    }

    /// Waits at the end for operations that are not finished, for as long as a drain may take.
    pub(super) async fn finish(&mut self, end: End) -> Result<(), Error> {
        let Shared { platform, config, .. } = self.shared;
        if self.unfinished.len() == 0 {
            return Ok(());
        }
        let until = Some(platform.now() + config.drain_timeout);
        match deadline(platform, until, poll_fn(|cx| self.unfinished.poll_ended(cx))).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::Unfinished {
                path: self.back_path.clone(),
                operations: self.unfinished.len(),
                end,
            }),
        }
    }
}
