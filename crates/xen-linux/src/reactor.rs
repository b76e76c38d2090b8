//! One poll(2) for everything the program waits for.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::cell::RefCell;
use std::io;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use xen_exec::Turn;
use xen_platform::{Time, Timers};

/// Something that takes what its descriptor has as soon as it is there, whether a task waits for it or not.
pub(crate) trait Source {
    /// The descriptor to watch for input.
    fn fd(&self) -> BorrowedFd<'_>;
    /// The descriptor has input. Called in every turn until it has none.
    fn ready(&self);
}

/// One task that waits for one descriptor, once.
struct Wait {
    fd: Weak<OwnedFd>,
    events: PollFlags,
    waker: Waker,
}

/// Wakes tasks when their descriptors are ready or their time has come. It owns no descriptor: what is closed is
/// forgotten.
pub(crate) struct Reactor {
    started: Instant,
    timers: Timers,
    sources: RefCell<Vec<Weak<dyn Source>>>,
    waits: RefCell<Vec<Wait>>,
}

impl Reactor {
    pub(crate) fn new() -> Self {
        Reactor {
            started: Instant::now(),
            timers: Timers::new(),
            sources: RefCell::default(),
            waits: RefCell::default(),
        }
    }

    /// The time since the reactor was made, by CLOCK_MONOTONIC.
    pub(crate) fn now(&self) -> Time {
        Time::default() + self.started.elapsed()
    }

    /// See [`Clock::poll_until`](xen_platform::Clock::poll_until).
    pub(crate) fn poll_until(&self, at: Time, cx: &mut Context<'_>) -> Poll<()> {
        if self.now() >= at {
            return Poll::Ready(());
        }
        self.timers.wake_at(at, cx);
        Poll::Pending
    }

    /// Watches `source` until it is dropped.
    pub(crate) fn watch(&self, source: Weak<dyn Source>) {
        self.sources.borrow_mut().push(source);
    }

    /// Wakes the task at the next turn in which `fd` is ready for `events`, or broken.
    pub(crate) fn wake_when(&self, fd: &Rc<OwnedFd>, events: PollFlags, cx: &mut Context<'_>) {
        let mut waits = self.waits.borrow_mut();
        let same = |w: &Wait| w.fd.as_ptr() == Rc::as_ptr(fd) && w.events == events && w.waker.will_wake(cx.waker());
        if !waits.iter().any(same) {
            waits.push(Wait { fd: Rc::downgrade(fd), events, waker: cx.waker().clone() });
        }
    }

    /// Ready if `fd` is ready for `events`, or broken, at this moment: for descriptors shared with other programs, which
    /// must stay in blocking mode.
    pub(crate) fn poll_ready(&self, fd: &Rc<OwnedFd>, events: PollFlags, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match poll(&mut [PollFd::new(&**fd, events)], Some(&Timespec::default())) {
            Ok(0) | Err(Errno::INTR) => {
                self.wake_when(fd, events, cx);
                Poll::Pending
            }
            Ok(_) => Poll::Ready(Ok(())),
            Err(errno) => Poll::Ready(Err(os_error(errno))),
        }
    }

    /// Hands out what has happened; if no task can move, waits for the next descriptor or timer first.
    ///
    /// # Panics
    /// If no task can move and none waits for a descriptor or a time: nothing could ever end that.
    pub(crate) fn turn(&self, turn: Turn) {
        let due = self.timers.fire(self.now());
        let sources = self.live_sources();
        let waits = self.live_waits();
        let timeout = match (turn, due) {
            (Turn::Idle, false) => self.timers.next().map(|at| timespec(at.since(self.now()))),
            _ => Some(Timespec::default()),
        };
        let nothing = sources.is_empty() && waits.is_empty();
        assert!(!nothing || timeout.is_some(), "deadlock: every task waits, and none for a descriptor or a time");

        let mut fds: Vec<PollFd<'_>> =
            sources.iter().map(|s| PollFd::from_borrowed_fd(s.fd(), PollFlags::IN)).collect();
        fds.extend(waits.iter().map(|(fd, wait)| PollFd::new(&**fd, wait.events)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            // A signal: its handler has written to the pipe that a task may wait for; the next turn sees it.
            Err(Errno::INTR) => fds.iter_mut().for_each(PollFd::clear_revents),
            Err(errno) => panic!("poll(2) of {} descriptors: {}", fds.len(), os_error(errno)),
        }
        let fired: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);

        let (of_sources, of_waits) = fired.split_at(sources.len());
        sources.iter().zip(of_sources).filter(|(_, fired)| **fired).for_each(|(source, _)| source.ready());
        self.wake_waits(waits, of_waits);
        self.timers.fire(self.now());
    }

    fn live_sources(&self) -> Vec<Rc<dyn Source>> {
        let mut sources = self.sources.borrow_mut();
        sources.retain(|source| source.strong_count() > 0);
        sources.iter().filter_map(Weak::upgrade).collect()
    }

    fn live_waits(&self) -> Vec<(Rc<OwnedFd>, Wait)> {
        let waits = self.waits.take();
        waits.into_iter().filter_map(|wait| wait.fd.upgrade().map(|fd| (fd, wait))).collect()
    }

    /// Wakes those whose descriptor fired; the others go on waiting.
    fn wake_waits(&self, waits: Vec<(Rc<OwnedFd>, Wait)>, fired: &[bool]) {
        let mut waiting = self.waits.borrow_mut();
        for ((_, wait), fired) in waits.into_iter().zip(fired) {
            if *fired { wait.waker.wake() } else { waiting.push(wait) }
        }
    }
}

fn timespec(after: Duration) -> Timespec {
    Timespec { tv_sec: after.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: after.subsec_nanos().into() }
}

/// The same error as the standard library's, which knows its text.
pub(crate) fn os_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw_os_error())
}

/// Runs `work` as a task, asking `try_now` until it does not say that it would block.
pub(crate) async fn retry<T>(
    reactor: &Reactor,
    fd: &Rc<OwnedFd>,
    events: PollFlags,
    mut try_now: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<T>,
) -> io::Result<T> {
    std::future::poll_fn(|cx| {
        loop {
            match try_now(fd.as_fd()) {
                Ok(done) => return Poll::Ready(Ok(done)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    reactor.wake_when(fd, events, cx);
                    return Poll::Pending;
                }
                Err(errno) => return Poll::Ready(Err(os_error(errno))),
            }
        }
    })
    .await
}
