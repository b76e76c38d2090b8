//! The backend's part in xenstore: the handshake with a frontend, and the keys of both ends.

pub(super) mod finder;
pub(super) mod keys;
pub(super) mod serve;
