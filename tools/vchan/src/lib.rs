//! The tool `vchan`, but for its `main`: what it does, over any platform and any streams, so that it can be tested
//! without Xen.
#![forbid(unsafe_code)]

mod args;
mod connect;
mod domain;
mod dump;
mod failure;
mod hexdump;
mod json;
mod list;
mod page;
mod relay;
mod serve;
mod stop;

pub use args::*;
pub use connect::connect;
pub use dump::dump;
pub use failure::{Code, Failure};
pub use list::list;
pub use serve::{exec, listen};
pub use stop::Stop;
