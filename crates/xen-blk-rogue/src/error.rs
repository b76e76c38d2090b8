//! Reasons why an act could not be played.

use alloc::string::String;

/// The cause lies on this side, or in the guest's keys: nothing is known of its frontend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// xenstore refused.
    #[error(transparent)]
    Store(#[from] xen_store::Error),
    /// The hypervisor refused.
    #[error("the guest's ring cannot be used: {0}")]
    Platform(E),
    /// The frontend's keys are no numbers, or of a layout that is not played here.
    #[error("{path} is {value:?}, which is no {expected}")]
    Key {
        /// The key.
        path: String,
        /// Its value.
        value: String,
        /// A value that could be used.
        expected: &'static str,
    },
    /// No frontend of the guest looked at the disk, not even at an honest one.
    #[error(
        "no frontend in domain {0} connects to an honest disk: has it a driver for Xen's disks, \
         and does it look for new ones?"
    )]
    NoFrontend(xen_platform::DomId),
}
