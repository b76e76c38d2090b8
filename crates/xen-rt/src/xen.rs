//! The hypervisor, as this domain sees it: events, time, grants, the toolstack's two rings, and the
//! platform they make.

pub mod clock;
pub mod death;
mod error;
pub mod events;
mod foreign;
mod grants;
mod platform;
pub mod rings;
mod shared_info;
mod suspend;

pub use error::Error;
pub use grants::{init as init_grants, usage as grant_usage};
pub use platform::Xen;
pub use shared_info::init as init_shared_info;
pub use suspend::{Outcome, Rings};
pub use xen_platform::{DomId, GrantRef, Port};

use xen_abi::cpuid;

/// The own domain's number, where the hypervisor tells: in the leaf for HVM domains, if the flag
/// for it is set.
fn own_domid(first_leaf: u32) -> Option<DomId> {
    let id = xen_hypercall::raw::cpuid(first_leaf + cpuid::HVM_LEAF);
    let told = id.eax & cpuid::HVM_DOMID_PRESENT != 0;
    told.then_some(DomId(id.ecx as u16))
}
