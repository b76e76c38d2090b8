//! Reading and writing keys, and the keys that lead to the rings.

use crate::front::config::Config;
use crate::front::io::queue::Queue;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use xen_abi::xenbus::State;
use xen_platform::{Channel, Granted, Platform};
use xen_store::{ErrorKind, Store};

/// A future on the heap. The handshake is long and rare: code that it uses many times should be in
/// the program once.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Reads a key as text; `None` if it is missing. A folder that is gone has the permissions of the
/// one above it, so a refusal counts as missing, too.
pub(crate) fn read<'a>(
    store: &'a Store,
    folder: &str,
    key: &str,
) -> Boxed<'a, Result<Option<String>, xen_store::Error>> {
    let path = format!("{folder}/{key}");
    Box::pin(async move {
        match store.read(&path).await {
            Ok(value) => Ok(Some(match String::from_utf8(value) {
                Ok(text) => text,
                Err(_) => "\u{fffd}".into(),
            })),
            Err(error) if matches!(error.kind, ErrorKind::NoEntry | ErrorKind::Access) => Ok(None),
            Err(error) => Err(error),
        }
    })
}

/// Writes a key.
pub(crate) fn write<'a>(
    store: &'a Store,
    folder: &str,
    key: &str,
    value: String,
) -> Boxed<'a, Result<(), xen_store::Error>> {
    let path = format!("{folder}/{key}");
    Box::pin(async move { store.write(&path, value.as_bytes()).await })
}

/// Returns the keys that lead to the rings, and the state to be in then. The keys of a single ring
/// are in the folder itself, those of several in a folder each.
pub(crate) fn keys<P: Platform>(queues: &[Queue<P>], config: &Config) -> Vec<(String, String)> {
    let mut keys = Vec::new();
    let mut add = |folder: &str, key: &str, number: u32| {
        keys.push((format!("{folder}{key}"), number.to_string()))
    };
    let pages = queues[0].mem.refs().len();
    for (number, queue) in queues.iter().enumerate() {
        let folder = if queues.len() > 1 { format!("queue-{number}/") } else { String::new() };
        for (number, gref) in queue.mem.refs().iter().enumerate() {
            match pages {
                1 => add(&folder, "ring-ref", gref.0),
                _ => add(&folder, &format!("ring-ref{number}"), gref.0),
            }
        }
        add(&folder, "event-channel", queue.channel.port().0);
    }
    if pages > 1 {
        add("", "ring-page-order", pages.ilog2());
    }
    if queues.len() > 1 {
        add("", "multi-queue-num-queues", queues.len() as u32);
    }
    add("", "feature-persistent", config.persistent.into());
    keys.push(("protocol".into(), config.abi.name().into()));
    keys.push(("state".into(), State::INITIALISED.0.to_string()));
    keys
}
