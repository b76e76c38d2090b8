//! A kernel without the client of an echo server.

use crate::options::Options;
use xen_rt::{Domain, Reason};

/// The client is not a part of this image.
pub const IS_BUILT: bool = false;

/// Ends the domain: the options refuse this role.
pub async fn run(_: &Domain, _: &Options) -> Reason {
    Reason::Crash
}
