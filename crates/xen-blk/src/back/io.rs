//! Requests on their way through the backend: taken from a ring, checked, carried out by the
//! storage, and answered.

pub(super) mod buffer;
pub(super) mod connection;
pub(super) mod data;
pub(super) mod grants;
pub(super) mod immediate;
pub(super) mod journal;
pub(super) mod operation;
pub(super) mod queue;
pub(super) mod request;
pub(super) mod responses;
pub(super) mod write_fence;
