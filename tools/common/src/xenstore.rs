//! Requests to xenstore, which answers at once or, if it hangs, not at all.

use crate::{Code, Failure};
use std::future::Future;
use std::time::Duration;
use xen_platform::{Clock, Time, deadline};

/// Time limit of all requests that a command makes in one go.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Waits for the answer to `requests`, ten seconds at most.
pub async fn answered<T, E: Into<Failure>>(
    clock: &impl Clock,
    requests: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    answered_until(clock, clock.now() + TIMEOUT, requests).await
}

/// Waits for the answer to `requests`, at most until `until`.
pub async fn answered_until<T, E: Into<Failure>>(
    clock: &impl Clock,
    until: Time,
    requests: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match deadline(clock, Some(until), requests).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(Failure::new(Code::Other, "xenstore does not answer: is xenstored running?")),
    }
}
