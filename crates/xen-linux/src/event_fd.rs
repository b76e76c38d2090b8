//! A wake-up for the thread that runs the tasks, which may be asleep in poll(2) while another
//! thread wakes one of them.

use crate::reactor::{Source, os_error};
use crate::{Linux, sys};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The waiting end of a doorbell (eventfd(2)), in the thread that runs the tasks. Rings count for
/// as long as it exists.
pub struct EventFd(Rc<Wakeups>);

/// The ringing end, for any thread. Clones are the same doorbell.
#[derive(Clone)]
pub struct Doorbell(Arc<Shared>);

struct Wakeups(Arc<Shared>);

struct Shared {
    fd: OwnedFd,
    /// It was rung, and not heard yet: once is enough.
    rung: AtomicBool,
}

impl EventFd {
    /// Creates the end that `linux` waits on.
    pub fn new(linux: &Linux) -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(os_error)?;
        let wakeups = Rc::new(Wakeups(Arc::new(Shared { fd, rung: AtomicBool::new(false) })));
        let source: Rc<dyn Source> = wakeups.clone();
        linux.reactor().watch(Rc::downgrade(&source));
        Ok(EventFd(wakeups))
    }

    /// Returns the ringing end.
    pub fn doorbell(&self) -> Doorbell {
        Doorbell(self.0.0.clone())
    }
}

impl Doorbell {
    /// Ends the poll(2) of the other thread. To be called after a task's waker, which does not.
    pub fn ring(&self) {
        if !self.0.rung.swap(true, Ordering::SeqCst) {
            // The counter of an eventfd takes far more than the one ring that it has at a time.
            let _ = rustix::io::write(&self.0.fd, &1u64.to_ne_bytes());
        }
    }
}

impl Source for Wakeups {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    fn arm(&self) {}

    /// Empties the counter and then takes rings again. A ring in between is heard all the same:
    /// the other thread has woken the task before, and tasks are looked at after this.
    fn ready(&self) {
        let _ = sys::read(&self.0.fd, &mut [0u8; 8]);
        self.0.rung.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::Mutex;
    use std::task::{Poll, Waker};
    use std::thread;

    #[test]
    fn another_thread_wakes_a_task() {
        let linux = Linux::new();
        let event_fd = EventFd::new(&linux).unwrap();
        // How often the thread was asked, how often it answered, and whom to wake.
        let shared = Arc::new(Mutex::new((0, 0, None::<Waker>)));
        let (theirs, doorbell) = (shared.clone(), event_fd.doorbell());
        let answering = thread::spawn(move || {
            loop {
                let mut held = theirs.lock().unwrap();
                if held.0 > held.1 {
                    held.1 = held.0;
                    held.2.take().unwrap().wake();
                    drop(held);
                    doorbell.ring();
                    if theirs.lock().unwrap().1 == 1000 {
                        return;
                    }
                }
                thread::yield_now();
            }
        });
        linux.run(|_| async move {
            for round in 1..=1000 {
                poll_fn(|cx| {
                    let mut held = shared.lock().unwrap();
                    (held.0, held.2) = (round, Some(cx.waker().clone()));
                    if held.1 == round { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
        });
        answering.join().unwrap();
        drop(event_fd);
    }
}
