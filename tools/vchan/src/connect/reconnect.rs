//! `vchan connect --reconnect`: goes on with the server's next domain.
//!
//! ```text
//!   connected ── cut off, input goes on ──> looking ── found ──> connected
//!       │                                      │
//!       └── ended in good order: done          └── not back in time: exit code 3
//! ```

use super::{Forwarded, describe, dial, forward_once};
use crate::relay::RelayConfig;
use crate::{Code, ConnectArguments, Failure, Session};
use embedded_io_async::{ErrorType, Read, Write};
use std::future::pending;
use std::time::Duration;
use xen_platform::{Platform, sleep};
use xen_vchan::Connection;

/// The interval between two looks for the server.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// An input that remembers whether its end was reached.
struct Input<I> {
    input: I,
    has_ended: bool,
}

impl<I: ErrorType> ErrorType for Input<I> {
    type Error = I::Error;
}

impl<I: Read> Read for Input<I> {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, I::Error> {
        let count = self.input.read(to).await?;
        self.has_ended |= count == 0 && !to.is_empty();
        Ok(count)
    }
}

/// Joins the streams with `connection`, and with the next one to the same place whenever it is cut
/// off while the input goes on. Fails in the end if bytes are known to be lost.
pub(super) async fn follow<P: Platform>(
    session: Session<'_, P>,
    args: &ConnectArguments,
    (mut connection, config): (Connection<P>, &RelayConfig),
    within: Duration,
    (input, mut output): (impl Read, impl Write),
) -> Result<(), Failure> {
    let mut input = Input { input, has_ended: false };
    let mut all_lost = 0;
    loop {
        let (streams, nothing) = ((&mut input, &mut output), async |_: &_| pending().await);
        let Forwarded { result, cut_off, lost } =
            forward_once(session, connection, config, args.verbose, streams, nothing).await;
        if !cut_off || input.has_ended {
            return match all_lost {
                0 => result,
                lost => result.and(Err(Failure::new(
                    Code::Gone,
                    format!("{lost} bytes were lost when the channel was cut off before"),
                ))),
            };
        }
        all_lost += lost;
        (session.report)(&format!(
            "The channel to {} was cut off, with {lost} bytes not taken; looking for it again",
            args.dial.place.domain
        ));
        connection = look(session, args, within).await?;
        (session.report)(&format!("Connected again to domain {}", connection.info().peer));
        session.report_if(args.verbose, || describe(&connection));
    }
}

/// Connects as soon as the server is there again.
async fn look<P: Platform>(
    session: Session<'_, P>,
    args: &ConnectArguments,
    within: Duration,
) -> Result<Connection<P>, Failure> {
    let until = session.platform.now() + within;
    loop {
        match dial(session.platform, session.store, &args.dial).await {
            // A domain that ends, is not there, or does not serve yet.
            Err(Failure { code: Code::Missing | Code::Gone, .. })
                if session.platform.now() < until =>
            {
                sleep(session.platform, LOOK_EVERY).await
            }
            done => return done,
        }
    }
}
