//! Requests on their way: cut, admitted, put on a ring, and completed by the backend's responses.

pub(crate) mod admission;
pub(crate) mod in_flight;
pub(crate) mod pool;
pub(crate) mod queue;
pub(crate) mod request;
pub(crate) mod responses;
pub(crate) mod split;
pub(crate) mod submit;
pub(crate) mod transfer;
