//! Operations of the storage: one request, or several that follow each other on the disk.

use super::buffer::Buffer;
use super::request::{Kind, Request};
use crate::back::storage::{Error, Storage};
use alloc::vec::Vec;
use xen_abi::blkif::{RSP_EOPNOTSUPP, RSP_ERROR, RSP_OKAY};

/// One operation of the storage.
pub(in crate::back) struct Operation {
    pub kind: Kind,
    /// Data of all requests in a row.
    pub buffer: Buffer,
    /// The requests, in the order of the disk. There is at least one.
    pub requests: Vec<Request>,
}

/// Merges requests that follow each other on the disk into operations of up to `max` bytes.
/// Requests keep their order.
pub(in crate::back) fn merge(requests: Vec<Request>, max: usize) -> Vec<Operation> {
    let mut operations: Vec<Operation> = Vec::with_capacity(requests.len());
    let mut end = None;
    for mut request in requests {
        let (len, kind, next) = (request.len(), request.kind, (request.kind, request.end()));
        let follows =
            end == Some((kind, request.sector)) && matches!(kind, Kind::Read | Kind::Write);
        let last = operations.last_mut().filter(|last| follows && last.len() + len <= max);
        let start = last.as_ref().map_or(0, |last| last.len());
        request.bytes = start..start + len;
        match last {
            Some(last) => last.requests.push(request),
            None => operations.push(Operation {
                kind,
                buffer: Buffer::default(),
                requests: alloc::vec![request],
            }),
        }
        end = Some(next);
    }
    operations
}

impl Operation {
    /// Returns the number of bytes of its requests.
    pub fn len(&self) -> usize {
        self.requests.last().map_or(0, |request| request.bytes.end)
    }

    /// Tells if other operations may be carried out beside it.
    pub fn may_be_passed(&self) -> bool {
        !matches!(self.kind, Kind::Barrier | Kind::Flush)
    }

    /// Tells if it needs the frontend's data before it is carried out.
    pub fn brings_data(&self) -> bool {
        matches!(self.kind, Kind::Write | Kind::Barrier)
    }

    /// Carries all of it out, or one of its requests.
    async fn act(
        &mut self,
        storage: &impl Storage,
        sector: u64,
        request: Option<usize>,
    ) -> Result<(), Error> {
        let range = request.map_or(0..self.len(), |number| self.requests[number].bytes.clone());
        match self.kind {
            Kind::Read => storage.read(sector, &mut self.buffer.bytes_mut()[range]).await,
            Kind::Write => storage.write(sector, &self.buffer.bytes()[range]).await,
            Kind::Flush => storage.flush().await,
            Kind::Barrier if range.is_empty() => storage.flush().await,
            Kind::Barrier => {
                storage.flush().await?;
                storage.write(sector, &self.buffer.bytes()[range]).await?;
                storage.flush().await
            }
            Kind::Discard { count: 0, .. } => Ok(()),
            Kind::Discard { count, secure } => storage.discard(sector, count, secure).await,
        }
    }
}

/// Carries an operation out and sets the status of each of its requests.
pub(in crate::back) async fn carry_out(
    storage: &impl Storage,
    mut operation: Operation,
) -> Operation {
    let whole = operation.requests.iter().all(|request| request.status == RSP_OKAY);
    let first = operation.requests[0].sector;
    if whole {
        let outcome = operation.act(storage, first, None).await;
        if outcome.is_ok() || operation.requests.len() == 1 {
            let status = status(outcome);
            operation.requests.iter_mut().for_each(|request| request.status = status);
            return operation;
        }
    }
    // A request that fails, or has no data, must not spoil the others.
    for number in 0..operation.requests.len() {
        let Request { sector, status: before, .. } = operation.requests[number];
        if before == RSP_OKAY {
            let outcome = operation.act(storage, sector, Some(number)).await;
            operation.requests[number].status = status(outcome);
        }
    }
    operation
}

/// Returns the status to respond with.
pub(in crate::back) fn status(outcome: Result<(), Error>) -> i16 {
    match outcome {
        Ok(()) => RSP_OKAY,
        Err(Error::Failed) => RSP_ERROR,
        Err(Error::Unsupported) => RSP_EOPNOTSUPP,
    }
}
