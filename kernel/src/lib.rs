//! The unikernel: boots under PVH, is a [`Platform`](xen_platform::Platform) over raw hypercalls, serves the vchan echo.
//!
//! [`start`] is the table of contents. Everything runs on one virtual CPU, in tasks of one executor; interrupts are on
//! only while it sleeps (see [`arch::idle`]).
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod arch;
pub mod console;
pub mod crash;
mod log;
pub mod memory;
mod one_cpu;
mod options;
mod report;
mod services;
mod start_info;
pub mod xen;

use memory::paging::Image;
use options::Options;
use start_info::Boot;
use xen::Xen;
use xen::rings::Ring;
use xen_exec::Executor;
use xen_hypercall::{raw, sched};

/// Brings the domain up and runs it until it ends. `start_info` is the address that Xen passed.
///
/// # Safety
/// To be called once, on the main stack and the page tables of `boot/pvh.S`, with the borders of the real image.
pub unsafe fn start(start_info: u64, image: &Image) -> ! {
    arch::init();
    log::init();
    let leaf = raw::init().expect("this kernel runs as a Xen guest only: no hypervisor answers to CPUID");
    // SAFETY: the page tables are the first ones, and the address is Xen's.
    let boot = unsafe { Boot::read(start_info) }.unwrap_or_else(|why| panic!("{why}"));
    // SAFETY: once, on the first page tables, with the RAM of the memory map.
    unsafe { memory::init(&boot.ram, image, &arch::guard_pages(), boot.busy.clone()) };

    let console = connect_to_xen();
    report::boot(&boot, image, &console, leaf);
    let options = Options::parse(&boot.command_line()).unwrap_or_else(|why| panic!("{why}"));
    ::log::set_max_level(options.log);

    let xen = Xen::new(xen::own_domid(leaf)).expect("a domain may have a timer");
    let mut executor = Executor::new();
    let main = services::run(xen.clone(), executor.spawner(), console, options);
    let reason = executor.run(main, |turn| xen.turn(turn));
    sched::shutdown(reason)
}

/// Sets up all that Xen shares with every domain: the shared info page, time, the console, events, grants.
fn connect_to_xen() -> Ring {
    let set_up = || -> Result<(), xen_hypercall::Error> {
        xen::init_shared_info()?;
        xen::clock::init()
    };
    set_up().unwrap_or_else(|why| panic!("Xen refuses the shared info page or the timer: {why}"));
    let console = Ring::console().unwrap_or_else(|why| panic!("{why}"));
    console::attach(console.page, console.port).unwrap_or_else(|why| panic!("the console ring is unusable: {why}"));
    xen::events::init().unwrap_or_else(|why| panic!("Xen cannot announce events by a vector: {why}"));
    xen::init_grants().unwrap_or_else(|why| panic!("no grant table: {why}"));
    console
}
