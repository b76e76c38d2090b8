//! Limits for the waits of a relay that could last for ever although the peer lives, or although
//! it is gone.

use super::{Broken, EndPolicy, Relay};
use crate::{Code, Failure};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use xen_platform::{Elapsed, Platform, Time, deadline};
use xen_vchan::{Error, Live};

/// The interval at which a slow delivery looks whether the peer is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Waits for `work` of the upload. Fails if the peer has to react within some time and does not: it
/// may have published its channel, and hang. What takes long after its first sign of life is its
/// own affair.
pub(super) async fn heard<P: Platform, T>(
    relay: &Relay<'_, P>,
    mut work: impl AsyncFnMut() -> Result<T, Error<P::Error>>,
) -> Result<T, Broken<P::Error>> {
    // Without asking the page first, so that a long transfer runs no timers.
    let ring = relay.connection.info().orders.left().bytes();
    let known = relay.transfer.received() > 0 || relay.transfer.total_sent() > ring.into();
    let Some(limit) = relay.config.reaction.filter(|_| !known) else { return Ok(work().await?) };
    match deadline(relay.platform, Some(relay.platform.now() + limit), work()).await {
        Ok(done) => Ok(done?),
        Err(Elapsed) if has_reacted(relay)? => Ok(work().await?),
        Err(Elapsed) => Err(Broken::Local(silent(relay, limit))),
    }
}

/// True if the peer has taken or sent a byte.
fn has_reacted<P: Platform>(relay: &Relay<'_, P>) -> Result<bool, Error<P::Error>> {
    let unread = relay.connection.split().1.unread()? as u64;
    Ok(relay.transfer.received() > 0 || relay.transfer.total_sent() > unread)
}

fn silent<P: Platform>(relay: &Relay<'_, P>, limit: Duration) -> Failure {
    let peer = relay.connection.info().peer;
    let text = format!(
        "the server in domain {peer} has shown no sign of life for {limit:?}: it hangs, or serves \
         others first; see --timeout"
    );
    Failure::new(Code::Missing, text)
}

/// Waits for a delivery to the output. Fails if the peer is gone and the output takes nothing more
/// for as long as it may then: nobody is left to wait for it.
pub(super) async fn delivered<P: Platform, T>(
    relay: &Relay<'_, P>,
    delivery: impl Future<Output = T>,
) -> Result<T, Failure> {
    let EndPolicy::Drained { stuck } = relay.config.end else { return Ok(delivery.await) };
    let platform = relay.platform;
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
            if relay.connection.state() != Live::Connected {
                let until = *gone.get_or_insert(now + stuck);
                if now >= until {
                    let text = format!(
                        "{} has not taken the next of the client's bytes within {stuck:?}, and the \
                         client has left: the rest is lost",
                        relay.config.output
                    );
                    return Poll::Ready(Err(Failure::other(text)));
                }
            }
            next_look = Some(now + LOOK_EVERY);
        }
    })
    .await
}
