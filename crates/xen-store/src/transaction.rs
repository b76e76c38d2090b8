//! Transactions: all of it or nothing, and again if somebody else was faster.

use crate::reply::Answer;
use crate::shared::Shared;
use crate::state::{State, Tx};
use crate::store::mismatch;
use crate::{Error, ErrorKind, Op, Store};
use alloc::rc::Rc;
use core::future::poll_fn;

/// Attempts at a transaction before giving up. Each failure means that somebody else's
/// succeeded. As many at a request whose answer was lost with its stream.
pub(crate) const ATTEMPTS: usize = 64;

/// Transactions that one connection has open at a time; more wait for their turn. xenstored lets a
/// domain have 10 (`quota_max_transaction`), which all of its programs share.
const MAX_OPEN: usize = 4;

/// Attempts to start a transaction while the domain's quota is used up by its other programs.
const START_ATTEMPTS: usize = 256;

impl Store {
    /// Runs `body` in a transaction and commits what it wrote, or nothing of it if it fails or the
    /// future is dropped.
    ///
    /// `body` must use the handle it is given. When other clients changed what it had read or
    /// written, all is undone and `body` runs again; after 64 attempts the error is
    /// [`ErrorKind::Again`]. Watches fire on commit. A connection has four transactions open at a
    /// time; more wait for their turn.
    ///
    /// Panics if this handle is already one of a transaction: they do not nest.
    pub async fn transaction<T>(
        &self,
        mut body: impl AsyncFnMut(&Store) -> Result<T, Error>,
    ) -> Result<T, Error> {
        for _ in 0..ATTEMPTS {
            let open = Open::start(self).await?;
            let value = match body(&open.store).await {
                // It was over before its end, with its stream.
                Err(error) if matches!(error.kind, ErrorKind::Again) => continue,
                done => done?,
            };
            if open.commit().await? {
                return Ok(value);
            }
        }
        Err(Error::new(Op::EndTransaction, "", ErrorKind::Again))
    }
}

/// True if the domain has as many transactions open as it may (xenstored says ENOSPC, oxenstored
/// EQUOTA), or the stream was another before the answer came.
fn may_pass(kind: &ErrorKind) -> bool {
    match kind {
        ErrorKind::NoSpace | ErrorKind::Again => true,
        ErrorKind::Other(name) => name == "EQUOTA",
        _ => false,
    }
}

/// A transaction that is neither committed nor undone; dropping it undoes it.
struct Open {
    store: Store,
    undo: bool,
    _counted: Counted,
}

/// One of the open transactions, from before its start until after its end.
struct Counted(Rc<Shared>);

impl Counted {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.0.borrow_mut().transactions += 1;
        Counted(shared.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.change(|state| state.transactions -= 1);
    }
}

impl Open {
    async fn start(store: &Store) -> Result<Self, Error> {
        assert!(store.tx() == Tx::NONE, "transactions do not nest");
        let shared = store.shared();
        let turn = |state: &State| {
            state.end.is_some() || (state.has_slot(Tx::NONE) && state.transactions < MAX_OPEN)
        };
        poll_fn(|cx| shared.poll_state(cx, turn)).await;
        let counted = Counted::new(shared);
        for attempt in 1.. {
            shared.slot(Tx::NONE).await;
            match shared.submit(Op::StartTransaction, Tx::NONE, b"\0").await {
                Ok(Answer::Transaction(id)) => {
                    let tx = Tx { id, stream: shared.0.borrow().streams };
                    return Ok(Open { store: store.within(tx), undo: true, _counted: counted });
                }
                Ok(_) => mismatch(),
                Err(kind) if may_pass(&kind) && attempt < START_ATTEMPTS => {}
                Err(kind) => return Err(Error::new(Op::StartTransaction, "", kind)),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Commits; false if others were faster.
    async fn commit(mut self) -> Result<bool, Error> {
        self.store.shared().slot(self.store.tx()).await;
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
