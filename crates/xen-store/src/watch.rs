//! Watches: being told of changes.

use crate::shared::Shared;
use crate::state::Tx;
use crate::store::payload;
use crate::{Error, Op, Store};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::{Context, Poll};

/// Tells of changes at and below a path. Dropping it ends the watch.
///
/// An event says "look again", no more: a path that changes several times before its event is taken
/// comes once, and when more different paths are waiting than are kept, one event for the watched
/// path stands for all.
pub struct Watch {
    shared: Rc<Shared>,
    path: String,
    token: u64,
    /// True if xenstored may know of it.
    set: bool,
}

impl Watch {
    pub(crate) async fn set(store: &Store, path: &str) -> Result<Watch, Error> {
        // Checked with the longest token there can be.
        payload(Op::Watch, path, &[tail(u64::MAX).as_bytes()])?;
        let shared = store.shared();
        shared.slot(Tx::NONE).await;
        let token = shared.add_watch(path);
        let mut watch = Watch { shared: shared.clone(), path: path.into(), token, set: true };
        match shared.submit(Op::Watch, Tx::NONE, &watch.request(Op::Watch)).await {
            Ok(_) => Ok(watch),
            Err(kind) => {
                watch.set = false;
                Err(Error::new(Op::Watch, path, kind))
            }
        }
    }

    /// The watched path, as it was given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Waits for the next event: the path that changed, relative if the watched one is. Fails only
    /// when the connection is over.
    pub async fn next(&mut self) -> Result<String, Error> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Ready with the next event, as [`Watch::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<String, Error>> {
        self.shared.poll_event(self.token, cx).map_err(|end| Error::new(Op::Watch, &self.path, end))
    }

    fn request(&self, op: Op) -> Vec<u8> {
        request(op, &self.path, self.token)
    }
}

/// Returns the payload of WATCH or UNWATCH, for a path that was checked when the watch was set.
pub(crate) fn request(op: Op, path: &str, token: u64) -> Vec<u8> {
    payload(op, path, &[tail(token).as_bytes()]).unwrap_or_else(|why| panic!("{why}"))
}

/// Returns the text that follows the path in WATCH and UNWATCH: the token comes last.
fn tail(token: u64) -> String {
    format!("\0{token}\0")
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.remove_watch(self.token);
        if self.set {
            let request = self.request(Op::Unwatch);
            self.shared.submit_unawaited(Op::Unwatch, Tx::NONE, &request);
        }
    }
}
