//! Many futures at a time in one task, of which only those are polled that were woken.

use crate::site::Failure;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

/// A future on the heap: what code that is not generic waits for.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Wakes the task, and remembers for which of its futures.
struct Bell {
    rung: AtomicBool,
    task: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref()
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

struct Member<'a, T> {
    work: Option<Boxed<'a, T>>,
    result: Option<T>,
    bell: Option<(Arc<Bell>, Waker)>,
}

impl<T> Member<'_, T> {
    /// Whether there is something left to wait for.
    fn poll(&mut self, cx: &Context<'_>) -> bool {
        let Some(work) = &mut self.work else { return false };
        if self.bell.as_ref().is_none_or(|(bell, _)| !bell.task.will_wake(cx.waker())) {
            let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: cx.waker().clone() });
            self.bell = Some((bell.clone(), bell.into()));
        }
        let Some((bell, waker)) = &self.bell else { return true };
        if !bell.rung.swap(false, Ordering::AcqRel) {
            return true;
        }
        match work.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Pending => true,
            Poll::Ready(result) => {
                (self.work, self.result) = (None, Some(result));
                false
            }
        }
    }
}

/// Runs all of `works`, which begin in their order, and returns their results in it.
pub async fn all<T>(works: Vec<Boxed<'_, T>>) -> Vec<T> {
    let mut members: Vec<_> =
        works.into_iter().map(|work| Member { work: Some(work), result: None, bell: None }).collect();
    poll_fn(|cx| {
        let waiting = members.iter_mut().filter_map(|member| member.poll(cx).then_some(())).count();
        if waiting == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    members.into_iter().filter_map(|member| member.result).collect()
}

/// Runs all of `works`, and fails with the first failure if there is one.
pub fn all_well<'a>(works: Vec<Boxed<'a, Result<(), Failure>>>) -> Boxed<'a, Result<(), Failure>> {
    Box::pin(async { all(works).await.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use core::cell::RefCell;
    use xen_platform::{EventCounter, sleep};
    use xen_sim::Sim;

    #[test]
    fn only_who_was_woken_is_polled() {
        let mut sim = Sim::new();
        let domain = sim.domain(1);
        let result = sim.run(async move {
            let (counter, trace) = (EventCounter::new(), RefCell::new(vec![]));
            let works = (0..3u32).map(|number| {
                let (domain, counter, trace) = (domain.clone(), &counter, &trace);
                Box::pin(async move {
                    trace.borrow_mut().push(number);
                    match number {
                        0 => {
                            let mut seen = 0;
                            poll_fn(|cx| {
                                trace.borrow_mut().push(9);
                                counter.poll_after(&mut seen, cx)
                            })
                            .await
                        }
                        _ => {
                            sleep(&domain, core::time::Duration::from_millis(number.into())).await;
                            if number == 2 {
                                counter.signal();
                            }
                        }
                    }
                    number * 10
                }) as Boxed<'_, u32>
            });
            let results = all(works.collect()).await;
            (results, trace.into_inner())
        });
        assert_eq!(result, (vec![0, 10, 20], vec![0, 9, 1, 2, 9]), "the first is polled again only by the signal");
    }
}
