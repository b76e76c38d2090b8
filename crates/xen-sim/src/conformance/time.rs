//! Clocks and deadlines.

use super::{Endpoint, Finding, MOMENT, channel, ensure};
use alloc::format;
use alloc::string::ToString;
use xen_platform::{Platform, ReadySince, deadline, sleep};

pub(super) async fn passes<A: Platform>(ours: &Endpoint<A>) -> Finding {
    let clock = &ours.platform;
    let mut last = clock.now();
    for _ in 0..3 {
        sleep(clock, MOMENT).await;
        let now = clock.now();
        ensure(now.since(last) >= MOMENT, || {
            format!("after {MOMENT:?}, {last:?} was followed by {now:?}")
        })?;
        last = now;
    }
    Ok(())
}

pub(super) async fn deadline_ends<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
) -> Finding {
    let (here, _there) = channel(ours, theirs).await?;
    let until = ours.platform.now() + MOMENT;
    let mut events = ReadySince::now(&here);
    let waited = deadline(&ours.platform, Some(until), events.wait(&here)).await;
    ensure(waited.is_err(), || "an event came that nobody sent".to_string())?;
    let now = ours.platform.now();
    ensure(now >= until, || format!("the deadline {until:?} came at {now:?}"))
}
