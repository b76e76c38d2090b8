//! Event channels.

use super::{Endpoint, Finding, MOMENT, channel, ensure, expect, hear};
use alloc::format;
use alloc::string::ToString;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use xen_platform::{Channel, Platform, ReadySince, sleep};

pub(super) async fn wakes_all<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
) -> Finding {
    let (here, there) = channel(ours, theirs).await?;
    let (mut one, mut other) = (ReadySince::now(&here), ReadySince::now(&here));
    let mut first = pin!(hear(&ours.platform, &here, &mut one));
    let mut second = pin!(hear(&ours.platform, &here, &mut other));
    // Both wait already when the event is sent.
    poll_fn(|cx| {
        Poll::Ready((first.as_mut().poll(cx).is_ready(), second.as_mut().poll(cx).is_ready()))
    })
    .await
    .eq(&(false, false))
    .then_some(())
    .ok_or("an event came that nobody sent")?;
    there.notify();
    first.await?;
    second.await
}

pub(super) async fn not_lost<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
) -> Finding {
    let (here, there) = channel(ours, theirs).await?;
    let mut events = ReadySince::now(&here);
    let before = here.seen();
    for _ in 0..3 {
        there.notify();
    }
    sleep(&ours.platform, MOMENT).await;
    let counted = here.seen().wrapping_sub(before);
    ensure((1..=3).contains(&counted), || format!("3 events in a row were counted as {counted}"))?;
    hear(&ours.platform, &here, &mut events).await
}

pub(super) async fn both_ways<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
) -> Finding {
    let (here, there) = channel(ours, theirs).await?;
    let (mut ping, mut pong) = (ReadySince::now(&there), ReadySince::now(&here));
    for _ in 0..3 {
        here.notify();
        hear(&theirs.platform, &there, &mut ping).await?;
        there.notify();
        hear(&ours.platform, &here, &mut pong).await?;
    }
    Ok(())
}

pub(super) fn bound_once<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
) -> Finding {
    let here = expect("listening", ours.platform.listen(theirs.id))?;
    let tells = !here.is_bound();
    let there = expect("connecting", theirs.platform.connect(ours.id, here.port()))?;
    ensure(here.is_bound() && there.is_bound(), || {
        "a bound channel says that it is not bound".to_string()
    })?;
    let second = theirs.platform.connect(ours.id, here.port());
    ensure(second.is_err(), || format!("port {} could be bound twice", here.port()))?;
    drop(there);
    ensure(!tells || !here.is_bound(), || {
        "after its peer closed, a channel says that it is bound".to_string()
    })
}

pub(super) async fn closed<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
) -> Finding {
    let (here, there) = channel(ours, theirs).await?;
    let port = here.port();
    drop(here);
    // To nobody, and no error.
    there.notify();
    drop(there);
    let again = theirs.platform.connect(ours.id, port);
    ensure(again.is_err(), || format!("port {port} could be bound after it was closed"))
}

pub(super) async fn bound_again<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
) -> Finding {
    let (here, there) = channel(ours, theirs).await?;
    drop(there);
    let there = expect("connecting again", theirs.platform.connect(ours.id, here.port()))?;
    let mut events = ReadySince::now(&here);
    there.notify();
    hear(&ours.platform, &here, &mut events).await
}
