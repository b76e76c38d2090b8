#![doc = include_str!("../README.md")]
//! An in-memory hypervisor for tests: strict, deterministic, able to inject faults and to play a
//! hostile peer.
//!
//! A [`World`] holds domains, whose processes are [`Domain`] values: each a
//! [`xen_platform::Platform`]. A [`Sim`] runs tasks in a world. Time is virtual: it stands still
//! while anything can move, then jumps to the next timer, and if there is none the test fails with
//! a list of the tasks and ports that wait.
//!
//! ```
//! use xen_platform::{Access, Channel, Granted, IndexMemory, Platform, ReadySince};
//! use xen_sim::Sim;
//!
//! let mut sim = Sim::new();
//! let (dom0, guest) = (sim.domain(0), sim.domain(1));
//!
//! let page = guest.share(dom0.id(), 1).unwrap();
//! let channel = guest.listen(dom0.id()).unwrap();
//! let (gref, port) = (page.refs()[0], channel.port());
//!
//! sim.spawn(&guest, async move {
//!     let mut events = ReadySince::now(&channel);
//!     // Any event may be one too many: the page says whether it is the one.
//!     while page.load(0) == 0 {
//!         events.wait(&channel).await;
//!     }
//!     page.store(4, page.load(0) + 1);
//!     channel.notify();
//! });
//! let answer = sim.run(async move {
//!     let page = dom0.map(guest.id(), &[gref], Access::ReadWrite).unwrap();
//!     let channel = dom0.connect(guest.id(), port).unwrap();
//!     let mut events = ReadySince::now(&channel);
//!     page.store(0, 41);
//!     channel.notify();
//!     while page.load(4) == 0 {
//!         events.wait(&channel).await;
//!     }
//!     page.load(4)
//! });
//! assert_eq!(answer, 42);
//! // Dropping `sim` fails the test if a grant, a mapping or a port is left.
//! ```
//!
//! It is stricter than Xen: a page is zeroed when it is shared and poisoned when it is given back,
//! a grant taken back cannot be mapped again even while its page is still in use, and misuse panics
//! or is refused with the reason. Code of a dead process or domain may still run in drop; it then
//! reads all ones, and what it writes and sends goes nowhere.
//!
//! Beside playing a well-behaved peer, a test can
//! * end a process ([`Domain::kill_process`]) or a domain ([`World::destroy`]), at any access to
//!   shared memory too;
//! * suspend a domain ([`World::suspend`], or [`Domain::suspend`] by itself) and let it go on as it
//!   was ([`Suspended::cancel`]) or in a new domain without grants, mappings and ports
//!   ([`Suspended::restore`]);
//! * change shared pages from outside ([`World::page_of`]), also between two reads of one operation
//!   ([`World::on_access`]), and count how often each byte was read ([`World::count_reads`]);
//! * make an operation fail ([`World::fail_nth`]), raise events ([`World::raise_spurious`]) or lose
//!   them ([`World::drop_events`]), and count those that were sent ([`World::notifies`]);
//! * let everything happen in another order, repeatably ([`Sim::with_seed`]);
//! * ask what is still held ([`World::leaks`]), as every [`Sim`] does at its end.
//!
//! The module [`xenstore`] is a xenstored to stand beside it; [`World::on_destroy`] tells it of the
//! death of domains. [`Bench`] is both, for tests that shall leave xenstore as it was. The module
//! [`conformance`] checks any platform against the contracts of the traits. Without the
//! default feature `sim` the crate is `no_std` and holds only that module.
#![cfg_attr(not(feature = "sim"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod conformance;

#[cfg(feature = "sim")]
mod bench;
#[cfg(feature = "sim")]
mod hypervisor;
#[cfg(feature = "sim")]
pub mod xenstore;

#[cfg(feature = "sim")]
pub use bench::Bench;
#[cfg(feature = "sim")]
pub use hypervisor::{
    AccessHook, AccessKind, Channel, Domain, Error, Grant, InjectedFault, Map, MemoryAccess,
    Operation, RawPage, ReadCount, Reason, Resume, Sim, Spawner, Suspended, Task, World,
};
