//! Processes in domains, their handles and their tasks.

use super::world::World;
use crate::{Channel, Error, Grant, Map, Operation, Reason};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use xen_platform::{
    Access, Clock, CopySegment, DomId, EventCounter, GrantRef, Platform, Port, Time,
};

/// One process of a domain. Its objects hold it, so it is known for as long as it can do anything.
pub(crate) struct Process {
    pub world: World,
    /// Changes when the domain is resumed under another number.
    domid: Cell<DomId>,
    /// Unique in the world.
    pub id: u64,
    alive: Cell<bool>,
    /// The domain is suspended: no task moves.
    pub frozen: Cell<bool>,
    /// Resumes so far that lost everything.
    pub resumes: EventCounter,
    /// Number of times that it asked for the state of an event channel.
    pub state_queries: Cell<u32>,
    /// It may not ask that.
    pub is_blind: Cell<bool>,
    tasks: RefCell<Vec<Weak<Job>>>,
}

impl Process {
    pub fn new(world: World, domid: DomId, id: u64) -> Rc<Process> {
        Rc::new(Process {
            world,
            domid: Cell::new(domid),
            id,
            alive: Cell::new(true),
            frozen: Cell::new(false),
            resumes: EventCounter::new(),
            state_queries: Cell::new(0),
            is_blind: Cell::new(false),
            tasks: RefCell::default(),
        })
    }

    pub fn domid(&self) -> DomId {
        self.domid.get()
    }

    /// Number of the hypervisor state that the process stands on. What was opened under another
    /// generation is gone.
    pub fn generation(&self) -> u32 {
        self.resumes.count()
    }

    /// Returns whether what was opened under `generation` still exists.
    pub fn holds(&self, generation: u32) -> bool {
        self.is_alive() && generation == self.generation()
    }

    /// Moves the process to the domain `to`, where it holds nothing. The tasks that wait for
    /// [`Platform::resumes`] are woken.
    pub fn restore(&self, to: DomId) {
        self.domid.set(to);
        self.resumes.signal();
    }

    /// Lets the tasks move again.
    pub fn thaw(&self) {
        self.frozen.set(false);
        for job in self.tasks.borrow().iter().filter_map(Weak::upgrade) {
            job.wake();
        }
    }

    pub fn is_alive(&self) -> bool {
        self.alive.get()
    }

    /// Ends the process; says whether it was alive. Its tasks stay to be dropped with
    /// [`Process::drop_tasks`].
    pub fn end(&self) -> bool {
        self.alive.replace(false)
    }

    pub fn add_task(&self, job: &Rc<Job>) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.retain(|task| task.strong_count() > 0);
        tasks.push(Rc::downgrade(job));
    }

    /// Returns the number of tasks that are not done yet.
    pub fn unfinished(&self) -> usize {
        self.tasks.borrow().iter().filter(|task| task.strong_count() > 0).count()
    }

    /// Drops the tasks of an ended process. Code that runs in their drop finds that nothing it does
    /// has an effect.
    pub fn drop_tasks(&self) {
        for job in self.tasks.take().iter().filter_map(Weak::upgrade) {
            job.cancel();
        }
    }
}

/// A task's work, which its process takes with it when it dies.
pub(crate) struct Job {
    process: Rc<Process>,
    work: Cell<Option<Pin<Box<dyn Future<Output = ()>>>>>,
    waker: Cell<Option<Waker>>,
}

impl Job {
    pub fn new(process: Rc<Process>, work: impl Future<Output = ()> + 'static) -> Rc<Job> {
        let work = process.is_alive().then(|| Box::pin(work) as Pin<Box<dyn Future<Output = ()>>>);
        Rc::new(Job { process, work: Cell::new(work), waker: Cell::new(None) })
    }

    /// Ready once the work is done or its process died.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.process.world.postpones() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.process.frozen.get() && self.process.is_alive() {
            self.waker.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        let Some(mut work) = self.work.take() else { return Poll::Ready(()) };
        self.waker.set(Some(cx.waker().clone()));
        let done = work.as_mut().poll(cx);
        if done.is_ready() || !self.process.is_alive() {
            return Poll::Ready(());
        }
        self.work.set(Some(work));
        Poll::Pending
    }

    /// Drops the work, unless it is just running: then [`Job::poll`] does, when it comes back.
    fn cancel(&self) {
        drop(self.work.take());
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A process of a domain, as its own code sees the hypervisor. Clones are the same process.
#[derive(Clone)]
pub struct Domain(pub(crate) Rc<Process>);

impl Domain {
    /// Returns the domain's number, which a resume changes.
    pub fn id(&self) -> DomId {
        self.0.domid()
    }

    /// The world it lives in.
    pub fn world(&self) -> &World {
        &self.0.world
    }

    /// Ends this process without a word, as `kill -9` does: its tasks are dropped and nothing they
    /// or its handles do has an effect any more. What the kernel of its domain does then: carry out
    /// the last words ([`Platform::clear_grant_on_death`]), unmap, revoke, close.
    pub fn kill_process(&self) {
        if self.0.end() {
            self.0.world.reap_process(self.0.id);
            self.0.drop_tasks();
        }
    }

    /// Returns how often this process has asked for the state of an event channel
    /// ([`xen_platform::Channel::is_bound`]), which costs a hypercall.
    pub fn state_queries(&self) -> u32 {
        self.0.state_queries.get()
    }

    /// From now on this process may not ask for the state of an event channel, as a program in
    /// Linux may not: [`xen_platform::Channel::is_bound`] is true of each.
    pub fn forbid_state_queries(&self) {
        self.0.is_blind.set(true);
    }

    /// The failure of `operation`, for `reason`.
    pub(crate) fn refuse(&self, operation: &str, reason: Reason) -> Error {
        Error { by: self.0.domid(), operation: operation.into(), reason }
    }

    /// Checks that an operation may go on: the process lives, and the test does not want it to
    /// fail.
    pub(crate) fn admit(&self, kind: Operation) -> Result<(), Reason> {
        if !self.0.is_alive() {
            return Err(Reason::Dead);
        }
        self.0.world.failure_due(self.0.domid(), kind).map_or(Ok(()), Err)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Domain({})", self.0.domid())
    }
}

impl Clock for Domain {
    fn now(&self) -> Time {
        self.0.world.now()
    }

    fn poll_until(&self, at: Time, cx: &mut Context<'_>) -> Poll<()> {
        if self.now() >= at {
            return Poll::Ready(());
        }
        if self.0.is_alive() {
            self.0.world.wake_at(at, cx);
        }
        Poll::Pending
    }
}

impl Platform for Domain {
    type Grant = Grant;
    type Map = Map;
    type Channel = Channel;
    type Error = Error;

    fn yields(&self) -> &EventCounter {
        &self.0.world.0.yields
    }

    fn resumes(&self) -> &EventCounter {
        &self.0.resumes
    }

    fn is_local(error: &Error) -> bool {
        matches!(error.reason, Reason::TableFull | Reason::OutOfMemory)
    }

    fn domid(&self) -> Option<DomId> {
        Some(self.0.domid())
    }

    fn share(&self, peer: DomId, pages: usize) -> Result<Grant, Error> {
        self.share_pages(peer, pages, Access::ReadWrite).map_err(|reason| {
            self.refuse(&format!("share {pages} pages with domain {peer}"), reason)
        })
    }

    fn share_read_only(&self, peer: DomId, pages: usize) -> Result<Grant, Error> {
        self.share_pages(peer, pages, Access::ReadOnly).map_err(|reason| {
            self.refuse(&format!("share {pages} pages with domain {peer} for reading"), reason)
        })
    }

    fn map(&self, peer: DomId, refs: &[GrantRef], access: Access) -> Result<Map, Error> {
        self.map_pages(peer, refs, access).map_err(|reason| {
            self.refuse(&format!("map {} pages of domain {peer}", refs.len()), reason)
        })
    }

    fn copy(&self, peer: DomId, pieces: &mut [CopySegment<'_>]) -> Result<(), Error> {
        let refused =
            |reason| self.refuse(&format!("copy {} pieces of domain {peer}", pieces.len()), reason);
        if !self.0.is_alive() {
            return Err(refused(Reason::Dead));
        }
        for piece in pieces {
            let outcome = self.admit(Operation::Copy).and_then(|()| self.copy_segment(peer, piece));
            piece.set_status(outcome.map_or_else(Reason::grant_status, |()| 0));
        }
        Ok(())
    }

    fn listen(&self, peer: DomId) -> Result<Channel, Error> {
        self.open_port(peer)
            .map_err(|reason| self.refuse(&format!("open a port for domain {peer}"), reason))
    }

    fn connect(&self, peer: DomId, port: Port) -> Result<Channel, Error> {
        self.bind_port(peer, port)
            .map_err(|reason| self.refuse(&format!("bind to port {port} of domain {peer}"), reason))
    }

    fn clear_grant_on_death(
        &self,
        grant: &Grant,
        at: usize,
        channel: &Channel,
    ) -> Result<(), Error> {
        self.last_word(&grant.area, grant.id, at, channel)
            .map_err(|reason| self.refuse("arrange for its death with granted pages", reason))
    }

    fn clear_map_on_death(&self, map: &Map, at: usize, channel: &Channel) -> Result<(), Error> {
        self.last_word(&map.area, map.id, at, channel)
            .map_err(|reason| self.refuse("arrange for its death with mapped pages", reason))
    }
}
