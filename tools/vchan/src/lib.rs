//! The tool `vchan`, but for its `main`: what it does, over any platform and any streams, so that
//! it can be tested without Xen.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod config;
mod connect;
mod copy;
mod dump;
mod echo;
mod generate;
mod json;
mod list;
mod page;
mod ping;
mod proxy;
mod relay;
mod serve;
mod session;
mod stop;
mod times;

pub use args::*;
pub use bench::bench;
pub use config::{Service, Target, read_services};
pub use connect::{Terminal, connect, connect_raw};
pub use copy::{FileServer, copy, serve_files};
pub use dump::dump;
pub use generate::generate;
pub use list::list;
pub use ping::ping;
pub use proxy::proxy;
pub use serve::{Child, Client, Fleet, Offered, Program, exec, listen, serve_fleet};
pub use session::Session;
pub use stop::Stop;
pub use tools_common::{Code, Failure};
