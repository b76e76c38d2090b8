//! The contracts of [`xen_platform`]'s traits, checked on any two platforms that can reach each
//! other.
//!
//! The suite knows nothing of the simulated hypervisor: it runs over it here, and over real ones
//! wherever there is an executor to run [`check`] and two ends, be they two domains or one domain
//! that talks to itself.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::time::Duration;
use xen_platform::{Channel, Clock, DomId, Platform, ReadySince, deadline, sleep};

mod events;
mod memory;
mod parting;
mod time;

/// Time limit for all that must happen. A platform that needs longer does not keep its contract.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Long enough for an event that was sent before to have arrived.
const MOMENT: Duration = Duration::from_millis(50);

/// A platform, and the number under which the other end knows its domain.
#[derive(Clone)]
pub struct Endpoint<P> {
    /// The platform.
    pub platform: P,
    /// The number of its domain.
    pub id: DomId,
}

/// A contract that is not kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The contract, as a sentence.
    pub contract: &'static str,
    /// The behaviour that was seen instead.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" does not hold: {}", self.contract, self.found)
    }
}

impl core::error::Error for Violation {}

/// Result of a check; the error tells the behaviour that was seen instead.
type Finding = Result<(), String>;

/// Checks every contract in both directions, one after another, and calls `kept` with each that
/// holds. Ends at the first that does not. Leaves nothing behind, and waits for nothing longer than
/// a few seconds.
pub async fn check<A: Platform, B: Platform>(
    a: &Endpoint<A>,
    b: &Endpoint<B>,
    mut kept: impl FnMut(&'static str),
) -> Result<(), Violation> {
    let mut note = |contract, finding: Finding| match finding {
        Ok(()) => {
            kept(contract);
            Ok(())
        }
        Err(found) => Err(Violation { contract, found }),
    };
    one_way(a, b, &mut note).await?;
    one_way(b, a, &mut note).await
}

/// Checks every contract with `ours` sharing and listening, and `theirs` mapping and connecting.
async fn one_way<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
    note: &mut impl FnMut(&'static str, Finding) -> Result<(), Violation>,
) -> Result<(), Violation> {
    note("shared pages are zeroed and have one reference each", memory::fresh(ours, theirs))?;
    note("bytes written on one side are read on the other", memory::bytes(ours, theirs))?;
    note("fields are updated on one side and seen on the other", memory::fields(ours, theirs))?;
    note("pages are mapped in the order of the references", memory::order(ours, theirs))?;
    note("a read-only mapping shows the bytes", memory::read_only(ours, theirs))?;
    note("pages shared for reading cannot be written", memory::shared_read_only(ours, theirs))?;
    note("bytes are copied from and to pages that are not mapped", memory::copied(ours, theirs))?;
    note("a piece that cannot be copied fails alone", memory::copied_apart(ours, theirs))?;
    note("a grant that was dropped cannot be mapped", memory::revoked(ours, theirs))?;
    note("a page that is still mapped is not used again", memory::busy(ours, theirs))?;
    note("an event wakes every task that waits for it", events::wakes_all(ours, theirs).await)?;
    note("an event that comes before the wait is not lost", events::not_lost(ours, theirs).await)?;
    note("events go both ways", events::both_ways(ours, theirs).await)?;
    note("a port can be bound once", events::bound_once(ours, theirs))?;
    note("a dropped channel is closed", events::closed(ours, theirs).await)?;
    note(
        "a port can be bound again after its peer closed",
        events::bound_again(ours, theirs).await,
    )?;
    note("a dropped grant clears its byte and sends an event", parting::grant(ours, theirs).await)?;
    note("a dropped mapping clears its byte and sends an event", parting::map(ours, theirs).await)?;
    note("time passes, never back", time::passes(ours).await)?;
    note("a deadline ends a wait", time::deadline_ends(ours, theirs).await)
}

/// The value, or what was tried and why it failed.
fn expect<T, E: fmt::Display>(what: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{what} failed: {error}"))
}

/// Nothing, or `found` if the condition does not hold.
fn ensure(holds: bool, found: impl FnOnce() -> String) -> Finding {
    if holds { Ok(()) } else { Err(found()) }
}

/// An event channel from `ours` to `theirs`, after the event that a new binding raises.
async fn channel<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
) -> Result<(A::Channel, B::Channel), String> {
    let here = expect("listening", ours.platform.listen(theirs.id))?;
    let there = expect("connecting", theirs.platform.connect(ours.id, here.port()))?;
    sleep(&ours.platform, MOMENT).await;
    Ok((here, there))
}

/// Waits for an event newer than `since`.
async fn hear(clock: &impl Clock, channel: &impl Channel, since: &mut ReadySince) -> Finding {
    let until = clock.now() + TIMEOUT;
    deadline(clock, Some(until), since.wait(channel))
        .await
        .map_err(|elapsed| format!("waiting for an event {elapsed}"))
}

/// Shows bytes in a message.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
