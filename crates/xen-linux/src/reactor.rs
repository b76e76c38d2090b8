//! One poll(2) for everything the program waits for.

mod external;

use self::external::External;
use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, clock_gettime,
    timerfd_create, timerfd_settime,
};
use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use xen_exec::Turn;
use xen_platform::{Time, Timers};

/// Something that takes what its descriptor has as soon as it is there, whether a task waits for it
/// or not.
pub(crate) trait Source {
    /// The descriptor to watch for input.
    fn fd(&self) -> BorrowedFd<'_>;
    /// The descriptor is about to be looked at: the device may speak again.
    fn arm(&self);
    /// The descriptor has input. Called in every look until it has none.
    fn ready(&self);
}

/// Number of turns between two looks at descriptors and timers while tasks can move: a look costs a
/// system call, and a task that moves bytes finds more of them in shared memory.
const LOOK_EVERY: u32 = 16;

/// One task that waits for one descriptor, once.
struct Wait {
    fd: Weak<OwnedFd>,
    events: PollFlags,
    waker: Waker,
}

/// Wakes tasks when their descriptors are ready or their time has come. It owns no descriptor: what
/// is closed is forgotten.
pub(crate) struct Reactor {
    started: Timespec,
    /// The time when timers were last looked at. What is due by the true time alone is found due at
    /// the next look.
    looked: Cell<Time>,
    /// Tells when the first timer is due. It is asked only then: where the clock is a system call,
    /// a question before each wait would cost as much as the wait.
    alarm: Alarm,
    /// Turns since the last look.
    unlooked: Cell<u32>,
    timers: Timers,
    sources: RefCell<Vec<Weak<dyn Source>>>,
    waits: RefCell<Vec<Wait>>,
    /// One descriptor for all, for a program with an event loop of its own.
    external: OnceCell<External>,
    /// Kept from look to look, empty in between.
    workspace: Cell<Workspace>,
}

/// Buffers of a look.
#[derive(Default)]
struct Workspace {
    sources: Vec<Rc<dyn Source>>,
    /// The descriptors of the waits, in their order.
    waited: Vec<Rc<OwnedFd>>,
    fds: Vec<PollFd<'static>>,
}

impl Reactor {
    pub(crate) fn new() -> Self {
        Reactor {
            started: monotonic(),
            looked: Cell::default(),
            alarm: Alarm::default(),
            unlooked: Cell::new(0),
            timers: Timers::new(),
            sources: RefCell::default(),
            waits: RefCell::default(),
            external: OnceCell::new(),
            workspace: Cell::default(),
        }
    }

    /// Makes the kernel's timer, of which a later lack of descriptors can deprive nobody.
    pub(crate) fn make_timer(&self) -> Result<(), io::Error> {
        self.alarm.made().map(drop).map_err(os_error)
    }

    /// The time since the reactor was made, by CLOCK_MONOTONIC.
    pub(crate) fn now(&self) -> Time {
        let (since, now) = (self.started, monotonic());
        let nanos = (now.tv_sec - since.tv_sec) * NANOS + (now.tv_nsec - since.tv_nsec);
        Time(nanos.cast_unsigned())
    }

    /// See [`Clock::poll_until`](xen_platform::Clock::poll_until).
    pub(crate) fn poll_until(&self, at: Time, cx: &mut Context<'_>) -> Poll<()> {
        if self.looked.get() >= at {
            return Poll::Ready(());
        }
        self.timers.wake_at(at, cx);
        self.show_alarm();
        Poll::Pending
    }

    /// Watches `source` until it is dropped.
    pub(crate) fn watch(&self, source: Weak<dyn Source>) {
        self.show_source(&source);
        self.sources.borrow_mut().push(source);
    }

    /// Wakes the task at the next look at which `fd` is ready for `events`, or broken.
    fn wake_when(&self, fd: &Rc<OwnedFd>, events: PollFlags, cx: &mut Context<'_>) {
        let wait = Wait { fd: Rc::downgrade(fd), events, waker: cx.waker().clone() };
        self.waits.borrow_mut().push(wait);
        self.show_waits();
    }

    /// Returns whether the task waits already, so that there is nothing to ask the kernel.
    fn is_waiting(&self, fd: &Rc<OwnedFd>, events: PollFlags, cx: &mut Context<'_>) -> bool {
        let same = |w: &Wait| {
            w.fd.as_ptr() == Rc::as_ptr(fd) && w.events == events && w.waker.will_wake(cx.waker())
        };
        self.waits.borrow().iter().any(same)
    }

    /// Ready if `fd` is ready for `events`, or broken, at this moment: for descriptors shared with
    /// other programs, which must stay in blocking mode.
    pub(crate) fn poll_ready(
        &self,
        fd: &Rc<OwnedFd>,
        events: PollFlags,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_waiting(fd, events, cx) {
            return Poll::Pending;
        }
        match sys::poll(&mut [PollFd::new(&**fd, events)], Some(&Timespec::default())) {
            Ok(0) | Err(Errno::INTR) => {
                self.wake_when(fd, events, cx);
                Poll::Pending
            }
            Ok(_) => Poll::Ready(Ok(())),
            Err(errno) => Poll::Ready(Err(os_error(errno))),
        }
    }

    /// Hands out what has happened; if no task can move, waits for the next descriptor or timer
    /// first.
    ///
    /// # Panics
    /// If no task can move and none waits for a descriptor or a time: nothing could ever end that.
    pub(crate) fn turn(&self, turn: Turn) {
        let unlooked = self.unlooked.get() + 1;
        if turn == Turn::Busy && unlooked < LOOK_EVERY {
            self.unlooked.set(unlooked);
            return;
        }
        self.unlooked.set(0);
        if let Some(at) = self.timers.next() {
            self.alarm.set(at, self.started);
        }
        self.look(turn);
    }

    /// Wakes whose time has come.
    fn fire_timers(&self) {
        let now = self.now();
        self.looked.set(now);
        self.timers.fire(now);
    }

    /// Waits until a descriptor or a timer is ready, unless tasks can move, and hands out what is.
    fn look(&self, turn: Turn) {
        let Workspace { mut sources, mut waited, fds } = self.workspace.take();
        self.sources
            .borrow_mut()
            .retain(|source| source.upgrade().map(|source| sources.push(source)).is_some());
        self.waits
            .borrow_mut()
            .retain(|wait| wait.fd.upgrade().map(|fd| waited.push(fd)).is_some());
        let alarm = self.alarm.fd.get().filter(|_| self.timers.next().is_some());
        let nothing = sources.is_empty() && waited.is_empty() && alarm.is_none();
        assert!(
            !nothing || turn == Turn::Busy,
            "deadlock: every task waits, and none for a descriptor or a time"
        );
        sources.iter().for_each(|source| source.arm());

        let mut fds: Vec<PollFd<'_>> = emptied(fds);
        fds.extend(
            sources.iter().map(|source| PollFd::from_borrowed_fd(source.fd(), PollFlags::IN)),
        );
        fds.extend(
            waited
                .iter()
                .zip(&*self.waits.borrow())
                .map(|(fd, wait)| PollFd::new(&**fd, wait.events)),
        );
        fds.extend(alarm.map(|alarm| PollFd::new(alarm, PollFlags::IN)));
        let timeout = (turn == Turn::Busy).then(Timespec::default);
        match sys::poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            // A signal: its handler has written to the pipe that a task may wait for; the next look
            // sees it.
            Err(Errno::INTR) => fds.iter_mut().for_each(PollFd::clear_revents),
            Err(errno) => panic!("poll(2) of {} descriptors: {}", fds.len(), os_error(errno)),
        }

        self.hand_out(&fds, &sources);
        self.show_all(&sources);
        let fds = emptied(fds);
        sources.clear();
        waited.clear();
        self.workspace.set(Workspace { sources, waited, fds });
    }

    /// Tells those whose descriptor has something: sources, waits and the alarm, in this order.
    fn hand_out(&self, fds: &[PollFd<'_>], sources: &[Rc<dyn Source>]) {
        let mut fired = fds.iter().map(|fd| !fd.revents().is_empty());
        sources
            .iter()
            .zip(fired.by_ref())
            .filter(|(_, fired)| *fired)
            .for_each(|(source, _)| source.ready());
        self.waits.borrow_mut().retain(|wait| {
            let fired = fired.next().unwrap_or(false);
            if fired {
                wait.waker.wake_by_ref();
                if let Some(external) = self.external.get() {
                    external.was_ready(&wait.fd);
                }
            }
            !fired
        });
        if fired.next().unwrap_or(false) {
            self.alarm.heard();
            self.fire_timers();
        }
    }
}

/// The same memory without what is in it, for descriptors of another lifetime.
fn emptied<'new>(mut fds: Vec<PollFd<'_>>) -> Vec<PollFd<'new>> {
    fds.clear();
    fds.into_iter().map(|_| unreachable!("it is empty")).collect()
}

/// One timer of the kernel, for the first of many.
#[derive(Default)]
struct Alarm {
    /// Made when it is first needed.
    fd: OnceCell<OwnedFd>,
    /// The time that it is set to.
    at: Cell<Option<Time>>,
}

impl Alarm {
    /// Returns the timer, made now if it is not there yet.
    fn made(&self) -> Result<&OwnedFd, Errno> {
        if let Some(fd) = self.fd.get() {
            return Ok(fd);
        }
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(self.fd.get_or_init(|| fd))
    }

    /// Sets it to `at`, counted from `start`, if it is not.
    fn set(&self, at: Time, start: Timespec) {
        if self.at.replace(Some(at)) == Some(at) {
            return;
        }
        let fd = self.made().unwrap_or_else(|errno| {
            panic!("timerfd_create(2): {}; are too many files open?", os_error(errno))
        });
        let nanos = i64::try_from(at.0).unwrap_or(i64::MAX).saturating_add(start.tv_nsec);
        let seconds = start.tv_sec + nanos / NANOS;
        // Never all zero, which would switch it off: the monotonic clock has run since the machine
        // was started.
        let it_value = Timespec { tv_sec: seconds, tv_nsec: nanos % NANOS };
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        let set = timerfd_settime(fd, TimerfdTimerFlags::ABSTIME, &once);
        assert!(set.is_ok(), "timerfd_settime(2) to {at:?}: {set:?}");
    }

    /// It has rung, and does so until it is set anew: the next time is another one, or it is set to
    /// the same again.
    fn heard(&self) {
        self.at.set(None);
    }

    /// Takes the ring out of the descriptor, so that it is not ready any more.
    fn silence(&self) {
        if let Some(fd) = self.fd.get() {
            let _ = rustix::io::read(fd, &mut [0u8; 8]);
        }
    }
}

/// Nanoseconds in a second.
const NANOS: i64 = 1_000_000_000;

fn monotonic() -> Timespec {
    clock_gettime(ClockId::Monotonic)
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
        if reactor.is_waiting(fd, events, cx) {
            return Poll::Pending;
        }
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
