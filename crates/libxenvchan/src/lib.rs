//! libxenvchan for programs in C, Python and whatever else calls C: the functions and the structure
//! of Xen's `libxenvchan.h`, on `xen-vchan` and `xen-linux`. `docs/libxenvchan.md` in the
//! repository says how to use it.
//!
//! [`End`] does the work, on any platform and without waiting; [`serve`] and [`connect`] open one
//! on Linux; `abi` is the boundary to C, where all `unsafe` is. Towards its peer, an end behaves as
//! one of Xen's library does: it leaves the bits of half-close alone, a server keeps its pages for
//! the next client, and a client looks for its server once. It does not share the trust: a peer
//! that breaks the protocol, or whose domain is gone, ends the connection with an errno.
#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod abi;
mod end;
mod fault;
pub mod layout;
mod open;

pub use end::End;
pub use fault::{Fault, errno};
pub use open::{connect, serve};
