#![doc = include_str!("../README.md")]
//! Runs futures on one thread, and lets the platform sleep when none can move.
//!
//! [`Executor::run`] polls every task whose waker was called; between two rounds it calls the
//! platform's `turn` function, which hands out events that came meanwhile and, if it is told that
//! nothing can move, waits for the next. It knows neither Xen nor time.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod task_set;

pub use task_set::{Boxed, TaskSet, join_all};

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::{Rc, Weak};
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Set when the task's waker is called, cleared when the task is polled.
struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref()
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Release)
    }
}

struct Task {
    work: Work,
    ready: Arc<Ready>,
    waker: Waker,
}

impl Task {
    fn new(work: Work) -> Self {
        let ready = Arc::new(Ready(AtomicBool::new(true)));
        Task { work, waker: Waker::from(ready.clone()), ready }
    }

    fn is_woken(&self) -> bool {
        self.ready.0.load(Ordering::Acquire)
    }

    /// Polls the task if it was woken; says whether it is done.
    fn poll(&mut self) -> bool {
        // A plain look first: most tasks were not woken. Taken back before it is polled: a
        // wake-up meanwhile, also from another thread, means the next round.
        if !self.is_woken() || !self.ready.0.swap(false, Ordering::AcqRel) {
            return false;
        }
        self.work.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready()
    }
}

type NewTasks = RefCell<VecDeque<Work>>;

/// Hands tasks to an [`Executor`]; clones hand them to the same one.
#[derive(Clone)]
pub struct Spawner(Weak<NewTasks>);

impl Spawner {
    /// Runs `work` beside the other tasks, from the next round on. Once the executor is gone it is
    /// dropped unrun.
    pub fn spawn<T: 'static>(&self, work: impl Future<Output = T> + 'static) -> Handle<T> {
        let slot = Rc::new(Slot { value: Cell::new(None), waiting: Cell::new(None) });
        let result = slot.clone();
        let work: Work = Box::pin(async move {
            result.value.set(Some(work.await));
            if let Some(waker) = result.waiting.take() {
                waker.wake();
            }
        });
        if let Some(new) = self.0.upgrade() {
            new.borrow_mut().push_back(work);
        }
        Handle(slot)
    }
}

struct Slot<T> {
    value: Cell<Option<T>>,
    waiting: Cell<Option<Waker>>,
}

/// The result of a spawned task. Dropping it lets the task go on alone.
pub struct Handle<T>(Rc<Slot<T>>);

impl<T> Handle<T> {
    /// Waits for the task to end and takes its result.
    pub async fn join(self) -> T {
        poll_fn(|cx| match self.0.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                self.0.waiting.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}

/// Permission for a `turn` to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Tasks can move: hand out what events came and return at once.
    Busy,
    /// No task can move: wait until an event or a timer wakes one.
    Idle,
}

/// Tasks that run on one thread.
#[derive(Default)]
pub struct Executor {
    tasks: Vec<Task>,
    new: Rc<NewTasks>,
}

impl Executor {
    /// An executor without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// A way to add tasks, also from within tasks.
    pub fn spawner(&self) -> Spawner {
        Spawner(Rc::downgrade(&self.new))
    }

    /// Runs all tasks until `main` ends, and returns its result; the other tasks stay and go on at
    /// the next call.
    pub fn run<T: 'static>(
        &mut self,
        main: impl Future<Output = T> + 'static,
        mut turn: impl FnMut(Turn),
    ) -> T {
        let result = self.spawner().spawn(main).0;
        loop {
            self.round();
            if let Some(value) = result.value.take() {
                return value;
            }
            // Asked, not found out by a round in vain: that would cost each event as much again.
            turn(if self.can_move() { Turn::Busy } else { Turn::Idle });
        }
    }

    /// Runs what can move now, for at most `rounds` rounds, and waits for nothing.
    pub fn run_ready(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.round();
            if !self.can_move() {
                break;
            }
        }
    }

    /// Takes new tasks in, and polls every task that was woken, once.
    fn round(&mut self) {
        while let Some(work) = self.new.borrow_mut().pop_front() {
            self.tasks.push(Task::new(work));
        }
        self.tasks.retain_mut(|task| !task.poll());
    }

    fn can_move(&self) -> bool {
        !self.new.borrow().is_empty() || self.tasks.iter().any(Task::is_woken)
    }
}

/// Lets every other task that can move do so first.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if core::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_take_turns_and_results_come_back() {
        let mut exec = Executor::new();
        let trace = Rc::new(RefCell::new(Vec::new()));
        let spawner = exec.spawner();
        let sum = exec.run(
            {
                let trace = trace.clone();
                async move {
                    let tasks: Vec<_> = (1..=3)
                        .map(|n| {
                            let trace = trace.clone();
                            spawner.spawn(async move {
                                for step in 0..2 {
                                    trace.borrow_mut().push((n, step));
                                    yield_now().await;
                                }
                                n
                            })
                        })
                        .collect();
                    let mut sum = 0;
                    for task in tasks {
                        sum += task.join().await;
                    }
                    sum
                }
            },
            |turn| assert_eq!(turn, Turn::Busy),
        );
        assert_eq!(sum, 6);
        assert_eq!(*trace.borrow(), [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (3, 1)]);
    }

    #[test]
    fn ready_tasks_run_without_a_wait_and_no_longer_than_told() {
        let mut exec = Executor::new();
        let steps = Rc::new(Cell::new(0));
        let counted = steps.clone();
        exec.spawner().spawn(async move {
            for _ in 0..5 {
                counted.set(counted.get() + 1);
                yield_now().await;
            }
            core::future::pending::<()>().await
        });
        exec.run_ready(3);
        assert_eq!(steps.get(), 3);
        exec.run_ready(100);
        assert_eq!(steps.get(), 5);
    }

    #[test]
    fn idle_is_said_only_when_nothing_can_move() {
        let mut exec = Executor::new();
        let waker = Rc::new(RefCell::new(None::<Waker>));
        let slot = waker.clone();
        let mut polls = 0;
        let work = poll_fn(move |cx| {
            polls += 1;
            *slot.borrow_mut() = Some(cx.waker().clone());
            if polls == 3 { Poll::Ready(polls) } else { Poll::Pending }
        });
        let mut idle = 0;
        let polls = exec.run(work, |turn| {
            if turn == Turn::Idle {
                idle += 1;
                waker.borrow().as_ref().unwrap().wake_by_ref();
            }
        });
        assert_eq!((polls, idle), (3, 2));
    }
}
