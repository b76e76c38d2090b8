//! One descriptor that stands for all the others, for event loops of other makers.

use super::{Reactor, Source, os_error};
use crate::sys;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
#[cfg(feature = "tokio")]
use rustix::event::{PollFd, Timespec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use xen_exec::Turn;

/// An epoll(7) instance that is ready while [`Reactor::dispatch`] has something to do.
pub(super) struct External {
    epoll: OwnedFd,
    /// The same as a descriptor of the standard library.
    shown: std::os::fd::OwnedFd,
    /// An eventfd(2) that makes the instance ready without a descriptor of the tasks.
    kick: OwnedFd,
    kicked: Cell<bool>,
    /// The timer is in the instance, where it stays.
    has_alarm: Cell<bool>,
    /// Descriptors of waits that stand in the instance, and have not been ready since: they need
    /// not be shown again, which would cost each event some system calls.
    standing: RefCell<Vec<(Weak<OwnedFd>, EventFlags)>>,
}

impl External {
    fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(os_error)?;
        let kick = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(os_error)?;
        let shown = rustix::io::fcntl_dupfd_cloexec(&epoll, 0).map_err(os_error)?;
        let shown = sys::to_std(shown);
        let external = External {
            epoll,
            shown,
            kick,
            kicked: Cell::new(false),
            has_alarm: Cell::new(false),
            standing: RefCell::default(),
        };
        external.show(external.kick.as_fd(), EventFlags::IN)?;
        Ok(external)
    }

    /// Adds or changes a descriptor. What is closed leaves the instance by itself.
    fn show(&self, fd: BorrowedFd<'_>, flags: EventFlags) -> io::Result<()> {
        match epoll::add(&self.epoll, fd, EventData::new_u64(0), flags) {
            Err(Errno::EXIST) => epoll::modify(&self.epoll, fd, EventData::new_u64(0), flags),
            added => added,
        }
        .map_err(os_error)
    }

    fn kick(&self) {
        if !self.kicked.replace(true) {
            let _ = rustix::io::write(&self.kick, &1u64.to_ne_bytes());
        }
    }

    fn clear_kick(&self) {
        if self.kicked.replace(false) {
            let _ = rustix::io::read(&self.kick, &mut [0u8; 8]);
        }
    }

    /// Shows a descriptor that a task waits for, unless it stands there already.
    fn show_wait(&self, fd: &Rc<OwnedFd>, flags: EventFlags) {
        let mut standing = self.standing.borrow_mut();
        let same = |held: &Weak<OwnedFd>| held.as_ptr() == Rc::as_ptr(fd);
        if standing.iter().any(|(held, shown)| same(held) && *shown == flags) {
            return;
        }
        standing.retain(|(held, _)| !same(held) && held.strong_count() > 0);
        standing.push((Rc::downgrade(fd), flags));
        self.show_or_kick(fd.as_fd(), flags);
    }

    /// A descriptor was ready, and may be in the instance no more.
    pub(super) fn was_ready(&self, fd: &Weak<OwnedFd>) {
        self.standing.borrow_mut().retain(|(held, _)| !Weak::ptr_eq(held, fd));
    }

    /// Shows a descriptor that must be seen. One that epoll(7) does not take, such as a file, is
    /// always ready.
    fn show_or_kick(&self, fd: BorrowedFd<'_>, flags: EventFlags) {
        if self.show(fd, flags).is_err() {
            self.kick();
        }
    }
}

impl Reactor {
    /// Returns the descriptor that is readable while [`Reactor::dispatch`] has something to do.
    pub(crate) fn descriptor(&self) -> io::Result<std::os::fd::BorrowedFd<'_>> {
        if self.external.get().is_none() {
            let external = External::new()?;
            external.kick();
            let _ = self.external.set(external);
            let sources: Vec<_> = self.sources.borrow().iter().filter_map(Weak::upgrade).collect();
            sources.iter().for_each(|source| self.show_source(&Rc::downgrade(source)));
            self.show_all(&sources);
        }
        Ok(std::os::fd::AsFd::as_fd(&self.external.get().expect("just made").shown))
    }

    /// Hands out what has happened, without waiting.
    pub(crate) fn dispatch(&self) {
        if let Some(external) = self.external.get() {
            external.clear_kick();
        }
        self.unlooked.set(0);
        if let Some(at) = self.timers.next() {
            self.alarm.set(at, self.started);
        }
        self.look(Turn::Busy);
    }

    /// Returns whether [`Reactor::dispatch`] has something to do.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_ready(&self) -> bool {
        let Some(external) = self.external.get() else { return true };
        let mut fds = [PollFd::new(&external.epoll, PollFlags::IN)];
        sys::poll(&mut fds, Some(&Timespec::default())) != Ok(0)
    }

    /// Makes the descriptor ready.
    pub(crate) fn kick(&self) {
        if let Some(external) = self.external.get() {
            external.kick();
        }
    }

    pub(super) fn show_source(&self, source: &Weak<dyn Source>) {
        if let (Some(external), Some(source)) = (self.external.get(), source.upgrade()) {
            external.show_or_kick(source.fd(), EventFlags::IN);
        }
    }

    /// Shows the first timer.
    pub(super) fn show_alarm(&self) {
        let (Some(external), Some(at)) = (self.external.get(), self.timers.next()) else { return };
        self.alarm.set(at, self.started);
        if let Some(fd) = self.alarm.fd.get()
            && !external.has_alarm.replace(true)
        {
            external.show_or_kick(fd.as_fd(), EventFlags::IN);
        }
    }

    /// Shows the descriptors that tasks wait for, each until it was ready once.
    pub(super) fn show_waits(&self) {
        let Some(external) = self.external.get() else { return };
        let waits = self.waits.borrow();
        for wait in waits.iter() {
            let Some(fd) = wait.fd.upgrade() else { continue };
            let same = waits.iter().filter(|other| Weak::ptr_eq(&other.fd, &wait.fd));
            let events = same.fold(PollFlags::empty(), |events, other| events | other.events);
            let mut flags = EventFlags::ONESHOT;
            flags.set(EventFlags::IN, events.contains(PollFlags::IN));
            flags.set(EventFlags::OUT, events.contains(PollFlags::OUT));
            external.show_wait(&fd, flags);
        }
    }

    /// After a look: shows what is waited for now.
    pub(super) fn show_all(&self, sources: &[Rc<dyn Source>]) {
        if self.external.get().is_none() {
            return;
        }
        if self.alarm.at.get().is_none() {
            self.alarm.silence();
        }
        self.show_alarm();
        self.show_waits();
        sources.iter().for_each(|source| source.arm());
    }
}
