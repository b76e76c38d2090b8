//! The frontend's part in xenstore: finding disks, the handshake, and the keys of both ends.

pub(crate) mod device;
pub(crate) mod finder;
pub(crate) mod keys;
pub(crate) mod negotiate;
