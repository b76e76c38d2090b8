//! Reads and writes straight between the guest's pages and a file, or memory that is mapped from
//! one.
#![allow(unsafe_code, reason = "the guest's pages are known by their addresses alone")]

use super::Pages;
use nix::libc;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use xen_blk::back::Area;

/// The most areas in one system call: UIO_MAXIOV of Linux.
const MOST: usize = 1024;

/// Permission for the kernel to wait for a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    /// It need not, since the file is in memory, or may.
    May,
    /// It says so instead: RWF_NOWAIT.
    MustNot,
}

/// Reads what is at `at` into all that is left of `to`. False if that cannot be done like this, or
/// not all of it.
pub(super) fn read(file: &File, at: u64, to: &dyn Pages, wait: Wait) -> io::Result<bool> {
    transfer(at, to, |vectors, at| {
        // SAFETY: the vectors name memory of the guest that is mapped for writing while `to` is
        // borrowed, of which no reference is ever made.
        unsafe {
            libc::preadv2(file.as_raw_fd(), vectors.as_ptr(), vectors.len() as i32, at, flags(wait))
        }
    })
}

/// Writes all that is left of `from` at `at`. False if that cannot be done like this, or not all of
/// it.
pub(super) fn write(file: &File, at: u64, from: &dyn Pages, wait: Wait) -> io::Result<bool> {
    transfer(at, from, |vectors, at| {
        // SAFETY: as above, for reading.
        unsafe {
            libc::pwritev2(
                file.as_raw_fd(),
                vectors.as_ptr(),
                vectors.len() as i32,
                at,
                flags(wait),
            )
        }
    })
}

fn flags(wait: Wait) -> i32 {
    if wait == Wait::MustNot { libc::RWF_NOWAIT } else { 0 }
}

/// Calls `call` with all areas, as many at a time as the kernel takes.
fn transfer(
    at: u64,
    pages: &dyn Pages,
    mut call: impl FnMut(&[libc::iovec], i64) -> isize,
) -> io::Result<bool> {
    let Some(areas) = pages.areas() else { return Ok(false) };
    let mut at = i64::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?;
    let vector =
        |area: &Area| libc::iovec { iov_base: area.start.as_ptr().cast(), iov_len: area.len };
    let vectors: Vec<libc::iovec> = areas.iter().map(vector).collect();
    for batch in vectors.chunks(MOST) {
        let wanted: usize = batch.iter().map(|vector| vector.iov_len).sum();
        let done = loop {
            let done = call(batch, at);
            let error = io::Error::last_os_error();
            match done {
                0.. => break done as usize,
                _ if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            }
        };
        if done != wanted {
            return Ok(false);
        }
        at += wanted as i64;
    }
    Ok(true)
}
