#![doc = include_str!("../README.md")]
//! vchan: a pair of byte streams between two domains, through shared pages and an event channel
//! that they find by two keys in xenstore (io/libxenvchan.h).
//!
//! The server shares the pages and publishes the keys ([`Offer::publish`]), and each offer serves
//! one client; the client finds them ([`connect`]). Both then hold a [`Connection`] and
//! [split](Connection::split) it. The peer is not trusted: whatever it writes is read once and
//! checked, and breaking the protocol ends that one connection with a [`PeerError`]. Nothing waits
//! for a peer that is gone: see [`Error::Died`]. For a peer that is there and does nothing, every
//! waiting function can be put under [`xen_platform::deadline`]: giving one up loses no byte.
//!
//! A server for many clients at a time is a [`Listener`]. `docs/vchan.md` in the repository is the
//! guide: all ways to read and write, how the end of one side is noticed, and what to know of
//! libxenvchan.
//!
//! ```
//! use embedded_io_async::{Read, Write};
//! use xen_platform::{DomId, Platform};
//! use xen_store::Store;
//! use xen_vchan::{ClientConfig, Connection, Error, Listener, Order, ServerConfig, connect};
//!
//! async fn serve<P: Platform>(platform: P, store: Store) -> Result<(), Error<P::Error>> {
//!     let order = Order::for_size(4096).expect("a ring can have 4 KiB");
//!     let config = ServerConfig::new(DomId(0), "data/vchan").rings(order, order);
//!     let mut listener = Listener::open(&platform, &store, &config).await?;
//!     let connection: Connection<P> = listener.accept().await?;
//!     let (mut reader, mut writer) = connection.split();
//!     let mut buffer = [0; 1024];
//!     while let n @ 1.. = reader.read(&mut buffer).await? {
//!         buffer[..n].make_ascii_uppercase();
//!         writer.write_all(&buffer[..n]).await?;
//!     }
//!     connection.close().await?;
//!     listener.close().await
//! }
//!
//! async fn ask<P: Platform>(platform: P, store: Store) -> Result<[u8; 5], Error<P::Error>> {
//!     let config = ClientConfig::new(DomId(1), "data/vchan");
//!     let connection = connect(&platform, &store, &config).await?;
//!     let (mut reader, mut writer) = connection.split();
//!     writer.send(b"hello").await?;
//!     let mut answer = [0; 5];
//!     reader.recv(&mut answer).await?;
//!     connection.close().await?;
//!     Ok(answer)
//! }
//! # let mut sim = xen_sim::Sim::new();
//! # let xs = xen_sim::xenstore::Xenstored::new();
//! # xs.introduce(DomId(1));
//! # let host = |domid| {
//! #     let domain = sim.domain(domid);
//! #     let (from, to) = xs.connect(DomId(domid));
//! #     let (store, driver) = xen_store::connect(from, to);
//! #     sim.spawn(&domain, driver);
//! #     (domain, store)
//! # };
//! # let ((guest, guest_store), (dom0, dom0_store)) = (host(1), host(0));
//! # let serving = sim.spawn(&guest.clone(), serve(guest, guest_store));
//! # sim.run(async move {
//! assert_eq!(ask(dom0, dom0_store).await.unwrap(), *b"HELLO");
//! #     serving.join().await.unwrap();
//! # });
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

/// Compiles the examples of the guide.
#[cfg(doctest)]
#[doc = include_str!("../docs/vchan.md")]
struct Guide;

mod client;
mod connection;
mod error;
mod info;
mod keys;
mod layout;
mod link;
mod listener;
mod memory;
mod monitor;
mod order;
mod rings;
mod server;
mod window;

pub use client::{ClientConfig, connect};
pub use connection::{Connection, Reader, Writer};
pub use error::{ConfigError, Error, PeerError, Stale};
pub use info::{Info, Live, Role};
pub use layout::{LIBXENVCHAN_PATH_MAX, Layout, check_for_libxenvchan, own_domid};
pub use link::Departure;
pub use listener::Listener;
pub use order::{Order, OrderClash, Orders};
pub use rings::{Places, Side};
pub use server::{Offer, ServerConfig};
pub use window::WindowSize;
pub use xen_ring::Piece;
