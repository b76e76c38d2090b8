//! The waits of a relay that could last for ever although the peer lives, or although it is gone.

use super::{Between, Ending, Progress, Stopped};
use crate::{Code, Failure};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use xen_platform::{Elapsed, Platform, Time, deadline};
use xen_vchan::{Connection, Error, Live};

/// How often a delivery that takes its time looks whether the peer is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Waits for `work`, of the way to the peer. Fails if the peer has to react within some time and does not: it may have
/// published its channel, and hang. What takes long after the first sign of it is its own affair.
pub(super) async fn heard<P: Platform, T>(
    platform: &P,
    connection: &Connection<P>,
    between: &Between,
    progress: &Progress,
    mut work: impl AsyncFnMut() -> Result<T, Error<P::Error>>,
) -> Result<T, Stopped<P::Error>> {
    loop {
        // Without asking the page: what is known already, so that a long transfer runs no timers.
        if progress.received.get() > 0 || progress.sent.get() > ring(connection) {
            progress.reacted.set(true);
        }
        let limit = between.reaction.filter(|_| !progress.reacted.get());
        match deadline(platform, limit.map(|limit| platform.now() + limit), work()).await {
            Ok(done) => return done.map_err(Stopped::Connection),
            Err(Elapsed) if has_reacted(connection, progress).map_err(Stopped::Connection)? => {
                progress.reacted.set(true)
            }
            Err(Elapsed) => return Err(Stopped::Failed(silent(connection, limit.unwrap_or_default()))),
        }
    }
}

/// Whether the peer has taken or sent a byte.
fn has_reacted<P: Platform>(connection: &Connection<P>, progress: &Progress) -> Result<bool, Error<P::Error>> {
    let (_, mut writer) = connection.split();
    let unread = ring(connection) - writer.space()? as u64;
    Ok(progress.received.get() > 0 || progress.sent.get() > unread)
}

/// Bytes of the ring to the server: only servers have to react.
fn ring<P: Platform>(connection: &Connection<P>) -> u64 {
    u64::from(connection.info().orders.left().bytes())
}

fn silent<P: Platform>(connection: &Connection<P>, limit: Duration) -> Failure {
    let peer = connection.info().peer;
    let text = format!(
        "the server in domain {peer} has shown no sign of life for {limit:?}: it hangs, or serves others first; \
         see --timeout"
    );
    Failure::new(Code::NoServer, text)
}

/// Waits for a delivery to the output. Fails if the peer is gone and the output takes nothing more for as long as it may
/// then: nobody is left to wait for it.
pub(super) async fn delivered<P: Platform, T>(
    platform: &P,
    connection: &Connection<P>,
    between: &Between,
    delivery: impl Future<Output = T>,
) -> Result<T, Failure> {
    let Ending::Drained { stuck } = between.ending else { return Ok(delivery.await) };
    let mut delivery = pin!(delivery);
    // The clock is asked only if it does not succeed at once.
    let (mut next_look, mut gone): (Option<Time>, Option<Time>) = (None, None);
    poll_fn(|cx| {
        if let Poll::Ready(done) = delivery.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        loop {
            let at = *next_look.get_or_insert_with(|| platform.now() + LOOK_EVERY);
            if platform.poll_until(at, cx).is_pending() {
                return Poll::Pending;
            }
            let now = platform.now();
            if connection.state() != Live::Connected {
                let until = *gone.get_or_insert(now + stuck);
                if now >= until {
                    let text = format!(
                        "{} has not taken the next of the client's bytes within {stuck:?}, and the client has left: \
                         the rest is lost",
                        between.output
                    );
                    return Poll::Ready(Err(Failure::new(Code::Other, text)));
                }
            }
            next_look = Some(now + LOOK_EVERY);
        }
    })
    .await
}
