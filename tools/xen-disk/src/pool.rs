//! Threads for work that waits, so that the one that serves guests does not.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};

type Job = Box<dyn FnOnce() + Send>;
type Ring = Arc<dyn Fn() + Send + Sync>;

/// A number of threads, made as they are needed.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    most: usize,
    ring: Ring,
    abandoned: AtomicBool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    idle: usize,
    closed: bool,
}

impl Pool {
    /// At most `most` threads. `ring` is called on them after a waker was, to get the waiting
    /// thread out of its sleep.
    pub fn new(most: usize, ring: impl Fn() + Send + Sync + 'static) -> Self {
        Pool {
            shared: Arc::default(),
            threads: Mutex::default(),
            most: most.max(1),
            ring: Arc::new(ring),
            abandoned: AtomicBool::new(false),
        }
    }

    /// Does `work` on a thread. It is done to its end even if nobody waits for that any more.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Work<T> {
        let slot = Arc::new(Mutex::new((None, None::<Waker>)));
        let (result, ring) = (slot.clone(), self.ring.clone());
        self.add(Box::new(move || {
            let value = work();
            let mut held = result.lock().expect("no holder panics");
            held.0 = Some(value);
            let waker = held.1.take();
            drop(held);
            if let Some(waker) = waker {
                waker.wake();
                ring();
            }
        }));
        Work(slot)
    }

    /// Does not wait for work that has not ended when this is dropped: it may never.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    fn add(&self, job: Job) {
        let mut state = self.shared.state.lock().expect("no holder panics");
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            drop(state);
            return self.shared.more.notify_one();
        }
        drop(state);
        let mut threads = self.threads.lock().expect("no holder panics");
        if threads.len() < self.most {
            let shared = self.shared.clone();
            threads.push(thread::spawn(move || shared.work()));
        }
    }
}

/// The result of work on a thread, once there is one.
pub struct Work<T>(Arc<Mutex<(Option<T>, Option<Waker>)>>);

impl<T> Future for Work<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut held = self.0.lock().expect("no holder panics");
        match held.0.take() {
            Some(value) => Poll::Ready(value),
            None => {
                held.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock().expect("no holder panics");
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.state.lock().expect("no holder panics");
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                state = self.more.wait(state).expect("no holder panics");
                state.idle -= 1;
            }
        }
    }
}

impl Drop for Pool {
    /// Waits for all work that was begun, unless it was abandoned.
    fn drop(&mut self) {
        self.shared.state.lock().expect("no holder panics").closed = true;
        self.shared.more.notify_all();
        if self.abandoned.load(Ordering::Relaxed) {
            return;
        }
        for thread in self.threads.get_mut().expect("no holder panics").drain(..) {
            thread.join().expect("work does not panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::task::Wake;

    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn wait<T>(future: impl Future<Output = T>) -> T {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut future = std::pin::pin!(future);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return value;
            }
            thread::park();
        }
    }

    #[test]
    fn work_runs_side_by_side_and_no_more_threads_than_allowed() {
        let pool = Pool::new(3, || ());
        let (send, receive) = mpsc::channel::<()>();
        let receive = Arc::new(Mutex::new(receive));
        // Two threads are stuck, and the third does all the rest.
        let stuck: Vec<_> = (0..2)
            .map(|_| {
                let receive = receive.clone();
                pool.run(move || receive.lock().unwrap().recv().unwrap())
            })
            .collect();
        let sum: u32 = (0..100).map(|n| wait(pool.run(move || n))).sum();
        assert_eq!((sum, pool.threads.lock().unwrap().len() <= 3), (4950, true));
        send.send(()).unwrap();
        send.send(()).unwrap();
        stuck.into_iter().for_each(wait);
    }

    #[test]
    fn what_was_begun_is_done_even_if_nobody_waits() {
        let done = Arc::new(AtomicUsize::new(0));
        let pool = Pool::new(2, || ());
        for _ in 0..50 {
            let done = done.clone();
            drop(pool.run(move || done.fetch_add(1, Ordering::Relaxed)));
        }
        drop(pool);
        assert_eq!(done.load(Ordering::Relaxed), 50);
    }

    #[test]
    fn work_that_never_ends_can_be_abandoned() {
        let pool = Pool::new(1, || ());
        drop(pool.run(|| {
            loop {
                thread::park();
            }
        }));
        pool.abandon();
        drop(pool);
    }
}
