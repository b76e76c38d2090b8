//! Save, restore and cancelled suspends of a domain.

use super::port::Events;
use super::process::{Domain, Process};
use super::world::{DomainState, State, World};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use xen_platform::{DomId, Port};

/// The first number for what is left of a domain that was restored under its own number. Above all
/// numbers of Xen.
const FIRST_REMAINS: u16 = 0x8000;

/// The state of a domain between suspend and resume.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Suspension {
    /// It runs.
    #[default]
    Running,
    /// It stands still, and no test has taken it over yet.
    Requested,
    /// It stands still until its [`Suspended`] goes on.
    Taken,
}

/// The result of a suspend, as the suspended domain sees it (`SCHEDOP_shutdown`, sched.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resume {
    /// The domain goes on in a new hypervisor state: all grants, mappings and ports are gone, and
    /// its number is another one.
    Restored,
    /// The suspend was cancelled, or the domain goes on after a checkpoint: all is as before.
    Cancelled,
}

/// A suspended domain, for the test that plays the toolstack. Its tasks stand still. If it is
/// dropped, the domain never goes on; [`World::destroy`] ends it.
#[must_use = "a suspended domain goes on with `restore` or `cancel`"]
pub struct Suspended {
    world: World,
    domid: DomId,
}

impl Domain {
    /// Suspends the whole domain, as `SCHEDOP_shutdown` with `SHUTDOWN_suspend` does: none of its
    /// tasks moves until the test has taken it over with [`World::next_suspended`] and let it go
    /// on.
    ///
    /// Panics if the domain is dead, or is suspended already.
    pub async fn suspend(&self) -> Resume {
        let before = self.0.generation();
        self.0.world.freeze(self.id(), Suspension::Requested);
        // This task is frozen with the others: it is polled again when the domain goes on.
        let mut frozen = true;
        poll_fn(|_| match std::mem::take(&mut frozen) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        })
        .await;
        match self.0.generation() == before {
            true => Resume::Cancelled,
            false => Resume::Restored,
        }
    }
}

impl World {
    /// Suspends a domain from outside: none of its tasks moves until it goes on.
    ///
    /// Panics if there is no such domain, or if it is suspended already.
    pub fn suspend(&self, domid: DomId) -> Suspended {
        self.freeze(domid, Suspension::Taken);
        Suspended { world: self.clone(), domid }
    }

    /// Waits until the domain `domid` suspends itself ([`Domain::suspend`]), and takes it over.
    pub fn next_suspended(&self, domid: DomId) -> impl Future<Output = Suspended> + use<> {
        let (world, mut seen) = (self.clone(), self.0.suspends.count());
        poll_fn(move |cx| {
            loop {
                let mut state = world.0.state.borrow_mut();
                match state.living(domid) {
                    Some(domain) if domain.suspension == Suspension::Requested => {
                        domain.suspension = Suspension::Taken;
                        return Poll::Ready(Suspended { world: world.clone(), domid });
                    }
                    _ => {}
                }
                drop(state);
                if world.0.suspends.poll_after(&mut seen, cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
    }

    fn freeze(&self, domid: DomId, suspension: Suspension) {
        let mut state = self.0.state.borrow_mut();
        let domain =
            state.living(domid).unwrap_or_else(|| panic!("there is no domain {domid} to suspend"));
        assert!(domain.suspension == Suspension::Running, "domain {domid} is suspended already");
        domain.suspension = suspension;
        domain.living_processes().iter().for_each(|process| process.frozen.set(true));
        drop(state);
        self.0.suspends.signal();
    }
}

impl Suspended {
    /// Returns the domain's number from before the suspend.
    pub fn id(&self) -> DomId {
        self.domid
    }

    /// Lets the domain go on as before, as after a failed save or a checkpoint (`xl save -c`).
    /// Events that came meanwhile are delivered.
    pub fn cancel(self) {
        let mut state = self.world.0.state.borrow_mut();
        let domain = state.suspended(self.domid);
        domain.suspension = Suspension::Running;
        let processes = domain.living_processes();
        drop(state);
        processes.iter().for_each(|process| process.thaw());
    }

    /// Restores the domain under the number `to`, as `xl restore` and `xl migrate` do.
    ///
    /// * The old domain is destroyed: its ports are closed, its mappings gone, its grants revoked,
    ///   and [`World::on_destroy`] reports it. A peer that maps one of its pages keeps the old
    ///   page, which nobody else writes any more.
    /// * The processes, their tasks and their memory live on as domain `to`. Each [`Domain`] handle
    ///   has the new number, and [`Platform::resumes`] counts one more.
    /// * Handles from before are stale. A [`Grant`] is private memory with the bytes that it had, a
    ///   [`Map`] reads all ones, a [`Channel`] is not bound, sends nothing, and counts one last
    ///   event so that its waiters look. Dropping any of them changes nothing, even if its port
    ///   number or reference is in use again.
    ///
    /// `to` may be the old number, as on another host: then it is all the same, and domid tells the
    /// domain nothing. Panics if another domain has the number, or had it.
    ///
    /// [`Platform::resumes`]: xen_platform::Platform::resumes
    /// [`Grant`]: crate::Grant
    /// [`Map`]: crate::Map
    /// [`Channel`]: crate::Channel
    pub fn restore(self, to: DomId) {
        assert!(to < DomId::FIRST_RESERVED, "{to} is not the number of an ordinary domain");
        let Suspended { world, domid } = self;
        let mut state = world.0.state.borrow_mut();
        let used = to != domid && state.domains.contains_key(&to);
        assert!(!used, "there is or was another domain {to}");
        let processes = state.suspended(domid).living_processes();
        let waiting = state.tear_down(domid, to);
        if to == domid {
            state.set_aside(domid);
        }
        let restored = DomainState {
            alive: true,
            processes: processes.iter().map(Rc::downgrade).collect(),
            ..DomainState::default()
        };
        state.domains.insert(to, restored);
        drop(state);
        world.mourn(domid);
        processes.iter().for_each(|process| process.restore(to));
        waiting.iter().for_each(|events| events.signal());
        processes.iter().for_each(|process| process.thaw());
    }
}

impl DomainState {
    fn living_processes(&self) -> Vec<Rc<Process>> {
        let processes = self.processes.iter().filter_map(|process| process.upgrade());
        processes.filter(|process| process.is_alive()).collect()
    }
}

impl State {
    fn suspended(&mut self, domid: DomId) -> &mut DomainState {
        let domain = self.living(domid);
        domain.unwrap_or_else(|| panic!("domain {domid} was destroyed while it was suspended"))
    }

    /// Ends the domain `domid`, whose processes go on as `to`. Returns the events of its ports.
    fn tear_down(&mut self, domid: DomId, to: DomId) -> Vec<Rc<Events>> {
        for id in self.holdings_of(|holding| holding.by == domid) {
            let holding = self.holdings.get_mut(&id).expect("just listed");
            if !holding.is_map {
                let mut pages = holding.pages.borrow_mut();
                pages.iter_mut().for_each(|page| *page = page.copy(to));
            }
            self.release(id);
        }
        let domain = self.domain(domid);
        (domain.alive, domain.suspension) = (false, Suspension::Running);
        domain.processes.clear();
        let ports: Vec<Port> = domain.ports.keys().copied().collect();
        let events = domain.ports.values().map(|port| port.events.clone()).collect();
        ports.into_iter().for_each(|port| self.close(domid, port));
        events
    }

    /// Renames what is left of a dead domain, so that its number can be used again.
    fn set_aside(&mut self, domid: DomId) {
        let left = self.domains.remove(&domid).expect("it was just torn down");
        let name = (FIRST_REMAINS..).map(DomId).find(|name| !self.domains.contains_key(name));
        let name = name.expect("no test restores 32768 domains");
        for holding in self.holdings.values_mut().filter(|holding| holding.owner == domid) {
            holding.owner = name;
        }
        self.domains.insert(name, left);
    }
}
