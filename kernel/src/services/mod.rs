//! What runs once the domain is up: the connection to xenstore, the toolstack's wishes, the console, the echo server.

#[cfg(feature = "block")]
pub mod block;
#[cfg(not(feature = "block"))]
#[path = "no_block.rs"]
pub mod block;
mod capitals;
mod client;
mod control;
mod echo;
mod shell;

use crate::console;
use crate::options::{CrashTest, Options, Role};
use crate::xen::rings::Ring;
use crate::xen::{Xen, death};
use alloc::rc::Rc;
use core::mem::offset_of;
use core::time::Duration;
use embassy_futures::select::{Either, Either3, select, select3};
use log::{error, info};
use xen_abi::sched::Reason;
use xen_abi::xs_wire::{DomainInterface, RING_SIZE};
use xen_exec::Spawner;
use xen_platform::{Clock, sleep};
use xen_ring::bytes::Layout;
use xen_ring::stream;
use xen_store::Store;

/// How long the last lines of the log may take to be read.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs everything until the domain shall end; returns why.
pub async fn run(xen: Xen, spawner: Spawner, console: Ring, options: Options) -> Reason {
    let store = open_store(&spawner);
    let disks = block::Disks::new(&xen, &store, &spawner);
    let end = async {
        match select3(control::wait(&store), shell::run(console, &disks), disks.serve(&options)).await {
            Either3::First(Ok(reason)) | Either3::Second(reason) | Either3::Third(reason) => reason,
            Either3::First(Err(why)) => panic!("xenstore is gone: {why}"),
        }
    };
    let crash = || options.crash.into_iter().for_each(crash_on_purpose);
    let reason = match options.role {
        Role::Server => echo::serve((&xen, &store, &spawner), &options, crash, end).await,
        Role::Client => match select(client::run(&xen, &store, &options), end).await {
            Either::First(reason) | Either::Second(reason) => reason,
        },
        Role::None => end.await,
    };
    info!("the domain ends: {reason:?}");
    death::announce();
    let until = xen.now() + PATIENCE;
    while !console::is_flushed() && xen.now() < until {
        console::pump();
        sleep(&xen, Duration::from_millis(10)).await;
    }
    reason
}

/// Connects to xenstore over the ring that the toolstack gave the domain.
fn open_store(spawner: &Spawner) -> Store {
    const SIZE: u32 = RING_SIZE as u32;
    const REQUESTS: Layout = Layout {
        prod: offset_of!(DomainInterface, req_prod),
        cons: offset_of!(DomainInterface, req_cons),
        data: offset_of!(DomainInterface, req),
        size: SIZE,
    };
    const REPLIES: Layout = Layout {
        prod: offset_of!(DomainInterface, rsp_prod),
        cons: offset_of!(DomainInterface, rsp_cons),
        data: offset_of!(DomainInterface, rsp),
        size: SIZE,
    };
    let ring = Ring::xenstore().unwrap_or_else(|why| panic!("{why}"));
    let page = Rc::new(ring.page.shared());
    let (reader, writer) = stream::split(page, ring.channel(), REPLIES, REQUESTS)
        .unwrap_or_else(|why| panic!("the xenstore ring is unusable: {why}"));
    let (store, driver) = xen_store::connect(reader, writer);
    spawner.spawn(async move { error!("the connection to xenstore ended: {}", driver.await) });
    info!("xenstore: ring at {:#x}, event channel {}", ring.page.start().as_ptr() as u64, ring.port);
    store
}

/// Crashes, because the command line says so.
fn crash_on_purpose(how: CrashTest) {
    info!("crash={how:?}: crashing on purpose");
    match how {
        CrashTest::Panic => panic!("as the command line says"),
        CrashTest::Fault => {
            // SAFETY: none: the page is not mapped, and that is the point.
            unsafe { core::ptr::without_provenance::<u64>(16).read_volatile() };
        }
        CrashTest::Stack => drop(overflow(1)),
    }
}

/// Calls itself until the stack ends.
#[expect(unconditional_recursion, reason = "it is what it is for")]
fn overflow(depth: u64) -> [u64; 64] {
    let mut deeper = overflow(core::hint::black_box(depth + 1));
    deeper[0] += depth;
    deeper
}
