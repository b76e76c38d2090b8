//! Finding faults of a stack before anything is opened, made or locked.

use super::args::Args;
use super::build::{self, Files};
use super::kinds::{self, Built, Entry, Make};
use super::{Parsed, StackError, parse};
use crate::storage::Zero;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Checks the stack that `text` describes: its words, its options, and that its images can be read
/// and its other files be made.
///
/// It changes nothing. [`build`](super::build()) can fail all the same, for instance because
/// another program has an image.
pub fn check(text: &str, files: &Files) -> Result<(), StackError> {
    let Parsed(parts) = parse(text)?;
    for (entry, args) in &parts {
        match entry.make {
            Make::Layer(_) if !kinds::is_builtin(entry) => {}
            Make::Layer(_) if entry.path => args.can_be_made()?,
            Make::Layer(make) => {
                let below: Built = Arc::new(Zero::new(1 << 30, 512));
                make(args, below).map(drop).map_err(|fault| build::fail(args, fault))?;
            }
            Make::Storage(_) => storage(entry, args, files)?,
        }
    }
    Ok(())
}

fn storage(entry: &Entry, args: &Args, files: &Files) -> Result<(), StackError> {
    if !kinds::is_builtin(entry) {
        // Only its program knows what its words mean.
        return Ok(());
    }
    args.sector_size()?;
    for flag in ["ro", "direct", "trusted"] {
        args.flag(flag)?;
    }
    if !entry.path {
        return build::size(args, files).map(drop).map_err(|fault| build::fail(args, fault));
    }
    #[cfg(feature = "object")]
    if entry.name == "object" {
        return super::object::check(args);
    }
    if entry.name == "nbd" {
        // The server is asked when it is opened.
        build::nbd_uri(args)?;
        return build::nbd_options(args, files).map(drop).map_err(|fault| build::fail(args, fault));
    }
    build::no_size(args, files).map_err(|fault| build::fail(args, fault))?;
    File::open(args.path()).map(drop).map_err(|error| build::fail(args, error.into()))
}

impl Args {
    /// Fails if a file that may yet be missing has no folder to be made in.
    fn can_be_made(&self) -> Result<(), StackError> {
        let path = self.path();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let made_in = folder.unwrap_or(Path::new("."));
        let opened = if path.exists() {
            File::open(&path).map(drop)
        } else {
            made_in.metadata().and_then(|found| match found.is_dir() {
                true => Ok(()),
                false => Err(io::ErrorKind::NotADirectory.into()),
            })
        };
        opened.map_err(|error| build::fail(self, error.into()))
    }
}
