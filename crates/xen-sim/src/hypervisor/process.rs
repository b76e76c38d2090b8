//! What lives and dies: processes in domains, their handles and their tasks.

use super::world::World;
use crate::{Channel, Error, Grant, Map, Operation, Reason};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use xen_platform::{Access, Clock, DomId, EventCounter, GrantRef, Piece, Platform, Port, SharedMem, Time};

/// One process of a domain. Its objects hold it, so it is known for as long as it can do anything.
pub(crate) struct Process {
    pub world: World,
    pub domid: DomId,
    /// Unique in the world.
    pub id: u64,
    alive: Cell<bool>,
    tasks: RefCell<Vec<Weak<Job>>>,
}

impl Process {
    pub fn new(world: World, domid: DomId, id: u64) -> Rc<Process> {
        Rc::new(Process { world, domid, id, alive: Cell::new(true), tasks: RefCell::default() })
    }

    pub fn is_alive(&self) -> bool {
        self.alive.get()
    }

    /// Ends the process; says whether it was alive. Its tasks stay to be dropped with [`Process::drop_tasks`].
    pub fn end(&self) -> bool {
        self.alive.replace(false)
    }

    pub fn add_task(&self, job: &Rc<Job>) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.retain(|task| task.strong_count() > 0);
        tasks.push(Rc::downgrade(job));
    }

    /// How many tasks are not done yet.
    pub fn unfinished(&self) -> usize {
        self.tasks.borrow().iter().filter(|task| task.strong_count() > 0).count()
    }

    /// Drops the tasks of an ended process. Code that runs in their drop finds that nothing it does has an effect.
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
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A process of a domain, as its own code sees the hypervisor. Clones are the same process.
#[derive(Clone)]
pub struct Domain(pub(crate) Rc<Process>);

impl Domain {
    /// The domain's number.
    pub fn id(&self) -> DomId {
        self.0.domid
    }

    /// The world it lives in.
    pub fn world(&self) -> &World {
        &self.0.world
    }

    /// Ends this process without a word, as `kill -9` does: its tasks are dropped and nothing they or its handles do
    /// has an effect any more. What the kernel of its domain does then: carry out the last words
    /// ([`Platform::clear_grant_on_death`]), unmap, revoke, close.
    pub fn kill_process(&self) {
        if self.0.end() {
            self.0.world.reap_process(self.0.id);
            self.0.drop_tasks();
        }
    }

    /// The failure of `operation`, for `reason`.
    pub(crate) fn refuse(&self, operation: &str, reason: Reason) -> Error {
        Error { by: self.0.domid, operation: operation.into(), reason }
    }

    /// Whether an operation may go on: the process lives, and the test does not want it to fail.
    pub(crate) fn admit(&self, kind: Operation) -> Result<(), Reason> {
        if !self.0.is_alive() {
            return Err(Reason::Dead);
        }
        if self.0.world.is_due_to_fail(self.0.domid, kind) {
            return Err(Reason::Injected);
        }
        Ok(())
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Domain({})", self.0.domid)
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

    fn pauses(&self) -> &EventCounter {
        &self.0.world.0.pauses
    }

    fn domid(&self) -> Option<DomId> {
        Some(self.0.domid)
    }

    fn share(&self, peer: DomId, pages: usize) -> Result<Grant, Error> {
        self.share_pages(peer, pages, Access::ReadWrite)
            .map_err(|reason| self.refuse(&format!("share {pages} pages with domain {peer}"), reason))
    }

    fn share_read_only(&self, peer: DomId, pages: usize) -> Result<Grant, Error> {
        self.share_pages(peer, pages, Access::ReadOnly)
            .map_err(|reason| self.refuse(&format!("share {pages} pages with domain {peer} for reading"), reason))
    }

    fn map(&self, peer: DomId, refs: &[GrantRef], access: Access) -> Result<Map, Error> {
        self.map_pages(peer, refs, access)
            .map_err(|reason| self.refuse(&format!("map {} pages of domain {peer}", refs.len()), reason))
    }

    fn copy(&self, peer: DomId, pieces: &mut [Piece<'_>]) -> Result<(), Error> {
        let refused = |reason| self.refuse(&format!("copy {} pieces of domain {peer}", pieces.len()), reason);
        if !self.0.is_alive() {
            return Err(refused(Reason::Dead));
        }
        for piece in pieces {
            let outcome = self.admit(Operation::Copy).and_then(|()| self.copy_piece(peer, piece));
            piece.set_status(outcome.map_or_else(Reason::grant_status, |()| 0));
        }
        Ok(())
    }

    fn listen(&self, peer: DomId) -> Result<Channel, Error> {
        self.open_port(peer).map_err(|reason| self.refuse(&format!("open a port for domain {peer}"), reason))
    }

    fn connect(&self, peer: DomId, port: Port) -> Result<Channel, Error> {
        self.bind_port(peer, port)
            .map_err(|reason| self.refuse(&format!("bind to port {port} of domain {peer}"), reason))
    }

    fn clear_grant_on_death(&self, grant: &Grant, at: usize, channel: &Channel) -> Result<(), Error> {
        self.last_word(grant.id, grant.area.len(), at, channel)
            .map_err(|reason| self.refuse("arrange for its death with granted pages", reason))
    }

    fn clear_map_on_death(&self, map: &Map, at: usize, channel: &Channel) -> Result<(), Error> {
        self.last_word(map.id, map.area.len(), at, channel)
            .map_err(|reason| self.refuse("arrange for its death with mapped pages", reason))
    }
}
