//! Many futures side by side within one task.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::ops::ControlFlow;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

/// A future on the heap.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A set of futures that run within the task that polls the set. They may borrow what a task of
/// their own could not, and only those whose waker was called are polled.
///
/// Dropping the set drops its futures.
pub struct TaskSet<'a, T> {
    slots: Vec<Slot<'a, T>>,
    running: usize,
}

struct Slot<'a, T> {
    work: Option<Boxed<'a, T>>,
    woken: Arc<Woken>,
    waker: Waker,
}

impl<'a, T> Slot<'a, T> {
    fn new(work: Boxed<'a, T>) -> Self {
        let (woken, waker) = Woken::new(Waker::noop());
        Slot { work: Some(work), woken, waker }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        if !self.woken.task.will_wake(cx.waker()) {
            // Another task polls the set now: it is the one to wake.
            (self.woken, self.waker) = Woken::new(cx.waker());
        }
        if !self.woken.flag.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let polled = work.as_mut().poll(&mut Context::from_waker(&self.waker));
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

/// Remembers that one future was woken, and wakes the task of the set.
struct Woken {
    flag: AtomicBool,
    task: Waker,
}

impl Woken {
    fn new(task: &Waker) -> (Arc<Self>, Waker) {
        let woken = Arc::new(Woken { flag: AtomicBool::new(true), task: task.clone() });
        (woken.clone(), Waker::from(woken))
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref()
    }
    fn wake_by_ref(self: &Arc<Self>) {
        if !self.flag.swap(true, Ordering::AcqRel) {
            self.task.wake_by_ref();
        }
    }
}

impl<T> Default for TaskSet<'_, T> {
    fn default() -> Self {
        TaskSet { slots: Vec::new(), running: 0 }
    }
}

impl<'a, T> TaskSet<'a, T> {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of futures that have not ended.
    pub fn len(&self) -> usize {
        self.running
    }

    /// True if all futures have ended.
    pub fn is_empty(&self) -> bool {
        self.running == 0
    }

    /// Adds a future. The next poll of the set polls it first.
    pub fn push(&mut self, work: impl Future<Output = T> + 'a) {
        self.push_boxed(Box::pin(work));
    }

    /// Adds a future that is on the heap already.
    pub fn push_boxed(&mut self, work: Boxed<'a, T>) {
        self.running += 1;
        match self.slots.iter_mut().find(|slot| slot.work.is_none()) {
            Some(slot) => {
                slot.work = Some(work);
                slot.woken.flag.store(true, Ordering::Release);
            }
            None => self.slots.push(Slot::new(work)),
        }
    }

    /// Returns the result of a future that has ended. Pending while there is none, also for an
    /// empty set.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        match self.poll_slots(cx, |_, result| ControlFlow::Break(result)) {
            ControlFlow::Break(result) => Poll::Ready(result),
            ControlFlow::Continue(()) => Poll::Pending,
        }
    }

    /// Waits for a future to end and returns its result. Stays pending for an empty set.
    pub async fn next(&mut self) -> T {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Polls every future that was woken and appends the results of those that have ended to
    /// `done`.
    pub fn poll_all(&mut self, cx: &mut Context<'_>, done: &mut Vec<T>) {
        let _ = self.poll_slots(cx, |_, result| {
            done.push(result);
            ControlFlow::<()>::Continue(())
        });
    }

    fn poll_slots<B>(
        &mut self,
        cx: &mut Context<'_>,
        mut ended: impl FnMut(usize, T) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Poll::Ready(result) = slot.poll(cx) {
                self.running -= 1;
                ended(index, result)?;
            }
        }
        ControlFlow::Continue(())
    }
}

/// Runs all of `works`, which start in their order, and returns their results in it.
pub async fn join_all<T>(works: Vec<Boxed<'_, T>>) -> Vec<T> {
    let mut results: Vec<Option<T>> = works.iter().map(|_| None).collect();
    let mut set = TaskSet::new();
    works.into_iter().for_each(|work| set.push_boxed(work));
    poll_fn(|cx| {
        let _ = set.poll_slots(cx, |index, result| {
            results[index] = Some(result);
            ControlFlow::<()>::Continue(())
        });
        if set.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use core::cell::{Cell, RefCell};
    use core::future::{pending, ready};

    #[test]
    fn next_returns_each_result_once_beside_pending_futures() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut set = TaskSet::new();
        assert!(set.poll_next(&mut cx).is_pending());
        set.push(pending());
        set.push(ready(1));
        set.push(ready(2));
        let mut results = [set.poll_next(&mut cx), set.poll_next(&mut cx)];
        results.sort();
        assert_eq!(results, [Poll::Ready(1), Poll::Ready(2)]);
        assert!(set.poll_next(&mut cx).is_pending());
        assert_eq!(set.len(), 1);
    }

    #[test]
    fn only_woken_futures_are_polled() {
        let polls = [const { Cell::new(0) }; 3];
        let wakers = RefCell::new([const { None }; 3]);
        let mut set = TaskSet::new();
        for number in 0..3 {
            let (polls, wakers) = (&polls, &wakers);
            set.push(poll_fn(move |cx| {
                polls[number].set(polls[number].get() + 1);
                wakers.borrow_mut()[number] = Some(cx.waker().clone());
                if polls[number].get() == 2 { Poll::Ready(number) } else { Poll::Pending }
            }));
        }
        // Two clones of the no-op waker need not compare equal; a clone of this one does.
        let task = Woken::new(Waker::noop()).1;
        let mut cx = Context::from_waker(&task);
        let mut done = Vec::new();
        set.poll_all(&mut cx, &mut done);
        wakers.borrow_mut()[1].take().unwrap().wake();
        set.poll_all(&mut cx, &mut done);
        set.poll_all(&mut cx, &mut done);
        assert_eq!((polls.each_ref().map(Cell::get), done.as_slice()), ([1, 2, 1], &[1][..]));
        assert!(!set.is_empty());
        for number in [0, 2] {
            wakers.borrow_mut()[number].take().unwrap().wake();
        }
        set.poll_all(&mut cx, &mut done);
        assert!(set.is_empty() && done == [1, 0, 2]);
    }

    #[test]
    fn join_all_returns_results_in_order_of_the_works() {
        let polls = Cell::new(0);
        let late = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            if polls.get() == 2 {
                return Poll::Ready(1);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        let works: Vec<Boxed<'_, i32>> = vec![Box::pin(late), Box::pin(ready(2))];
        let mut joined = core::pin::pin!(join_all(works));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(joined.as_mut().poll(&mut cx).is_pending());
        assert_eq!(joined.as_mut().poll(&mut cx), Poll::Ready(vec![1, 2]));
    }
}
