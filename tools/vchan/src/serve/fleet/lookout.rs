//! The pairs of services and domains that there should be, and the reasons to look again.

use super::{Offered, Pairs};
use crate::args::{DomainArgument, Domains};
use crate::{Code, Failure};
use embassy_futures::select::select3;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tools_common::{is_gone, is_refusal};
use xen_platform::{DomId, EventCounter, Platform, sleep};
use xen_store::domains::{self, Domain};
use xen_store::{Error, Store, Watch};

/// The interval between two looks at the domains: events say that one has come or gone, but none
/// that it got its name.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The reasons to look again at domains and services.
pub(super) struct Lookout {
    /// Domains that come and go; none where this domain may not know.
    watches: Vec<Watch>,
    /// The changes of the services that were seen.
    seen: u32,
}

impl Lookout {
    pub async fn new(store: &Store, changes: &EventCounter) -> Self {
        let mut watches = Vec::new();
        for path in ["@introduceDomain", "@releaseDomain"] {
            watches.extend(store.watch(path).await.ok());
        }
        Lookout { watches, seen: changes.count() }
    }

    /// Waits for a reason.
    pub async fn wait(
        &mut self,
        platform: &impl Platform,
        changes: &EventCounter,
    ) -> Result<(), Error> {
        let Lookout { watches, seen } = self;
        let mut failed = Ok(());
        let domain = poll_fn(|cx| {
            for watch in &mut *watches {
                if let Poll::Ready(event) = watch.poll_next(cx) {
                    failed = event.map(drop);
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        });
        let service = poll_fn(|cx| changes.poll_after(seen, cx));
        select3(domain, service, sleep(platform, LOOK_EVERY)).await;
        if failed.is_err() {
            // The connection to xenstore is gone: to look again at once would not end.
            watches.clear();
        }
        failed
    }
}

/// Returns all pairs of a service and one of its domains that is there.
pub(super) async fn find_pairs<S: Offered>(
    store: &Store,
    services: &[Rc<S>],
    own: DomId,
) -> Result<Pairs<S>, Failure> {
    let by_number = |domain: &DomainArgument| matches!(domain, DomainArgument::Number(_));
    let needs_list = services.iter().any(|service| match service.domains() {
        Domains::All => true,
        Domains::These(domains) => !domains.iter().all(by_number),
    });
    let there = if needs_list { list(store).await? } else { Vec::new() };
    let mut pairs = Vec::new();
    for service in services {
        let mut found = BTreeSet::new();
        match service.domains() {
            Domains::All => found.extend(there.iter().map(|domain| domain.id)),
            Domains::These(domains) => {
                for domain in domains {
                    found.extend(find(store, domain, &there).await?);
                }
            }
        }
        found.remove(&own);
        pairs.extend(found.into_iter().map(|domain| (service.clone(), domain)));
    }
    Ok(pairs)
}

/// Returns the domain that is named, if it is there.
async fn find(
    store: &Store,
    wanted: &DomainArgument,
    there: &[Domain],
) -> Result<Option<DomId>, Error> {
    let of = |is_wanted: &dyn Fn(&Domain) -> bool| {
        there.iter().find(|domain| is_wanted(domain)).map(|domain| domain.id)
    };
    Ok(match wanted {
        DomainArgument::Number(domid) => (!is_gone(store, *domid).await?).then_some(*domid),
        DomainArgument::Name(name) => of(&|domain| domain.name.as_deref() == Some(name)),
        DomainArgument::Uuid(uuid) => of(&|domain| domain.uuid.as_deref() == Some(uuid)),
    })
}

async fn list(store: &Store) -> Result<Vec<Domain>, Failure> {
    domains::list(store).await.map_err(|error| match is_refusal(&error) {
        true => Failure::new(
            Code::Usage,
            "only dom0 may look up domains: name the clients' domains by their numbers, which xl \
             list shows there",
        ),
        false => error.into(),
    })
}
