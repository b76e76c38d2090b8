//! Questions to xenstore, which answers at once or, if it hangs, not at all.

use crate::{Code, Failure};
use std::future::Future;
use std::time::Duration;
use xen_platform::{Clock, Time, deadline};

/// How long all that a command asks of xenstore in one go may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for the answer to some questions, but not for ever.
pub(crate) async fn answered<T, E: Into<Failure>>(
    clock: &impl Clock,
    questions: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    answered_until(clock, clock.now() + PATIENCE, questions).await
}

/// The same, at most until `until`.
pub(crate) async fn answered_until<T, E: Into<Failure>>(
    clock: &impl Clock,
    until: Time,
    questions: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match deadline(clock, Some(until), questions).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(Failure::new(Code::Other, "xenstore does not answer: is xenstored running?")),
    }
}
