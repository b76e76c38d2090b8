//! Where a server's clients come in.

use crate::Failure;
use xen_platform::Platform;
use xen_store::Store;
use xen_vchan::{Connection, Error, Info, Listener, Offer, ServerConfig};

/// Where clients come in.
pub(super) enum Door<P: Platform> {
    /// For one client; empty once it has come.
    Once(Option<Offer<P>>),
    /// For any number at a time.
    Keep(Listener<P>),
}

impl<P: Platform> Door<P> {
    pub async fn open(platform: &P, store: &Store, config: &ServerConfig, once: bool) -> Result<Self, Error<P::Error>> {
        Ok(match once {
            true => Door::Once(Some(Offer::publish(platform, store, config).await?)),
            false => Door::Keep(Listener::open(platform, store, config).await?),
        })
    }

    /// Waits for the next client. Dropping the future loses none.
    pub async fn accept(&mut self) -> Result<Connection<P>, Error<P::Error>> {
        match self {
            Door::Once(offer) => {
                offer.as_mut().expect("one client is let in, once").arrival().await?;
                offer.take().expect("it was there").accept().await
            }
            Door::Keep(listener) => listener.accept().await,
        }
    }

    /// What the next client finds; `None` if there is to be none, or no channel could be published for it.
    pub fn describe(&self) -> Option<String> {
        let info = match self {
            Door::Once(offer) => offer.as_ref().map(Offer::info),
            Door::Keep(listener) => listener.info(),
        };
        info.map(|Info { control_ref, port, peer, .. }| {
            format!(
                "Server initializing: gntref = {control_ref}, evtchn = {port}\nWaiting for a client of domain {peer}"
            )
        })
    }

    /// Removes the keys. Who was let in stays.
    pub async fn close(self) -> Result<(), Failure> {
        match self {
            Door::Once(Some(offer)) => offer.withdraw().await?,
            Door::Once(None) => {}
            Door::Keep(listener) => listener.close().await?,
        }
        Ok(())
    }
}
