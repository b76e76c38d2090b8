//! Services for many domains, each of which comes and goes.
//!
//! ```text
//!   domains, by xenstore ─┐                 ┌─ missing ───> a task that serves it
//!                         ├─> wanted pairs ─┤
//!   services, by reload ──┘                 └─ in excess ─> its Stop is requested
//! ```
//! A pair of a service and a domain is an *offer*: a server of its own, which ends with its domain.

mod lookout;

use crate::args::Domains;
use crate::{Code, Failure, Session, Stop};
use embassy_futures::select::{Either, select};
use lookout::Lookout;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use tools_common::answered;
use xen_exec::TaskSet;
use xen_platform::{DomId, EventCounter, Platform};

/// A service that is offered to domains.
pub trait Offered {
    /// Its name, which no other has; empty for the only one.
    fn name(&self) -> &str;
    /// The domains that it is for.
    fn domains(&self) -> &Domains;
    /// True if a client finds the same at `other`, whichever domains that is for.
    fn is_like(&self, other: &Self) -> bool;
}

/// Services with the events that concern all of them.
pub struct Fleet<'a, S> {
    /// Returns the services as they are now.
    pub services: &'a dyn Fn() -> Vec<Rc<S>>,
    /// Counts their changes.
    pub changes: &'a EventCounter,
    /// Called once all services are offered to all of their domains that were there at first.
    pub ready: &'a dyn Fn(),
    /// The first offer that ends, unless its domain has, is the end of all.
    pub once: bool,
}

/// Pairs of a service and a domain.
type Pairs<S> = Vec<(Rc<S>, DomId)>;

/// An offer of a service to a domain.
struct Offer<S> {
    service: Rc<S>,
    domain: DomId,
    stop: Stop,
    /// Its first channel is published, or could not be.
    is_made: Rc<Cell<bool>>,
}

/// The events of a fleet.
enum Event<S> {
    /// The domains or the services may have changed.
    Looked(Lookout, Result<Pairs<S>, Failure>),
    /// An offer has ended.
    Ended { service: Rc<S>, domain: DomId, result: Result<(), Failure> },
}

/// The parts of a fleet that do not change.
struct Server<'a, P, S, F> {
    session: Session<'a, P>,
    fleet: &'a Fleet<'a, S>,
    serve_one: &'a F,
    own: DomId,
    /// Counts the offers that were made.
    made: EventCounter,
    /// The last failure of each pair, which is reported once.
    failures: RefCell<BTreeMap<(String, DomId), String>>,
}

/// Offers the services of `fleet` to their domains until a request to stop comes. `serve_one`
/// offers one to one domain, until that ends or its session's request to stop comes.
pub async fn serve_fleet<P: Platform, S: Offered>(
    session: Session<'_, P>,
    fleet: &Fleet<'_, S>,
    serve_one: impl AsyncFn(Session<'_, P>, &S, DomId) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Session { platform, store, .. } = session;
    let own = answered(platform, xen_vchan::own_domid(platform, store)).await?;
    let (made, failures) = (EventCounter::new(), RefCell::default());
    let server = Server { session, fleet, serve_one: &serve_one, own, made, failures };
    let watching = async { Ok::<_, Failure>(Lookout::new(store, fleet.changes).await) };
    server.run(answered(platform, watching).await?).await
}

impl<P: Platform, S, F> Server<'_, P, S, F>
where
    S: Offered,
    F: AsyncFn(Session<'_, P>, &S, DomId) -> Result<(), Failure>,
{
    async fn run(&self, lookout: Lookout) -> Result<(), Failure> {
        let mut offers: Vec<Offer<S>> = Vec::new();
        let mut tasks = TaskSet::new();
        tasks.push(self.look(lookout));
        let (mut has_looked, mut is_ready) = (false, false);
        let result = loop {
            if has_looked && !is_ready && offers.iter().all(|offer| offer.is_made.get()) {
                is_ready = true;
                (self.fleet.ready)();
            }
            match self.session.stop.or(self.next(&mut tasks)).await {
                None => break Ok(()),
                Some(None) => {}
                Some(Some(Event::Looked(lookout, found))) => {
                    match found {
                        Ok(wanted) => self.adjust(&mut offers, wanted, &mut tasks),
                        // Before anything is offered it is for the user to cure.
                        Err(failure) if !has_looked => break Err(failure),
                        Err(failure) => (self.session.report)(&failure.to_string()),
                    }
                    has_looked = true;
                    tasks.push(self.look_later(lookout));
                }
                Some(Some(Event::Ended { service, domain, result })) => {
                    offers.retain(|offer| !offer.is_of(&service, domain));
                    let has_died = result.as_ref().is_err_and(|f| f.code == Code::Gone);
                    if self.fleet.once && !has_died {
                        break result;
                    }
                    self.report(service.name(), domain, result);
                }
            }
        };
        offers.iter().for_each(|offer| offer.stop.request());
        while !offers.is_empty() {
            if let Event::Ended { service, domain, .. } = tasks.next().await {
                offers.retain(|offer| !offer.is_of(&service, domain));
            }
        }
        result
    }

    /// Waits for the next event; `None` if an offer was made.
    async fn next<'t>(&self, tasks: &mut TaskSet<'t, Event<S>>) -> Option<Event<S>> {
        let mut seen = self.made.count();
        let made = poll_fn(|cx| self.made.poll_after(&mut seen, cx));
        match select(tasks.next(), made).await {
            Either::First(event) => Some(event),
            Either::Second(()) => None,
        }
    }

    /// Finds the pairs that are wanted now.
    async fn look(&self, lookout: Lookout) -> Event<S> {
        let services = (self.fleet.services)();
        let finding = lookout::find_pairs(self.session.store, &services, self.own);
        let found = answered(self.session.platform, finding).await;
        Event::Looked(lookout, found)
    }

    async fn look_later(&self, mut lookout: Lookout) -> Event<S> {
        if let Err(error) = lookout.wait(self.session.platform, self.fleet.changes).await {
            return Event::Looked(lookout, Err(error.into()));
        }
        self.look(lookout).await
    }

    /// Ends the offers that are not wanted and makes those that are missing. One that was changed
    /// is made at the next look, once the old one has ended.
    fn adjust<'t>(
        &'t self,
        offers: &mut Vec<Offer<S>>,
        wanted: Pairs<S>,
        tasks: &mut TaskSet<'t, Event<S>>,
    ) where
        S: 't,
    {
        for offer in &*offers {
            let is_wanted = |(service, domain): &(Rc<S>, DomId)| {
                *domain == offer.domain
                    && service.name() == offer.service.name()
                    && service.is_like(&offer.service)
            };
            if !wanted.iter().any(is_wanted) {
                offer.stop.request();
            }
        }
        for (service, domain) in wanted {
            if offers.iter().any(|offer| offer.is_of(&service, domain)) {
                continue;
            }
            let (stop, is_made) = (Stop::new(), Rc::new(Cell::new(false)));
            tasks.push(self.serve(service.clone(), domain, stop.clone(), is_made.clone()));
            offers.push(Offer { service, domain, stop, is_made });
        }
    }

    /// Serves one offer to its end.
    async fn serve(
        &self,
        service: Rc<S>,
        domain: DomId,
        stop: Stop,
        is_made: Rc<Cell<bool>>,
    ) -> Event<S> {
        let made = || {
            if !is_made.replace(true) {
                self.made.signal();
            }
        };
        let report = |text: &str| {
            self.forget_failure(service.name(), domain);
            (self.session.report)(&describe(service.name(), domain, text));
        };
        let session = Session { stop: &stop, report: &report, offered: &made, ..self.session };
        let result = (self.serve_one)(session, &service, domain).await;
        made();
        Event::Ended { service, domain, result }
    }

    /// Reports the end of an offer, if it is no good one and not the same as the one before.
    fn report(&self, name: &str, domain: DomId, result: Result<(), Failure>) {
        let text = match result {
            Err(failure) if failure.code != Code::Gone => failure.text,
            _ => return self.forget_failure(name, domain),
        };
        let before = self.failures.borrow_mut().insert((name.to_string(), domain), text.clone());
        if !text.is_empty() && before.as_ref() != Some(&text) {
            (self.session.report)(&describe(name, domain, &text));
        }
    }

    fn forget_failure(&self, name: &str, domain: DomId) {
        self.failures.borrow_mut().remove(&(name.to_string(), domain));
    }
}

impl<S: Offered> Offer<S> {
    /// True if it is an offer of a service of that name to that domain.
    fn is_of(&self, service: &S, domain: DomId) -> bool {
        self.domain == domain && self.service.name() == service.name()
    }
}

/// Names the offer that a message is about.
fn describe(name: &str, domain: DomId, text: &str) -> String {
    match name {
        "" => format!("domain {domain}: {text}"),
        name => format!("{name}, domain {domain}: {text}"),
    }
}
