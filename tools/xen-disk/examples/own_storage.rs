//! `xen-disk` with a storage of one's own: all of its commands know the name `places`.
//!
//! ```text
//! cargo run --example own_storage -- connect vm1 --stack places:size=1G
//! cargo run --example own_storage -- convert places:size=1M file:copy.raw
//! ```

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use xen_disk::stack::{Args, Built, Entry, Files, OpenError, register};
use xen_disk::storage::{Info, Storage};

/// A disk whose every sector holds its own number: it tells reads that go astray.
struct Places {
    bytes: u64,
}

impl Storage for Places {
    fn info(&self) -> Info {
        Info { read_only: true, ..Info::new(self.bytes) }
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.info().range(at, to.len() as u64)?;
        for (sector, bytes) in (at / 512..).zip(to.chunks_mut(512)) {
            bytes.fill(0);
            bytes[..8].copy_from_slice(&sector.to_le_bytes());
        }
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// A server that was killed can be followed by another: the disk is the same.
    fn identity(&self) -> Option<String> {
        Some("places".into())
    }
}

fn open(args: &Args, files: &Files) -> Result<Built, OpenError> {
    let bytes = args.size("size")?.or(files.size).unwrap_or(1 << 30);
    Ok(Arc::new(Places { bytes: bytes / 512 * 512 }))
}

fn main() -> ExitCode {
    let entry = Entry::storage("places", "sectors that hold their own number", open);
    register(entry.with_options(&[("size=SIZE", "its length [default: 1G]")]))
        .expect("the name is free");
    xen_disk::main()
}
