//! The steps of the boot, in order.

use crate::domain::{self, Domain};
use crate::start_info::Boot;
use crate::xen::rings::Ring;
use crate::xen::{self, Xen};
use crate::{Reason, arch, console, entry, log, memory, report};
use core::future::Future;
use xen_exec::Executor;
use xen_hypercall::{raw, sched};

/// Brings the domain up, runs `main` until it ends, and ends the domain for the reason that it
/// returns. `start_info` is the address that Xen passed.
///
/// # Safety
/// To be called once, on the main stack and the page tables of `boot/pvh.S`.
pub unsafe fn start<M: Future<Output = Reason> + 'static>(
    start_info: u64,
    main: impl FnOnce(Domain) -> M,
) -> ! {
    let image = entry::image();
    arch::init();
    log::init();
    let leaf =
        raw::init().expect("this kernel runs as a Xen guest only: no hypervisor answers to CPUID");
    // SAFETY: the page tables are the first ones, and the address is Xen's.
    let boot = unsafe { Boot::read(start_info) }.unwrap_or_else(|why| panic!("{why}"));
    let excess = boot.excess_pages(xen_hypercall::memory::current_reservation());
    // SAFETY: once, on the first page tables, with the RAM of the memory map.
    unsafe { memory::init(&boot.ram, &image, &arch::guard_pages(), boot.busy.clone(), excess) };

    let console = connect_to_xen();
    report::boot(&boot, &image, &console, leaf);
    let xen = Xen::new(leaf).expect("a domain may have a timer");
    let mut executor = Executor::new();
    let domain = Domain::new(xen.clone(), executor.spawner(), console, boot.command_line());
    let main = domain::run(domain.clone(), main(domain));
    let reason = executor.run(main, |turn| xen.turn(turn));
    sched::shutdown(reason)
}

/// Sets up all that Xen shares with every domain: the shared info page, time, the console,
/// events, grants.
fn connect_to_xen() -> Ring {
    let set_up = || -> Result<(), xen_hypercall::Error> {
        xen::init_shared_info()?;
        xen::clock::init()
    };
    set_up().unwrap_or_else(|why| panic!("Xen refuses the shared info page or the timer: {why}"));
    let console = Ring::console().unwrap_or_else(|why| panic!("{why}"));
    console::attach(console.page, console.port)
        .unwrap_or_else(|why| panic!("the console ring is unusable: {why}"));
    xen::events::init()
        .unwrap_or_else(|why| panic!("Xen cannot announce events by a vector: {why}"));
    xen::init_grants().unwrap_or_else(|why| panic!("no grant table: {why}"));
    console
}
