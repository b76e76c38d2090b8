//! The tool `vchan`, but for its `main`: what it does, over any platform and any streams, so that it can be tested
//! without Xen.
#![forbid(unsafe_code)]

mod args;
mod ask;
mod bench;
mod connect;
mod crowd;
mod domain;
mod dump;
mod echo;
mod failure;
mod generate;
mod hexdump;
mod json;
mod list;
mod page;
mod ping;
mod proxy;
mod relay;
mod serve;
mod stop;
mod times;

pub use args::*;
pub use bench::{Progress, bench};
pub use connect::connect;
pub use dump::dump;
pub use failure::{Code, Failure};
pub use generate::generate;
pub use list::list;
pub use ping::ping;
pub use proxy::proxy;
pub use serve::{exec, listen};
pub use stop::Stop;
