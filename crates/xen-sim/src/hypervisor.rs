//! The hypervisor in memory. Which file holds what: `world` the state and its end, `grant`, `page`
//! and `port` what domains share, `process` their handles, `suspend` their save and restore, `turn`
//! events and time, `sim` the tasks; `watch`, `fault`, `random` and `leak` are there for the tests.

mod error;
mod fault;
mod grant;
mod leak;
mod page;
mod port;
mod process;
mod random;
mod sim;
mod suspend;
mod turn;
mod watch;
mod world;

pub use error::{Error, Reason};
pub use fault::{InjectedFault, Operation};
pub use grant::{Grant, Map};
pub use page::RawPage;
pub use port::Channel;
pub use process::Domain;
pub use sim::{Sim, Spawner, Task};
pub use suspend::{Resume, Suspended};
pub use watch::{AccessHook, AccessKind, MemoryAccess, ReadCount};
pub use world::World;
