//! The world: domains, what they hold, and their end.

use super::fault::Fault;
use super::page::{Area, Page, Pages, RawPage};
use super::port::PortState;
use super::process::{Domain, Process};
use super::random::Random;
use super::suspend::Suspension;
use super::watch::Watchers;
use crate::Reason;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::task::Context;
use xen_platform::{Access, DomId, EventCounter, GrantRef, Port, Time, Timers};

/// Time at which a world begins. Not zero, so that nobody takes zero for a moment.
const BEGIN: Time = Time(1_000_000_000);

/// An in-memory hypervisor with its domains. A handle: clones are the same world.
#[derive(Clone)]
pub struct World(pub(crate) Rc<Inner>);

pub(crate) struct Inner {
    pub state: RefCell<State>,
    pub now: Cell<Time>,
    pub timers: Timers,
    /// Turns since time last moved.
    pub turns: Cell<u64>,
    pub yields: EventCounter,
    pub random: RefCell<Option<Random>>,
    pub watchers: Watchers,
    /// Domains that were suspended so far.
    pub suspends: EventCounter,
    mourners: RefCell<Vec<Mourner>>,
}

type Mourner = Box<dyn FnMut(DomId)>;

#[derive(Default)]
pub(crate) struct State {
    pub domains: BTreeMap<DomId, DomainState>,
    /// Every `Grant` and `Map` value that was not dropped yet.
    pub holdings: BTreeMap<u64, Holding>,
    /// Pages that nobody uses.
    pub free: Vec<Rc<Page>>,
    pub faults: Vec<Fault>,
    last_id: u64,
}

#[derive(Default)]
pub(crate) struct DomainState {
    pub alive: bool,
    pub suspension: Suspension,
    pub grants: BTreeMap<GrantRef, GrantEntry>,
    pub ports: BTreeMap<Port, PortState>,
    pub processes: Vec<Weak<Process>>,
    /// Number of events sent.
    pub notifies: u64,
}

/// One entry of a domain's grant table.
pub(crate) struct GrantEntry {
    pub page: Rc<Page>,
    pub to: DomId,
    /// Rights of `to`.
    pub access: Access,
    /// Number of its mappings.
    pub mapped: u32,
    /// Taken back by the owner. If it is still mapped, the page is quarantined.
    pub revoked: bool,
}

impl GrantEntry {
    /// Checks that `by` may reach the page in that way now.
    pub fn permits(&self, gref: GrantRef, by: DomId, access: Access) -> Result<(), Reason> {
        if self.to != by {
            return Err(Reason::GrantedTo { grant: gref, to: self.to });
        }
        if self.revoked {
            return Err(Reason::Revoked(gref));
        }
        if self.access == Access::ReadOnly && access == Access::ReadWrite {
            return Err(Reason::ReadOnly(gref));
        }
        Ok(())
    }
}

/// Record of a `Grant` (then `owner` is the holder itself) or a `Map`.
pub(crate) struct Holding {
    pub by: DomId,
    pub process: u64,
    pub is_map: bool,
    pub owner: DomId,
    pub refs: Vec<GrantRef>,
    pub pages: Pages,
    pub last_words: Vec<LastWord>,
}

/// A byte to clear and a port to notify when a holding ends.
#[derive(Clone, Copy)]
pub(crate) struct LastWord {
    pub at: usize,
    pub port: Port,
}

impl State {
    /// A number that nothing else has.
    pub fn fresh_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub fn domain(&mut self, domid: DomId) -> &mut DomainState {
        self.domains.get_mut(&domid).expect("a handle exists only for a domain of this world")
    }

    /// The domain, if it lives.
    pub fn living(&mut self, domid: DomId) -> Option<&mut DomainState> {
        self.domains.get_mut(&domid).filter(|domain| domain.alive)
    }

    pub fn holdings_of(&self, which: impl Fn(&Holding) -> bool) -> Vec<u64> {
        self.holdings.iter().filter(|(_, holding)| which(holding)).map(|(id, _)| *id).collect()
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A world without domains, in which everything happens in the plainest order.
    pub fn new() -> World {
        Self::with(None)
    }

    /// A world in which the order of events and tasks is random, the same for the same `seed`.
    pub fn with_seed(seed: u64) -> World {
        Self::with(Some(Random::new(seed)))
    }

    fn with(random: Option<Random>) -> World {
        World(Rc::new(Inner {
            state: RefCell::default(),
            now: Cell::new(BEGIN),
            timers: Timers::new(),
            turns: Cell::new(0),
            yields: EventCounter::new(),
            random: RefCell::new(random),
            watchers: Watchers::default(),
            suspends: EventCounter::new(),
            mourners: RefCell::default(),
        }))
    }

    /// A new process in the domain `domid`, which begins to exist with its first process. Panics if
    /// the number is reserved by Xen or the domain was destroyed.
    pub fn domain(&self, domid: DomId) -> Domain {
        assert!(domid < DomId::FIRST_RESERVED, "{domid} is not the number of an ordinary domain");
        let mut state = self.0.state.borrow_mut();
        let id = state.fresh_id();
        let process = Process::new(self.clone(), domid, id);
        let domain = state
            .domains
            .entry(domid)
            .or_insert_with(|| DomainState { alive: true, ..DomainState::default() });
        assert!(domain.alive, "domain {domid} was destroyed");
        domain.processes.retain(|process| process.strong_count() > 0);
        process.frozen.set(domain.suspension != Suspension::Running);
        domain.processes.push(Rc::downgrade(&process));
        Domain(process)
    }

    /// The virtual time.
    pub fn now(&self) -> Time {
        self.0.now.get()
    }

    pub(crate) fn wake_at(&self, at: Time, cx: &mut Context<'_>) {
        self.0.timers.wake_at(at, cx)
    }

    /// Destroys a domain, as `xl destroy` does: its tasks are dropped, its ports closed and its
    /// mappings gone. Nobody carries out its last words. Its pages go on to exist for domains that
    /// map them.
    pub fn destroy(&self, domid: DomId) {
        let mut state = self.0.state.borrow_mut();
        let domain =
            state.living(domid).unwrap_or_else(|| panic!("there is no domain {domid} to destroy"));
        domain.alive = false;
        let processes: Vec<_> =
            domain.processes.drain(..).filter_map(|process| process.upgrade()).collect();
        for process in &processes {
            process.end();
        }
        let ports: Vec<Port> = domain.ports.keys().copied().collect();
        for id in state.holdings_of(|holding| holding.by == domid) {
            state.release(id);
        }
        for port in ports {
            state.close(domid, port);
        }
        drop(state);
        processes.iter().for_each(|process| process.drop_tasks());
        self.mourn(domid);
    }

    /// Calls `mourner` with the number of every domain that is destroyed from now on, after it is
    /// gone.
    pub fn on_destroy(&self, mourner: impl FnMut(DomId) + 'static) {
        self.0.mourners.borrow_mut().push(Box::new(mourner));
    }

    pub(crate) fn mourn(&self, domid: DomId) {
        // Out of the cell meanwhile: a mourner may register another, or destroy another domain.
        let mut mourners = self.0.mourners.take();
        mourners.iter_mut().for_each(|mourner| mourner(domid));
        mourners.append(&mut self.0.mourners.borrow_mut());
        self.0.mourners.replace(mourners);
    }

    /// Takes away everything that a dead process held, as the kernel of its domain does.
    pub(crate) fn reap_process(&self, process: u64) {
        let mut state = self.0.state.borrow_mut();
        let holdings = state.holdings_of(|holding| holding.process == process);
        for id in &holdings {
            state.speak(*id);
        }
        for id in holdings {
            state.release(id);
        }
        let ports: Vec<_> = state
            .domains
            .iter()
            .flat_map(|(domid, domain)| {
                domain.ports.iter().map(|(number, port)| (*domid, *number, port.process))
            })
            .filter(|(_, _, owner)| *owner == process)
            .collect();
        for (domid, port, _) in ports {
            state.close(domid, port);
        }
    }

    /// The page behind a grant, for a test that plays a peer without rules. Panics if there is no
    /// such grant.
    pub fn page_of(&self, domid: DomId, gref: GrantRef) -> RawPage {
        let state = self.0.state.borrow();
        let entry = state.domains.get(&domid).and_then(|domain| domain.grants.get(&gref));
        let entry = entry.unwrap_or_else(|| panic!("domain {domid} has no grant {gref}"));
        let pages = Rc::new(RefCell::new(vec![entry.page.clone()]));
        RawPage { area: Area { by: None, pages, writable: true, foreign: true, generation: 0 } }
    }

    /// Returns the number of events that the domain has sent so far, those included that had no
    /// receiver.
    pub fn notifies(&self, domid: DomId) -> u64 {
        self.0.state.borrow().domains.get(&domid).map_or(0, |domain| domain.notifies)
    }
}
