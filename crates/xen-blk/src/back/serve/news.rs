//! What can happen to a disk between two steps of its life.

use super::Server;
use crate::back::link::Common;
use crate::back::{Error, PeerError, Storage};
use crate::toolstack::Device;
use alloc::boxed::Box;
use alloc::format;
use core::future::poll_fn;
use core::task::{Context, Poll};
use core::time::Duration;
use xen_platform::{DomId, Platform};
use xen_store::{Store, Watch};

/// How often a connected backend looks whether the frontend's event channels are still there: a domain that is
/// destroyed says nothing.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is watched in xenstore.
pub(super) struct Watches {
    front: Watch,
    back: Watch,
    deaths: Option<Watch>,
}

impl Watches {
    /// Sets them.
    pub async fn set(store: &Store, device: &Device) -> Result<Watches, Error> {
        Ok(Watches {
            front: store.watch(&format!("{}/state", device.front_path())).await?,
            back: store.watch(&format!("{}/state", device.back_path())).await?,
            // Only dom0 may have it, and no guest sees dom0 end.
            deaths: if device.front == DomId(0) { None } else { store.watch("@releaseDomain").await.ok() },
        })
    }
}

/// What ended a wait.
pub(super) enum News {
    /// Some state can have changed.
    Look,
    /// Some domain has gone, or a frontend has closed its event channel.
    Death,
    /// The storage is not as it was.
    Resized,
    /// The frontend broke the protocol.
    Broken(PeerError),
    /// The frontend did not let go in time.
    Late,
}

impl<P: Platform, S: Storage> Server<'_, P, S> {
    /// Serves, and waits for something to happen.
    pub(super) async fn news(&mut self) -> Result<News, Error> {
        poll_fn(|cx| self.poll_news(cx)).await
    }

    fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<Result<News, Error>> {
        if let Some(link) = &mut self.link
            && let Poll::Ready(why) = link.poll(cx)
        {
            return Poll::Ready(Ok(News::Broken(why)));
        }
        if self.watches.front.poll_next(cx)?.is_ready() || self.watches.back.poll_next(cx)?.is_ready() {
            return Poll::Ready(Ok(News::Look));
        }
        let Common { platform, storage, handle, .. } = self.common;
        if handle.poll_asked(&mut self.asked, cx).is_ready() {
            return Poll::Ready(Ok(News::Look));
        }
        if let Some(deaths) = &mut self.watches.deaths
            && deaths.poll_next(cx)?.is_ready()
        {
            return Poll::Ready(Ok(News::Death));
        }
        if self.changed.as_mut().poll(cx).is_ready() {
            self.changed = Box::pin(storage.changed());
            return Poll::Ready(Ok(News::Resized));
        }
        if let Some(at) = self.stop_by
            && platform.poll_until(at, cx).is_ready()
        {
            return Poll::Ready(Ok(News::Late));
        }
        self.poll_look(cx).map(Ok)
    }

    /// Looks for the frontend from time to time, while it is connected.
    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        let Some(link) = &self.link else { return Poll::Pending };
        while self.common.platform.poll_until(self.next_look, cx).is_ready() {
            self.next_look = self.common.platform.now() + LOOK_EVERY;
            if !link.is_bound() {
                return Poll::Ready(News::Death);
            }
        }
        Poll::Pending
    }
}
