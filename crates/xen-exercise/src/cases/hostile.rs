//! Breaches of the protocol: requests, indices, keys and states that no honest frontend would send.
//!
//! The backend must answer each request with an error, or refuse the ring as a whole; and after
//! each, the disk must work again for an honest frontend, as must all other disks meanwhile. What
//! was refused must have moved nothing.

mod queues;
mod races;
mod rows;

use super::requests;
use super::{Context, Outcome};
use crate::environment::{Device, Error, Io};
use crate::raw::{Raw, Rings};
use crate::stamp::SECTOR;
use crate::tasks::Boxed;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use rows::Edges;
use xen_blk::front::Config;

/// Time after which an event that did not come counts as not coming.
const SHORT: Duration = Duration::from_millis(100);

/// Everything, on the disk of this test; the others of the plan are read all the while.
pub async fn hostile(cx: &mut Context<'_>) -> Outcome {
    let witness = witness(cx).await?;
    let honest = cx.device().await?;
    let info = honest.info();
    let edges = Edges::new(cx, &*honest).await?;
    drop(honest);
    cx.close().await?;
    let mut tried = 0;
    for persistent in ["0", "1"] {
        let mut raw =
            cx.env.raw(cx.vdev, Rings::ONE, &[("feature-persistent", persistent)]).await?;
        tried += rows::send(cx, &mut *raw, &info).await;
        races::twice(cx, &mut *raw, info.sectors).await;
        if info.sectors >= 256 {
            races::batches(cx, &mut *raw, &info, edges.keeps).await;
        }
        if info.sectors >= 256 && edges.keeps {
            races::rewritten(cx, &mut *raw, &info).await;
        }
        races::changing_list(cx, &mut *raw, &info).await;
        storm(&*raw);
        settle(cx, raw, &witness, "malformed requests").await;
        let disk = cx.env.attach(cx.vdev, &Config::default()).await?;
        let checked = edges.check(cx, &*disk).await;
        disk.close().await.and(checked)?;
    }
    if info.sectors >= 256 && edges.keeps {
        races::cut_off(cx, &info).await?;
    }
    tried += queues::queues(cx, &info, edges.keeps, &witness).await?;

    for (name, beyond) in [("33 beyond", 33), ("one back", u32::MAX), ("2^31 beyond", 1 << 31)] {
        let raw = cx.env.raw(cx.vdev, Rings::ONE, &[]).await?;
        raw.move_index(beyond);
        cx.env.sleep(SHORT).await;
        let given = raw.responses();
        cx.check(
            given == 0,
            format_args!("an index {name}: the backend gave {given} responses to no request"),
        );
        settle(cx, raw, &witness, name).await;
        tried += 1;
    }
    let mut raw = cx.env.raw(cx.vdev, Rings::ONE, &[]).await?;
    requests::send(&mut *raw, &rows::SCRIBBLE, &info, SHORT).await;
    settle(cx, raw, &witness, rows::SCRIBBLE.name).await;

    tried += states(cx, &witness).await?;
    tried += keys(cx, &witness).await;
    tried += no_states(cx, &witness).await?;
    for (disk, _) in witness {
        disk.close().await?;
    }
    Ok(format!("{tried} things that are forbidden, all of them refused or withstood"))
}

/// Another disk, and what it held at the beginning.
type Witness = (Rc<dyn Device>, Vec<u8>);

/// The other disks of the plan, connected honestly.
async fn witness(cx: &Context<'_>) -> Result<Vec<Witness>, Error> {
    let mut others = Vec::new();
    for vdev in cx.env.disks().await.into_iter().filter(|vdev| *vdev != cx.vdev) {
        let disk = cx.env.attach(vdev, &Config::default()).await?;
        let mut bytes = vec![0; 128.min(disk.info().sectors) as usize * SECTOR];
        disk.io(Io::Read(0, &mut bytes)).await?;
        others.push((disk, bytes));
    }
    Ok(others)
}

/// Closes, connects honestly, and reads; the other disks must be readable, too.
fn settle<'a>(
    cx: &'a Context<'_>,
    raw: Box<dyn Raw>,
    witness: &'a [Witness],
    after: &'a str,
) -> Boxed<'a, ()> {
    Box::pin(async move {
        let closed = raw.close().await;
        cx.works(closed, format_args!("closing after {after}"));
        alive(cx, witness, after).await;
    })
}

fn others<'a>(cx: &'a Context<'_>, witness: &'a [Witness], after: &'a str) -> Boxed<'a, ()> {
    Box::pin(async move {
        for (disk, wanted) in witness {
            let mut bytes = vec![0; wanted.len()];
            let read = disk.io(Io::Read(0, &mut bytes)).await;
            let read = cx.works(read, format_args!("reading another disk after {after}"));
            let same = read.is_none() || bytes == *wanted;
            cx.check(same, format_args!("another disk holds other data after {after}"));
        }
    })
}

fn alive<'a>(cx: &'a Context<'_>, witness: &'a [Witness], after: &'a str) -> Boxed<'a, ()> {
    Box::pin(async move {
        others(cx, witness, after).await;
        let mut buffer = vec![0; 4096];
        let again = async {
            let disk = cx.env.attach(cx.vdev, &Config::default()).await?;
            let read = disk.io(Io::Read(0, &mut buffer)).await;
            disk.close().await.and(read)
        };
        let again = again.await;
        cx.works(again, format_args!("an honest connection after {after}"));
    })
}

/// Events without requests (XSA-332).
fn storm(raw: &dyn Raw) {
    (0..10_000).for_each(|_| raw.notify());
}

/// States in no order (XSA-350).
async fn states(cx: &Context<'_>, witness: &[Witness]) -> Result<u32, Error> {
    const STATES: [&str; 9] = ["1", "4", "6", "3", "5", "2", "9", "7", "1"];
    let raw = cx.env.raw(cx.vdev, Rings::ONE, &[]).await?;
    for round in 0..10 {
        for state in STATES.iter().cycle().skip(round).take(STATES.len()) {
            raw.state(state).await;
        }
    }
    settle(cx, raw, witness, "states in no order").await;
    Ok(STATES.len() as u32)
}

/// Things that are no states. A backend may take them for the end of the frontend, and the disk
/// away with it: only the other disks must go on.
async fn no_states(cx: &Context<'_>, witness: &[Witness]) -> Result<u32, Error> {
    const NONE: [&str; 5] = ["4294967296", "-1", "four", "", "0"];
    let raw = cx.env.raw(cx.vdev, Rings::ONE, &[]).await?;
    for state in NONE {
        raw.state(state).await;
        cx.env.sleep(SHORT).await;
    }
    // It may be gone.
    let _ = raw.close().await;
    others(cx, witness, "states that are none").await;
    Ok(NONE.len() as u32)
}

/// Keys that make no sense: the backend must not connect, or must work.
async fn keys(cx: &Context<'_>, witness: &[Witness]) -> u32 {
    const KEYS: [(&str, &str); 12] = [
        ("ring-ref", "4294967295"),
        ("ring-ref", "-8"),
        ("ring-ref", "eight"),
        ("ring-ref", ""),
        ("event-channel", "4294967295"),
        ("event-channel", "0"),
        ("event-channel", ""),
        ("protocol", "pdp11-abi"),
        ("ring-page-order", "31"),
        ("ring-page-order", "-1"),
        ("multi-queue-num-queues", "1000000000"),
        ("multi-queue-num-queues", "0"),
    ];
    for (key, value) in KEYS {
        if let Ok(raw) = cx.env.raw(cx.vdev, Rings::ONE, &[(key, value)]).await {
            // It took that for something it knows. Then it has to close.
            let closed = raw.close().await;
            cx.works(closed, format_args!("closing after {key}={value}"));
        }
        alive(cx, witness, &format!("{key}={value}")).await;
    }
    KEYS.len() as u32
}
