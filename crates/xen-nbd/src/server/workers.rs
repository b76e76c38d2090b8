//! Threads of one client, for calls that take long.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

/// Most threads of a client.
const THREADS: usize = 16;
/// Most calls that wait for a thread.
const QUEUE: usize = 128;
/// Most bytes of data of calls that have not ended; one call may have more.
const BYTES: usize = 64 << 20;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that are made as they are needed, and end with the value.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
    less: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(usize, Job)>,
    idle: usize,
    /// Data of jobs that have not ended.
    bytes: usize,
    closed: bool,
}

impl Workers {
    pub fn new() -> Self {
        Workers { shared: Arc::default(), threads: Vec::new() }
    }

    /// Does `job`, which has `bytes` of data, on a thread. Waits while there is too much to do.
    pub fn run(&mut self, bytes: usize, job: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.state();
        let full = |state: &State| {
            state.jobs.len() >= QUEUE || (state.bytes > 0 && state.bytes + bytes > BYTES)
        };
        while full(&state) {
            state = self.shared.less.wait(state).expect("no holder panics");
        }
        state.bytes += bytes;
        state.jobs.push_back((bytes, Box::new(job)));
        if state.idle >= state.jobs.len() {
            drop(state);
            return self.shared.more.notify_one();
        }
        drop(state);
        if self.threads.len() < THREADS {
            let shared = self.shared.clone();
            match thread::Builder::new().spawn(move || shared.work()) {
                Ok(thread) => self.threads.push(thread),
                // Those that are there do it.
                Err(_) if !self.threads.is_empty() => {}
                Err(_) => self.shared.help(),
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some((bytes, job)) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.state();
                state.bytes -= bytes;
                self.less.notify_one();
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                state = self.more.wait(state).expect("no holder panics");
                state.idle -= 1;
            }
        }
    }

    /// Does what is there on this thread: no other can be made.
    fn help(&self) {
        let mut state = self.state();
        while let Some((bytes, job)) = state.jobs.pop_front() {
            drop(state);
            job();
            state = self.state();
            state.bytes -= bytes;
        }
    }
}

impl Drop for Workers {
    /// Waits for all calls.
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.more.notify_all();
        for thread in self.threads.drain(..) {
            thread.join().expect("jobs do not panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_job_ends_before_the_workers_do() {
        let (done, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut workers = Workers::new();
        for _ in 0..1000 {
            let (done, most) = (done.clone(), most.clone());
            workers.run(1 << 20, move || {
                most.fetch_max(1, Ordering::Relaxed);
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert!(workers.threads.len() <= THREADS);
        drop(workers);
        assert_eq!(done.load(Ordering::Relaxed), 1000);
    }
}
