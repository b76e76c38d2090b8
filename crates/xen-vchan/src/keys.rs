//! The two keys in xenstore by which a client finds a server's page and event channel.

use crate::PeerError;
use alloc::format;
use alloc::string::{String, ToString};
use core::iter::successors;
use xen_platform::{DomId, GrantRef, Port};
use xen_store::{Access, Error, ErrorKind, Permissions, Store, path};

/// The folder with the keys, and their paths.
pub(crate) struct Keys {
    pub dir: String,
    /// The folder in which the toolstack lets the server's domain write.
    data: String,
    ring_ref: String,
    event_channel: String,
}

/// Contents of the keys: the shared page's grant reference and the server's port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Values {
    pub control_ref: GrantRef,
    pub port: Port,
}

/// Why the keys cannot be used.
pub(crate) enum Fault {
    /// xenstore refused.
    Store(Error),
    /// They are not what a server writes.
    Peer(PeerError),
}

impl Keys {
    /// The keys in `dir`, which is absolute or relative to the server's own folder.
    pub fn new(server: DomId, dir: &str) -> Self {
        let dir = if dir.starts_with('/') {
            dir.into()
        } else {
            format!("{}/{dir}", path::of_domain(server))
        };
        let data = format!("{}/data", path::of_domain(server));
        Keys {
            data,
            ring_ref: format!("{dir}/ring-ref"),
            event_channel: format!("{dir}/event-channel"),
            dir,
        }
    }

    /// Removes what an earlier server may have left, so that no client takes it for an offer.
    pub async fn sweep(&self, store: &Store) -> Result<(), Error> {
        for key in [&self.ring_ref, &self.event_channel] {
            unless_missing(store.rm(key).await)?;
        }
        Ok(())
    }

    /// Writes both keys at once, to be read by `client` and nobody else. Those of an earlier server
    /// are replaced, so that the clients that wait hear of one change only.
    pub async fn publish(
        &self,
        store: &Store,
        server: DomId,
        client: DomId,
        values: Values,
    ) -> Result<(), Error> {
        match self.write(store, server, client, values).await {
            // Keys that are another domain's are made anew.
            Err(error) if matches!(error.kind, ErrorKind::Access | ErrorKind::NotPermitted) => {
                self.sweep(store).await?;
                self.write(store, server, client, values).await
            }
            written => written,
        }
    }

    async fn write(
        &self,
        store: &Store,
        server: DomId,
        client: DomId,
        values: Values,
    ) -> Result<(), Error> {
        let permissions = Permissions::shared_with(server, client, Access::Read);
        store
            .transaction(async |tx: &Store| {
                for (key, value) in
                    [(&self.ring_ref, values.control_ref.0), (&self.event_channel, values.port.0)]
                {
                    tx.write(key, value.to_string().as_bytes()).await?;
                    // A key that was replaced has them already, and each change is an event.
                    if tx.permissions(key).await? != permissions {
                        tx.set_permissions(key, &permissions).await?;
                    }
                }
                Ok(())
            })
            .await
    }

    /// Gives `client` the right to read both keys once more. Keys that another server has replaced
    /// or removed meanwhile are its affair.
    pub async fn permit(&self, store: &Store, client: DomId) -> Result<(), Error> {
        for key in [&self.ring_ref, &self.event_channel] {
            let permit = async {
                let owner = store.permissions(key).await?.owner;
                let permissions = Permissions::shared_with(owner, client, Access::Read);
                store.set_permissions(key, &permissions).await
            };
            match permit.await {
                Err(error) if error.is_closed() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the keys and the folders that are empty then; but not the keys of a later offer.
    pub async fn remove(&self, store: &Store, values: Values) -> Result<(), Error> {
        store
            .transaction(async |tx: &Store| {
                match self.read_both(tx).await {
                    Ok(found) if found == values => {}
                    Err(error) if error.is_closed() => return Err(error),
                    _ => return Ok(()),
                }
                tx.rm(&self.ring_ref).await?;
                tx.rm(&self.event_channel).await?;
                for dir in self.own_dirs() {
                    if !tx.directory(dir).await?.is_empty() {
                        break;
                    }
                    tx.rm(dir).await?;
                }
                Ok(())
            })
            .await
    }

    /// The key that servers write last, by which the change of both is known.
    pub fn last_written(&self) -> &str {
        &self.event_channel
    }

    /// Reads the server's port, by one request and without a check of anything else; `None` if that
    /// cannot be read, for whatever reason.
    pub async fn peek(&self, store: &Store) -> Result<Option<Port>, Error> {
        match store.read_number(&self.event_channel).await {
            Ok(port) => Ok(Some(Port(port))),
            Err(error) if error.is_closed() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Reads the keys that `server` has published; `None` if there are none.
    pub async fn find(&self, store: &Store, server: DomId) -> Result<Option<Values>, Fault> {
        // In a transaction, so that both are of the same offer and of the owner that is looked at.
        let found = store
            .transaction(async |tx: &Store| {
                let values = self.read_both(tx).await?;
                let owners = [
                    (&self.ring_ref, tx.permissions(&self.ring_ref).await?.owner),
                    (&self.event_channel, tx.permissions(&self.event_channel).await?.owner),
                ];
                Ok((values, owners))
            })
            .await;
        let (values, owners) = match found {
            Ok(found) => found,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => {
                let value = match &error.kind {
                    ErrorKind::NotNumber(value) => value.clone(),
                    ErrorKind::NotText => "(not even text)".into(),
                    _ => return Err(Fault::Store(error)),
                };
                return Err(Fault::Peer(PeerError::Key { path: error.path.clone(), value }));
            }
        };
        match owners.into_iter().find(|(_, owner)| *owner != server) {
            Some((path, owner)) => {
                Err(Fault::Peer(PeerError::Owner { path: path.clone(), owner, server }))
            }
            None => Ok(Some(values)),
        }
    }

    /// The folder with the keys and those around it, up to the server's `data`: the toolstack made
    /// that one, and a guest could not make it again.
    fn own_dirs(&self) -> impl Iterator<Item = &str> {
        let around = successors(Some(self.dir.as_str()), |dir| {
            let (parent, _) = dir.rsplit_once('/')?;
            path::is_within(parent, &self.data).then_some(parent)
        });
        around.take_while(|dir| *dir != self.data)
    }

    async fn read_both(&self, store: &Store) -> Result<Values, Error> {
        let control_ref = GrantRef(store.read_number(&self.ring_ref).await?);
        let port = Port(store.read_number(&self.event_channel).await?);
        Ok(Values { control_ref, port })
    }
}

fn unless_missing(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}
