//! A world together with the tasks that live in it.

use super::process::{Domain, Job};
use crate::World;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use xen_exec::Executor;
use xen_platform::DomId;

/// Runs tasks in a [`World`]. When it is dropped, and the test did not fail already, its tasks are
/// dropped and then [`World::assert_clean`] looks for leaks: a test keeps its `Sim` before
/// everything it makes with it.
#[derive(Default)]
pub struct Sim {
    world: World,
    executor: Executor,
}

impl Sim {
    /// A world in which everything happens in the plainest order.
    pub fn new() -> Sim {
        Self::default()
    }

    /// A world in which the order of events and tasks is random, the same for the same `seed`.
    pub fn with_seed(seed: u64) -> Sim {
        Sim { world: World::with_seed(seed), executor: Executor::new() }
    }

    /// The world.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// A new process in a domain: [`World::domain`].
    pub fn domain(&self, domid: u16) -> Domain {
        self.world.domain(DomId(domid))
    }

    /// Adds a task to a process: [`Spawner::spawn`].
    pub fn spawn<T: 'static>(
        &self,
        process: &Domain,
        work: impl Future<Output = T> + 'static,
    ) -> Task<T> {
        self.spawner().spawn(process, work)
    }

    /// A way to add tasks from within tasks.
    pub fn spawner(&self) -> Spawner {
        Spawner(self.executor.spawner())
    }

    /// Runs all tasks until `main`, which belongs to no process, ends. The other tasks stay for the
    /// next call.
    pub fn run<T: 'static>(&mut self, main: impl Future<Output = T> + 'static) -> T {
        let world = self.world.clone();
        self.executor.run(main, |turn| world.turn(turn))
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        drop(std::mem::take(&mut self.executor));
        if !std::thread::panicking() {
            self.world.assert_clean();
        }
    }
}

/// Adds tasks to a [`Sim`].
#[derive(Clone)]
pub struct Spawner(xen_exec::Spawner);

impl Spawner {
    /// Runs `work` as a task of `process`, with which it dies. On a dead process it is dropped
    /// unrun.
    pub fn spawn<T: 'static>(
        &self,
        process: &Domain,
        work: impl Future<Output = T> + 'static,
    ) -> Task<T> {
        let result = Rc::new(Cell::new(None));
        let slot = result.clone();
        let job = Job::new(process.0.clone(), async move { slot.set(Some(work.await)) });
        process.0.add_task(&job);
        Task { end: self.0.spawn(poll_fn(move |cx| job.poll(cx))), result, domid: process.id() }
    }
}

/// The end of a spawned task. Dropping it lets the task go on alone.
pub struct Task<T> {
    end: xen_exec::Handle<()>,
    result: Rc<Cell<Option<T>>>,
    domid: DomId,
}

impl<T> Task<T> {
    /// Waits for the task to end and takes its result. Panics if its process died first.
    pub async fn join(self) -> T {
        let domid = self.domid;
        self.outcome()
            .await
            .unwrap_or_else(|| panic!("the task died with its process in domain {domid}"))
    }

    /// Waits for the task to end and takes its result, which is `None` if its process died first.
    pub async fn outcome(self) -> Option<T> {
        self.end.join().await;
        self.result.take()
    }
}
