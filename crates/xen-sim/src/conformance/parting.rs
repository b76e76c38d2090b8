//! Last words: what a peer finds when this side lets go without another word.

use super::memory::{same, shared};
use super::{Endpoint, Finding, channel, expect, hear};
use xen_platform::{Platform, ReadySince, SharedMem};

/// Bytes around the one to clear, and what must be left of them.
const BEFORE: [u8; 3] = [1, 1, 1];
const AFTER: [u8; 3] = [1, 0, 1];

pub(super) async fn grant<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
) -> Finding {
    let (grant, map) = shared(ours, theirs, 1)?;
    let (here, there) = channel(ours, theirs).await?;
    grant.write(20, &BEFORE);
    expect("arranging for the death", ours.platform.clear_grant_on_death(&grant, 21, &here))?;
    same(&map, 20, &BEFORE)?;
    let mut events = ReadySince::now(&there);
    drop(grant);
    hear(&theirs.platform, &there, &mut events).await?;
    same(&map, 20, &AFTER)
}

pub(super) async fn map<A: Platform, B: Platform>(
    ours: &Endpoint<A>,
    theirs: &Endpoint<B>,
) -> Finding {
    let (grant, map) = shared(ours, theirs, 1)?;
    let (here, there) = channel(ours, theirs).await?;
    map.write(20, &BEFORE);
    expect("arranging for the death", theirs.platform.clear_map_on_death(&map, 21, &there))?;
    same(&grant, 20, &BEFORE)?;
    let mut events = ReadySince::now(&here);
    drop(map);
    hear(&ours.platform, &here, &mut events).await?;
    same(&grant, 20, &AFTER)
}
