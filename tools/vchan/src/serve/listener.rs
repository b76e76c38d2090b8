//! The listening side of a server: for one client, or for any number.

use crate::Failure;
use xen_platform::Platform;
use xen_store::Store;
use xen_vchan::{Connection, Error, Info, Offer, ServerConfig};

/// The offer to clients.
pub(super) enum Listener<P: Platform> {
    /// For one client; empty once it has come.
    Once(Option<Offer<P>>),
    /// For any number at a time.
    Keep(xen_vchan::Listener<P>),
}

impl<P: Platform> Listener<P> {
    pub async fn open(
        platform: &P,
        store: &Store,
        config: &ServerConfig,
        once: bool,
    ) -> Result<Self, Error<P::Error>> {
        Ok(match once {
            true => Listener::Once(Some(Offer::publish(platform, store, config).await?)),
            false => Listener::Keep(xen_vchan::Listener::open(platform, store, config).await?),
        })
    }

    /// Waits for the next client. Dropping the future loses none.
    pub async fn accept(&mut self) -> Result<Connection<P>, Error<P::Error>> {
        match self {
            Listener::Once(offer) => {
                offer.as_mut().expect("one client is accepted, once").arrival().await?;
                offer.take().expect("it was there").accept().await
            }
            Listener::Keep(listener) => listener.accept().await,
        }
    }

    /// Describes what the next client finds; `None` if there is to be none, or no channel could be
    /// published for it.
    pub fn describe(&self) -> Option<String> {
        let info = match self {
            Listener::Once(offer) => offer.as_ref().map(Offer::info),
            Listener::Keep(listener) => listener.info(),
        };
        info.map(|Info { control_ref, port, peer, .. }| {
            format!(
                "Server initializing: gntref = {control_ref}, evtchn = {port}\nWaiting for a client of domain {peer}"
            )
        })
    }

    /// Removes the keys. Accepted clients stay.
    pub async fn close(self) -> Result<(), Failure> {
        match self {
            Listener::Once(Some(offer)) => offer.withdraw().await?,
            Listener::Once(None) => {}
            Listener::Keep(listener) => listener.close().await?,
        }
        Ok(())
    }
}
