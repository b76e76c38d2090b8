//! Playing an act.

use crate::acts::{Act, HONEST};
use crate::error::Error;
use crate::played::{Played, Reaction};
use crate::rogue::Rogue;
use alloc::vec::Vec;
use core::time::Duration;
use xen_blk::toolstack::{self, Attributes, Device};
use xen_platform::Platform;
use xen_store::Store;

/// Time limits of an act.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// Time that a frontend has to publish a ring, and to connect.
    pub connect: Duration,
    /// Time in which its guest has to use the disk, and again after the deed.
    pub watch: Duration,
    /// Time that a frontend has to let go of the disk.
    pub close: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Patience { connect: secs(15), watch: secs(4), close: secs(10) }
    }
}

impl Patience {
    /// Returns the limits for a host on which everything takes `factor` times as long.
    pub fn times(self, factor: u32) -> Patience {
        let Patience { connect, watch, close } = self;
        Patience { connect: connect * factor, watch: watch * factor, close: close * factor }
    }
}

/// Plays `act` as the backend of `device`, which must not exist yet, then an honest backend, and
/// takes the device away. Fails if the cause of a failure is not the frontend.
pub async fn play<P: Platform>(
    platform: &P,
    store: &Store,
    device: &Device,
    act: &Act,
    patience: &Patience,
) -> Result<Played, Error<P::Error>> {
    let (reaction, _kept) = attend(platform, store, device, act, patience).await?;
    let mut played = Played { reaction, recovered: false, demand: act.demand };
    if reaction != Reaction::Gone {
        let (honest, _) = attend(platform, store, device, &HONEST, patience).await?;
        played.recovered = matches!(honest, Reaction::WentOn(_));
    }
    Ok(played)
}

/// Serves an honest disk, to see that the guest has a frontend; fails if none connects.
pub async fn check<P: Platform>(
    platform: &P,
    store: &Store,
    device: &Device,
    patience: &Patience,
) -> Result<(), Error<P::Error>> {
    match attend(platform, store, device, &HONEST, patience).await?.0 {
        Reaction::WentOn(_) => Ok(()),
        _ => Err(Error::NoFrontend(device.front)),
    }
}

/// One life of the device. The pages that the act keeps mapped come back.
async fn attend<P: Platform>(
    platform: &P,
    store: &Store,
    device: &Device,
    act: &Act,
    patience: &Patience,
) -> Result<(Reaction, Vec<P::Map>), Error<P::Error>> {
    toolstack::create(store, device, &Attributes::default()).await?;
    let mut rogue = Rogue::new(platform, store, device, act, patience);
    let reaction = rogue.act_out().await;
    let closed = rogue.close().await;
    toolstack::remove(store, device).await?;
    let reaction = reaction?;
    closed?;
    let is_there = store.is_domain_introduced(device.front).await?;
    Ok((if is_there { reaction } else { Reaction::Gone }, rogue.into_kept()))
}
