//! The platform under tokio.

use crate::Linux;
use std::convert::Infallible;
use std::io;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

impl Linux {
    /// Wakes the platform's tasks in an executor of tokio, for as long as it is polled.
    ///
    /// Without it, or [`Linux::run`], nothing of this platform ever happens: no event comes, and no
    /// deadline passes. None of the platform is [`Send`], so its tasks belong into a
    /// [`LocalSet`](tokio::task::LocalSet), and this one with them. Fails where epoll(7) or
    /// tokio's reactor cannot be had.
    pub async fn drive(&self) -> io::Result<Infallible> {
        let descriptor = self.descriptor()?.try_clone_to_owned()?;
        #[allow(deprecated, reason = "the descriptor is owned, so that it cannot be unsound here")]
        let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
        loop {
            self.dispatch();
            tokio::task::yield_now().await;
            // Edges are lost on what stays ready.
            if !self.reactor().is_ready() {
                descriptor.readable().await?.clear_ready();
            }
        }
    }
}
