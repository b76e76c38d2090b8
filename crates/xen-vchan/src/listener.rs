//! A server for many clients at a time.

use crate::{Connection, Error, Info, Offer, ServerConfig};
use core::mem;
use xen_platform::Platform;
use xen_store::Store;

/// Accepts the clients of one domain, any number at a time: whenever a channel is taken, a fresh
/// one is published under the same path before the client is handed out. Each connection has pages
/// and a port of its own, so that what one client does to its own reaches no other.
///
/// Close it with [`Listener::close`]: dropping it takes the channel back, but cannot wait for
/// xenstore, so the keys stay. They lead nowhere then, as after a crash; clients wait them out, and
/// the next server sweeps them.
///
/// A channel belongs to the domain that may bind its port, and domains are what is kept apart here:
/// a program of the *client's* domain that binds the port and never says that it is there keeps
/// that domain's other programs waiting. A server of several domains has a listener for each.
pub struct Listener<P: Platform> {
    platform: P,
    store: Store,
    config: ServerConfig,
    /// `None` once a fresh channel could not be published: to be tried again.
    offer: Option<Offer<P>>,
}

impl<P: Platform> Listener<P> {
    /// Publishes the first channel; what an earlier server left under the path is removed before.
    pub async fn open(
        platform: &P,
        store: &Store,
        config: &ServerConfig,
    ) -> Result<Self, Error<P::Error>> {
        let offer = Offer::publish(platform, store, config).await?;
        let (platform, store, config) = (platform.clone(), store.clone(), config.clone());
        Ok(Listener { platform, store, config, offer: Some(offer) })
    }

    /// The channel for the next client; `None` if the last attempt to publish one failed.
    pub fn info(&self) -> Option<&Info> {
        self.offer.as_ref().map(Offer::info)
    }

    /// Waits for the next client, idle. Dropping the future loses no client.
    ///
    /// [`Error::Peer`] is about one client, which broke the protocol before it was there: go on
    /// with the next call. [`Error::Died`] says that the client's domain is gone, and that no more
    /// will come. Other errors are of the attempt to publish a channel, which the next call
    /// repeats; if publishing fails just as a client came, that client is given first.
    pub async fn accept(&mut self) -> Result<Connection<P>, Error<P::Error>> {
        let offer = match &mut self.offer {
            Some(offer) => offer,
            none => none.insert(Offer::publish(&self.platform, &self.store, &self.config).await?),
        };
        let arrived = offer.arrival().await;
        if let Err(Error::Died(peer)) = arrived {
            return Err(Error::Died(peer));
        }
        // The taken offer stays in its place until the next one is there: if this future is dropped
        // meanwhile, the next call finds it again.
        let next = Offer::publish(&self.platform, &self.store, &self.config).await.ok();
        let taken = mem::replace(&mut self.offer, next).expect("it was there above");
        arrived.map(|()| taken.into_connection())
    }

    /// Ends the offer to further clients and removes the keys. Connections that were accepted go
    /// on.
    pub async fn close(self) -> Result<(), Error<P::Error>> {
        match self.offer {
            Some(offer) => offer.withdraw().await,
            None => Ok(()),
        }
    }
}
