//! Having the storage do what was asked.

use super::request::{Kind, Part, Work};
use super::storage::{Error, Storage};
use xen_abi::blkif::{RSP_EOPNOTSUPP, RSP_ERROR, RSP_OKAY};

/// Does a piece of work, and notes in each of its parts how it went.
pub(super) async fn carry_out(storage: &impl Storage, mut work: Work) -> Work {
    let whole = work.parts.iter().all(|part| part.status == RSP_OKAY);
    let first = work.parts[0].sector;
    if whole {
        let outcome = act(storage, &mut work, first, None).await;
        if outcome.is_ok() || work.parts.len() == 1 {
            work.parts.iter_mut().for_each(|part| part.status = status(outcome));
            return work;
        }
    }
    // One that fails, or has no data, is not to spoil the others.
    for number in 0..work.parts.len() {
        let Part { sector, status: was, .. } = work.parts[number];
        if was == RSP_OKAY {
            let outcome = act(storage, &mut work, sector, Some(number)).await;
            work.parts[number].status = status(outcome);
        }
    }
    work
}

/// Does all of a work, or one part of it.
async fn act(storage: &impl Storage, work: &mut Work, sector: u64, part: Option<usize>) -> Result<(), Error> {
    let range = part.map_or(0..work.len(), |number| work.parts[number].bytes.clone());
    match work.kind {
        Kind::Read => storage.read(sector, &mut work.buffer.bytes_mut()[range]).await,
        Kind::Write => storage.write(sector, &work.buffer.bytes()[range]).await,
        Kind::Flush => storage.flush().await,
        Kind::Barrier if range.is_empty() => storage.flush().await,
        Kind::Barrier => {
            storage.flush().await?;
            storage.write(sector, &work.buffer.bytes()[range]).await?;
            storage.flush().await
        }
        Kind::Discard { count: 0, .. } => Ok(()),
        Kind::Discard { count, secure } => storage.discard(sector, count, secure).await,
    }
}

/// The status to answer with.
pub(super) fn status(outcome: Result<(), Error>) -> i16 {
    match outcome {
        Ok(()) => RSP_OKAY,
        Err(Error::Failed) => RSP_ERROR,
        Err(Error::Unsupported) => RSP_EOPNOTSUPP,
    }
}
