//! The request to end in good order, where dropping is not enough: a server has keys to remove.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use xen_platform::EventCounter;

/// A request to end that has been made or may come. Clones are the same request.
#[derive(Clone, Default)]
pub struct Stop(Rc<EventCounter>);

impl Stop {
    /// No request yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the request.
    pub fn request(&self) {
        self.0.signal();
    }

    /// Waits for `work`; `None` if the request comes first.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| match self.0.poll_after(&mut 0, cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => work.as_mut().poll(cx).map(Some),
        })
        .await
    }
}
