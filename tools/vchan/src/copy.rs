//! `vchan cp`: files and folders between two domains.
//!
//! ```text
//!   client                              server
//!     Put ──────────────────────────────> or Get, with the path at the server
//!   sender                              receiver (the other way round for Get)
//!     Folder, File ─────────────────────>
//!     <────────────── Have: a part of the file and its hash
//!     From, data…, Done: the file's hash ─>
//!     <─────────────────────────── Stored
//!     End ──────────────────────────────>
//!     <──────────────────────────── Ended
//! ```
//! Either side may send Failed instead, which ends the copy. Every name and number of the peer is
//! checked, and a path is resolved below one folder by the kernel.

mod client;
mod paths;
mod receive;
mod send;
mod server;
mod wire;

pub use client::copy;
pub use server::{FileServer, serve_files};

#[cfg(test)]
mod tests;

use blake3::Hasher;
use std::fs::File;
use std::io::{self, Read};
use xen_exec::yield_now;

/// Bytes that are hashed before other tasks get their turn.
const HASHED_AT_ONCE: usize = 1 << 20;

/// Hashes the first `count` bytes of a file from where it stands; other tasks go on meanwhile.
/// Fails with `UnexpectedEof` if it is shorter.
async fn hash_start(file: &mut File, count: u64) -> io::Result<Hasher> {
    let (mut hasher, mut left) = (Hasher::new(), count);
    let mut chunk = vec![0; HASHED_AT_ONCE];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        match file.read(&mut chunk[..most])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                hasher.update(&chunk[..read]);
                left -= read as u64;
            }
        }
        yield_now().await;
    }
    Ok(hasher)
}
