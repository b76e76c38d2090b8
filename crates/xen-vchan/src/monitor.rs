//! Looking out for the end of the peer while waiting for it.

use core::cell::{Cell, RefCell};
use core::task::{Context, Poll};
use core::time::Duration;
use xen_platform::{DomId, Platform, Time};
use xen_store::{Store, Watch};

/// Interval at which a waiting end looks whether the peer's end of the event channel is still
/// bound: a peer that dies without a last word sends no event. Both roles do this towards every
/// domain, dom0 included, whose programs can be killed, too; only an offer without a client sleeps
/// undisturbed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Time of the next look, and the channel to ask.
pub(crate) struct PeerMonitor<P> {
    platform: P,
    store: Store,
    peer: DomId,
    next_look: Cell<Time>,
    /// Tells that some domain has gone, where this domain may know.
    deaths: RefCell<Option<Watch>>,
    /// Number of such news.
    news: Cell<u32>,
    /// Of these, how many have been looked into.
    looked_into: Cell<u32>,
}

impl<P: Platform> PeerMonitor<P> {
    /// `deaths` is a watch of `@releaseDomain`.
    pub fn new(platform: &P, store: &Store, peer: DomId, deaths: Option<Watch>) -> Self {
        PeerMonitor {
            platform: platform.clone(),
            store: store.clone(),
            peer,
            next_look: Cell::new(platform.now() + LOOK_EVERY),
            deaths: RefCell::new(deaths),
            news: Cell::new(0),
            looked_into: Cell::new(0),
        }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn now(&self) -> Time {
        self.platform.now()
    }

    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// True once `at` is reached.
    pub fn poll_until(&self, at: Time, cx: &mut Context<'_>) -> bool {
        self.platform.poll_until(at, cx).is_ready()
    }

    /// True when it is time to look for the peer. All tasks that wait share the time, so that a
    /// busy channel does not pile up timers.
    pub fn poll_tick(&self, cx: &mut Context<'_>) -> bool {
        let tick = self.poll_until(self.next_look.get(), cx);
        if tick {
            self.next_look.set(self.platform.now() + LOOK_EVERY);
        }
        tick
    }

    /// True while some domain has gone and nobody has looked yet whether it was the peer's. Of all
    /// that wait, the last to ask is woken by the news; should that one have given up waiting, the
    /// others find it at the next tick.
    pub fn poll_news(&self, cx: &mut Context<'_>) -> bool {
        let mut deaths = self.deaths.borrow_mut();
        while let Some(watch) = &mut *deaths {
            match watch.poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(_)) => self.news.set(self.news.get().wrapping_add(1)),
                // Without xenstore the ticks have to do.
                Poll::Ready(Err(_)) => *deaths = None,
            }
        }
        self.news.get() != self.looked_into.get()
    }

    /// Asks xenstore whether the peer's domain is gone. The news stays news if this is given up
    /// half-way. An answer to a question from before the latest news says nothing about it, so then
    /// it is asked again.
    pub async fn is_peer_gone(&self) -> bool {
        loop {
            let news = self.news.get();
            let gone = self.store.is_domain_introduced(self.peer).await == Ok(false);
            if gone || news == self.news.get() {
                self.looked_into.set(news);
                return gone;
            }
        }
    }
}

/// A watch that tells of the end of domains, where it is of use: only dom0 may have it, and no
/// guest sees dom0 end.
pub(crate) async fn watch_deaths(store: &Store, peer: DomId) -> Option<Watch> {
    match peer {
        DomId(0) => None,
        _ => store.watch("@releaseDomain").await.ok(),
    }
}
