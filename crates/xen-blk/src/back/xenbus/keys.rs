//! Keys in xenstore: the backend's offer, and the frontend's choice.

use crate::back::config::Config;
use crate::back::error::PeerError;
use crate::back::io::request::Limits;
use crate::back::storage::Info;
use crate::protocol::wire::Abi;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use xen_abi::blkif::{SECTOR, VDISK_CDROM, VDISK_READONLY, VDISK_REMOVABLE};
use xen_platform::{GrantRef, Port};
use xen_store::{Error, ErrorKind, Store};

/// Returns the limits to offer: those of the storage, without features that the toolstack or the
/// configuration does not permit.
pub(in crate::back) async fn limits(
    store: &Store,
    back_path: &str,
    info: Info,
    config: &Config,
) -> Result<Limits, Error> {
    let is = async |key: &str, value: &str| match store.read(&format!("{back_path}/{key}")).await {
        Ok(found) => Ok(found == value.as_bytes()),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    };
    let read_only = info.read_only || is("mode", "r").await?;
    let discard = info.discard.filter(|_| config.discard && !read_only);
    let discard = if is("discard-enable", "0").await? { None } else { discard };
    let info = Info { read_only, discard, ..info };
    Ok(Limits { info, indirect_segments: config.indirect_segments as usize, units: config.units })
}

/// Returns the keys of the offer (io/blkif.h, "Backend XenBus Nodes").
pub(in crate::back) fn offer(limits: &Limits, config: &Config) -> Vec<(&'static str, String)> {
    let Info {
        sectors,
        sector_size,
        physical_sector_size,
        read_only,
        removable,
        cdrom,
        flush,
        barrier,
        discard,
    } = limits.info;
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    let info = flag(cdrom, VDISK_CDROM)
        | flag(removable, VDISK_REMOVABLE)
        | flag(read_only, VDISK_READONLY);
    let mut keys: Vec<(&'static str, u64)> = Vec::from([
        ("sectors", sectors * SECTOR as u64 / u64::from(config.units.sectors.bytes(sector_size))),
        ("sector-size", sector_size.into()),
        ("physical-sector-size", physical_sector_size.into()),
        ("info", info.into()),
        ("feature-flush-cache", flush.into()),
        ("feature-barrier", barrier.into()),
        ("feature-discard", discard.is_some().into()),
        ("feature-persistent", (config.persistent > 0).into()),
        ("feature-max-indirect-segments", config.indirect_segments.into()),
        ("max-ring-page-order", config.ring_order_max.into()),
        ("max-ring-pages", 1 << config.ring_order_max),
        ("multi-queue-max-queues", config.queues_max.into()),
    ]);
    if let Some(discard) = discard {
        keys.push(("discard-granularity", discard.granularity.into()));
        keys.push(("discard-alignment", discard.alignment.into()));
        keys.push(("discard-secure", discard.secure.into()));
    }
    keys.into_iter().map(|(key, value)| (key, value.to_string())).collect()
}

/// Features and rings that a frontend has chosen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::back) struct Requested {
    pub abi: Abi,
    pub persistent: bool,
    pub rings: Vec<RingKeys>,
}

/// Pages and event channel of a ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::back) struct RingKeys {
    pub refs: Vec<GrantRef>,
    pub port: Port,
}

/// Reason why the frontend's keys cannot be used.
pub(in crate::back) enum Wrong {
    Peer(PeerError),
    Store(Error),
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Wrong {
        let path = error.path.clone();
        Wrong::Peer(match &error.kind {
            ErrorKind::NoEntry => PeerError::NoKey { path },
            ErrorKind::NotNumber(value) => key(path, value.clone(), "a decimal number in range"),
            ErrorKind::NotText => key(path, "(bytes)".into(), "text"),
            ErrorKind::Access => key(path, "(hidden)".into(), "a key that the backend may read"),
            _ => return Wrong::Store(error),
        })
    }
}

fn key(path: String, value: String, expected: impl Into<String>) -> PeerError {
    PeerError::Key { path, value, expected: expected.into() }
}

/// The frontend's folder, in which the frontend may write anything.
struct Folder<'a> {
    store: &'a Store,
    path: &'a str,
}

impl Folder<'_> {
    /// Reads a number in `range`, or returns `missing` if there is none.
    async fn number(
        &self,
        name: &str,
        missing: u32,
        range: core::ops::RangeInclusive<u32>,
    ) -> Result<u32, Wrong> {
        let path = format!("{}/{name}", self.path);
        let number = match self.store.read_number(&path).await {
            Err(error) if error.is_not_found() => return Ok(missing),
            other => other?,
        };
        if !range.contains(&number) {
            let expected = format!("{} to {}", range.start(), range.end());
            return Err(Wrong::Peer(key(path, number.to_string(), expected)));
        }
        Ok(number)
    }

    /// Reads a number that must be there.
    async fn given(&self, name: &str) -> Result<u32, Wrong> {
        Ok(self.store.read_number(&format!("{}/{name}", self.path)).await?)
    }

    async fn abi(&self, assumed: Abi) -> Result<Abi, Wrong> {
        let path = format!("{}/protocol", self.path);
        match self.store.read_string(&path).await {
            Err(error) if error.is_not_found() => Ok(assumed),
            other => {
                let name = other?;
                let expected = format!("{} or {}", Abi::X86_64.name(), Abi::X86_32.name());
                Abi::from_name(&name).ok_or_else(|| Wrong::Peer(key(path, name, expected)))
            }
        }
    }

    /// Reads the keys of a ring, in the folder itself or in one for the ring.
    async fn ring(&self, prefix: &str, order: Option<u32>) -> Result<RingKeys, Wrong> {
        let port = Port(self.given(&format!("{prefix}event-channel")).await?);
        let mut refs = Vec::new();
        match order {
            // The reference of a single page can have either name.
            Some(0) => match self.given(&format!("{prefix}ring-ref0")).await {
                Err(Wrong::Peer(PeerError::NoKey { .. })) => {
                    refs.push(self.given(&format!("{prefix}ring-ref")).await?)
                }
                other => refs.push(other?),
            },
            Some(order) => {
                for page in 0..1 << order {
                    refs.push(self.given(&format!("{prefix}ring-ref{page}")).await?);
                }
            }
            None => refs.push(self.given(&format!("{prefix}ring-ref")).await?),
        }
        Ok(RingKeys { refs: refs.into_iter().map(GrantRef).collect(), port })
    }
}

/// Reads the keys that the frontend has published.
pub(in crate::back) async fn requested(
    store: &Store,
    front_path: &str,
    config: &Config,
) -> Result<Requested, Wrong> {
    let folder = Folder { store, path: front_path };
    let queues = folder.number("multi-queue-num-queues", 1, 1..=config.queues_max).await?;
    const NONE: u32 = u32::MAX;
    let order = folder.number("ring-page-order", NONE, 0..=config.ring_order_max).await?;
    let order = Some(order).filter(|order| *order != NONE);
    let abi = folder.abi(config.assumed_abi).await?;
    let persistent =
        folder.number("feature-persistent", 0, 0..=1).await? == 1 && config.persistent > 0;
    let mut rings = Vec::new();
    for queue in 0..queues {
        let prefix = if queues > 1 { format!("queue-{queue}/") } else { String::new() };
        rings.push(folder.ring(&prefix, order).await?);
    }
    Ok(Requested { abi, persistent, rings })
}
