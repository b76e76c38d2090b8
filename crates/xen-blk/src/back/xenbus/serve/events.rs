//! Events that can happen to a disk between two steps of its handshake.

use crate::back::error::{Error, PeerError};
use crate::toolstack::Device;
use alloc::format;
use core::task::{Context, Poll};
use xen_platform::DomId;
use xen_store::{Store, Watch};

/// An event that ends a wait.
pub(super) enum Event {
    /// Some state can have changed.
    Changed,
    /// Some domain has gone, or a frontend has closed its event channel.
    DomainGone,
    /// The storage's properties have changed.
    Resized,
    /// The frontend broke the protocol.
    Broken(PeerError),
    /// The frontend did not let go in time.
    StopTimeout,
}

/// Watches on xenstore.
pub(super) struct Watches {
    front: Watch,
    back: Watch,
    online: Watch,
    deaths: Option<Watch>,
}

impl Watches {
    /// Sets them.
    pub async fn set(store: &Store, device: &Device) -> Result<Watches, Error> {
        Ok(Watches {
            front: store.watch(&format!("{}/state", device.front_path())).await?,
            back: store.watch(&format!("{}/state", device.back_path())).await?,
            online: store.watch(&format!("{}/online", device.back_path())).await?,
            // Only dom0 may have it, and no guest sees dom0 end.
            deaths: if device.front == DomId(0) {
                None
            } else {
                store.watch("@releaseDomain").await.ok()
            },
        })
    }

    /// Polls for an event.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        for watch in [&mut self.front, &mut self.back, &mut self.online] {
            if watch.poll_next(cx)?.is_ready() {
                return Poll::Ready(Ok(Event::Changed));
            }
        }
        if let Some(deaths) = &mut self.deaths {
            if deaths.poll_next(cx)?.is_ready() {
                return Poll::Ready(Ok(Event::DomainGone));
            }
        }
        Poll::Pending
    }
}
