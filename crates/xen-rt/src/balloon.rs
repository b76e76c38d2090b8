//! The size of the domain, as the toolstack wants it: `memory/target` in xenstore (`xl mem-set`).
//!
//! The memory map describes `maxmem`. If `memory` is less, Xen has memory for that many pages only,
//! and kills a domain that touches more (populate on demand). So the difference is held back at
//! boot, before the heap sees it, and frames go to Xen and come back later as the target moves.

use crate::Domain;
use crate::memory::{Balloon, FRAMES, HEAP, PAGE};
use alloc::string::{String, ToString};
use core::convert::Infallible;
use core::time::Duration;
use log::{info, warn};
use spin::Mutex;
use xen_hypercall::memory::{decrease_reservation, populate_physmap};
use xen_platform::sleep;
use xen_store::Error;

const TARGET: &str = "memory/target";
/// Pause before a target is tried for again, or xenstore asked again after an error.
const RETRY: Duration = Duration::from_secs(1);
/// Bytes that the domain keeps free, whatever the target.
const MINIMUM: u64 = 1 << 20;

/// The frames without memory.
static BALLOON: Mutex<Balloon> = Mutex::new(Balloon::new());

/// Gives frames that were held back at boot to Xen.
pub(crate) fn init(pages: u64, held: impl Iterator<Item = core::ops::Range<u64>>) {
    let mut balloon = BALLOON.lock();
    balloon.init(pages);
    for range in held {
        let count = (range.end - range.start) / PAGE;
        let frames = range.start / PAGE..range.start / PAGE + count;
        balloon.hold(frames, |frames| {
            // SAFETY: the frames were held back: the heap and the page frames never had them.
            unsafe { decrease_reservation(frames) }.unwrap_or(0)
        });
    }
}

/// Returns the number of bytes that are held back now.
pub fn held_bytes() -> u64 {
    BALLOON.lock().held() * PAGE
}

/// Follows the target, for as long as the domain runs.
pub async fn follow(domain: Domain) -> Infallible {
    let mut logged = String::new();
    loop {
        let Err(why) = follow_until_error(&domain).await;
        let text = why.to_string();
        if text != logged {
            warn!("{TARGET} is not followed for now: {text}");
            logged = text;
        }
        if why.is_closed() {
            core::future::pending::<()>().await;
        }
        sleep(domain.xen(), RETRY).await;
    }
}

async fn follow_until_error(domain: &Domain) -> Result<Infallible, Error> {
    let mut watch = domain.store().watch(TARGET).await?;
    let mut logged = None;
    loop {
        watch.next().await?;
        let kib: u64 = match domain.store().read_number(TARGET).await {
            Err(why) if why.is_not_found() => continue,
            kib => kib?,
        };
        let before = held_bytes();
        let reached = adjust(kib);
        let held = held_bytes();
        if held != before {
            info!("{TARGET}: {} KiB given to Xen, {} KiB kept", held / 1024, kept_kib());
        }
        if !reached && logged != Some(kib) {
            let kept = kept_kib();
            warn!("{TARGET}: {kib} KiB cannot be had: {kept} KiB are kept, and the rest is in use");
            logged = Some(kib);
        }
    }
}

fn kept_kib() -> u64 {
    BALLOON.lock().kept() * PAGE / 1024
}

/// Moves towards a size of `kib` KiB. Returns true once it is reached.
fn adjust(kib: u64) -> bool {
    let mut balloon = BALLOON.lock();
    let wanted = balloon.wanted(kib * 1024 / PAGE);
    if wanted > balloon.held() {
        let spare = || {
            let (_, _, unclaimed) = HEAP.usage();
            unclaimed as u64 + FRAMES.free_bytes() > MINIMUM
        };
        balloon.inflate(
            wanted,
            || spare().then(|| FRAMES.take(1)).flatten().map(|address| address / PAGE),
            |frames| {
                // SAFETY: the frames were just taken, for this.
                unsafe { decrease_reservation(frames) }.unwrap_or(0)
            },
            |frame| FRAMES.give(frame * PAGE, 1),
        );
    } else if wanted < balloon.held() {
        balloon.deflate(
            wanted,
            |frames| populate_physmap(frames).unwrap_or(0),
            |frame| FRAMES.give(frame * PAGE, 1),
        );
    }
    balloon.held() == wanted
}
