//! The tool `vchan`, but for its `main`: what it does, over any platform and any streams, so that it can be tested
//! without Xen.
#![forbid(unsafe_code)]

mod args;
mod connect;
mod domain;
mod failure;
mod hexdump;
mod relay;
mod serve;
mod stop;

pub use args::*;
pub use connect::connect;
pub use failure::{Code, Failure};
pub use serve::{exec, listen};
pub use stop::Stop;
