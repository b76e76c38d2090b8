//! Connecting to a backend, across saves and restores of the domain.

use super::config::Config;
use super::error::Error;
use super::xenbus::device::{Connected, XenbusDevice};
use super::xenbus::keys::Boxed;
use alloc::boxed::Box;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use xen_platform::{Platform, Time, sleep};
use xen_store::Store;

/// Result of connecting: both ends' folders, and the connection.
type Connecting<P> = Result<(XenbusDevice, Connected<P>), Error<<P as Platform>::Error>>;

/// Time between two looks for the folder of a disk after the domain was restored.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs `work` until it ends or the domain goes on after a save and restore, whichever comes first;
/// then returns `None`. `seen` is the count of such resumes that the caller knows, and is
/// brought up to date.
pub(crate) async fn until_resumed<P: Platform, T>(
    platform: &P,
    seen: &mut u32,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        // First: whatever failed because of it does not count.
        let ended = work.as_mut().poll(cx);
        match platform.resumes().poll_after(seen, cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => ended.map(Some),
        }
    })
    .await
}

/// Connects to the backend of a disk. A save and restore of the domain meanwhile begins anew; after
/// one, the toolstack may still be at work, so the disk's folder is waited for. `seen` is the count
/// of resumes that the caller knows, and is brought up to date.
pub(crate) fn connect<'a, P: Platform>(
    platform: &'a P,
    store: &'a Store,
    vdev: u32,
    config: &'a Config,
    seen: &'a mut u32,
    mut was_restored: bool,
) -> Boxed<'a, Connecting<P>> {
    Box::pin(async move {
        loop {
            let wait = if was_restored { config.connect_timeout } else { Duration::ZERO };
            let until = platform.now() + wait;
            let connecting = connect_until(platform, store, vdev, config, until);
            if let Some(result) = until_resumed(platform, seen, connecting).await {
                return result;
            }
            was_restored = true;
        }
    })
}

/// Connects as soon as the disk's folder is there, which is waited for at most `until` then.
async fn connect_until<P: Platform>(
    platform: &P,
    store: &Store,
    vdev: u32,
    config: &Config,
    until: Time,
) -> Connecting<P> {
    let mut xenbus = loop {
        match XenbusDevice::find(store, vdev).await {
            Ok(xenbus) => break xenbus,
            Err(error) if error.is_closed() || platform.now() >= until => return Err(error.into()),
            Err(_) => sleep(platform, LOOK_EVERY).await,
        }
    };
    xenbus.begin().await?;
    match xenbus.connect(platform, config, config.connect_timeout).await {
        Ok(connected) => Ok((xenbus, connected)),
        Err(error) => {
            xenbus.close(platform, config.connect_timeout).await;
            Err(error)
        }
    }
}
