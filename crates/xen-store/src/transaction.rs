//! Transactions: all of it or nothing, and again if somebody else was faster.

use crate::reply::Answer;
use crate::store::mismatch;
use crate::{Error, ErrorKind, Op, Store};

/// How often a transaction is tried before giving up. Each failure means that somebody else's succeeded.
const ATTEMPTS: usize = 64;

impl Store {
    /// Runs `body` in a transaction and commits what it wrote, or nothing of it if it fails or the future is dropped.
    ///
    /// `body` must use the handle it is given. When other clients changed what it had read or written, all is undone and
    /// `body` runs again; after 64 attempts the error is [`ErrorKind::Again`]. Watches fire on commit.
    ///
    /// Panics if this handle is already one of a transaction: they do not nest.
    pub async fn transaction<T>(&self, mut body: impl AsyncFnMut(&Store) -> Result<T, Error>) -> Result<T, Error> {
        for _ in 0..ATTEMPTS {
            let open = Open::start(self).await?;
            let value = body(&open.store).await?;
            if open.commit().await? {
                return Ok(value);
            }
        }
        Err(Error::new(Op::EndTransaction, "", ErrorKind::Again))
    }
}

/// A transaction that is neither committed nor undone; dropping it undoes it.
struct Open {
    store: Store,
    undo: bool,
}

impl Open {
    async fn start(store: &Store) -> Result<Self, Error> {
        assert_eq!(store.tx(), 0, "transactions do not nest");
        store.shared().slot().await;
        match store.shared().submit(Op::StartTransaction, 0, b"\0").await {
            Ok(Answer::Transaction(tx)) => Ok(Open { store: store.within(tx), undo: true }),
            Ok(_) => mismatch(),
            Err(kind) => Err(Error::new(Op::StartTransaction, "", kind)),
        }
    }

    /// Commits; false if others were faster.
    async fn commit(mut self) -> Result<bool, Error> {
        self.store.shared().slot().await;
        self.undo = false;
        match self.store.shared().submit(Op::EndTransaction, self.store.tx(), b"T\0").await {
            Ok(_) => Ok(true),
            Err(ErrorKind::Again) => Ok(false),
            Err(kind) => Err(Error::new(Op::EndTransaction, "", kind)),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.undo {
            self.store.shared().submit_unawaited(Op::EndTransaction, self.store.tx(), b"F\0");
        }
    }
}
