//! Futures that run side by side within one task.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

/// Any number of futures; only those that were woken are polled.
pub(super) struct Flight<'a, T> {
    slots: Vec<Slot<'a, T>>,
    running: usize,
}

struct Slot<'a, T> {
    work: Option<Pin<Box<dyn Future<Output = T> + 'a>>>,
    signal: Arc<Signal>,
    waker: Waker,
}

/// Notes that one future was woken, and wakes the task of all.
struct Signal {
    ready: AtomicBool,
    task: Waker,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref()
    }
    fn wake_by_ref(self: &Arc<Self>) {
        if !self.ready.swap(true, Ordering::AcqRel) {
            self.task.wake_by_ref();
        }
    }
}

fn signal(task: &Waker) -> (Arc<Signal>, Waker) {
    let signal = Arc::new(Signal { ready: AtomicBool::new(true), task: task.clone() });
    (signal.clone(), Waker::from(signal))
}

impl<'a, T> Flight<'a, T> {
    pub fn new() -> Self {
        Flight { slots: Vec::new(), running: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.running == 0
    }

    /// Adds a future; it is first polled by the next [`Flight::poll`].
    pub fn add(&mut self, work: impl Future<Output = T> + 'a) {
        let work: Option<Pin<Box<dyn Future<Output = T> + 'a>>> = Some(Box::pin(work));
        self.running += 1;
        match self.slots.iter_mut().find(|slot| slot.work.is_none()) {
            Some(slot) => {
                slot.work = work;
                slot.signal.ready.store(true, Ordering::Release);
            }
            None => {
                let (signal, waker) = signal(Waker::noop());
                self.slots.push(Slot { work, signal, waker });
            }
        }
    }

    /// Polls those that were woken, and puts the results of those that are done into `done`.
    pub fn poll(&mut self, cx: &mut Context<'_>, done: &mut Vec<T>) {
        for slot in &mut self.slots {
            let Some(work) = &mut slot.work else { continue };
            if !slot.signal.task.will_wake(cx.waker()) {
                // Polled by another task than before: who is still to wake it must wake that one.
                (slot.signal, slot.waker) = signal(cx.waker());
            }
            if !slot.signal.ready.swap(false, Ordering::AcqRel) {
                continue;
            }
            if let Poll::Ready(result) = work.as_mut().poll(&mut Context::from_waker(&slot.waker)) {
                slot.work = None;
                self.running -= 1;
                done.push(result);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::{Cell, RefCell};
    use core::future::poll_fn;

    #[test]
    fn only_what_was_woken_is_polled() {
        let polls = [const { Cell::new(0) }; 3];
        let wakers = RefCell::new([const { None }; 3]);
        let mut flight = Flight::new();
        for number in 0..3 {
            let (polls, wakers) = (&polls, &wakers);
            flight.add(poll_fn(move |cx| {
                polls[number].set(polls[number].get() + 1);
                wakers.borrow_mut()[number] = Some(cx.waker().clone());
                if polls[number].get() == 2 { Poll::Ready(number) } else { Poll::Pending }
            }));
        }
        // A clone of a clone compares equal to it; of the no-op waker, none needs to.
        let task = signal(Waker::noop()).1.clone();
        let mut cx = Context::from_waker(&task);
        let mut done = Vec::new();
        flight.poll(&mut cx, &mut done);
        wakers.borrow_mut()[1].take().unwrap().wake();
        flight.poll(&mut cx, &mut done);
        flight.poll(&mut cx, &mut done);
        assert_eq!((polls.each_ref().map(Cell::get), done.as_slice()), ([1, 2, 1], &[1][..]));
        assert!(!flight.is_empty());
        for number in [0, 2] {
            wakers.borrow_mut()[number].take().unwrap().wake();
        }
        flight.poll(&mut cx, &mut done);
        assert!(flight.is_empty() && done == [1, 0, 2]);
    }
}
