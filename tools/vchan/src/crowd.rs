//! Futures side by side in one task, for work that borrows what a task of its own could not.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Any number of futures; dropping it drops them all.
pub(crate) struct Crowd<'a, T>(Vec<Pin<Box<dyn Future<Output = T> + 'a>>>);

impl<'a, T> Crowd<'a, T> {
    pub fn new() -> Self {
        Crowd(Vec::new())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn add(&mut self, work: impl Future<Output = T> + 'a) {
        self.0.push(Box::pin(work));
    }

    /// The result of one that has ended; pending while there is none, also if there are no futures at all.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        for at in 0..self.0.len() {
            if let Poll::Ready(done) = self.0[at].as_mut().poll(cx) {
                drop(self.0.swap_remove(at));
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::task::Waker;

    #[test]
    fn each_result_comes_once_whatever_the_others_do() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut crowd = Crowd::new();
        assert!(crowd.poll_next(&mut cx).is_pending());
        crowd.add(pending());
        crowd.add(ready(1));
        crowd.add(ready(2));
        let mut results = [crowd.poll_next(&mut cx), crowd.poll_next(&mut cx)];
        results.sort();
        assert_eq!(results, [Poll::Ready(1), Poll::Ready(2)]);
        assert!(crowd.poll_next(&mut cx).is_pending());
        assert_eq!(crowd.len(), 1);
    }
}
