//! Making the file of a storage that is missing.

use super::args::Args;
use super::build::fail;
use super::kinds::OpenError;
use super::{StackError, parse};
use crate::storage::Vhd;
use std::fs::{self, File};
use std::path::PathBuf;

/// A storage that was made, and is all zero.
#[derive(Debug)]
pub struct Made {
    file: Option<PathBuf>,
}

impl Made {
    /// Removes its file again, for a program that cannot do what it made it for.
    pub fn undo(self) {
        if let Some(path) = self.file {
            // A file that stays is in nobody's way but the user's, and is named in the error.
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes the file of a stack that is nothing but one, or the disk in an object store, for `bytes`,
/// if it is missing; `None` if it is there.
pub fn create(text: &str, bytes: u64) -> Result<Option<Made>, StackError> {
    let parts = parse(text)?.0;
    let (entry, args) = &parts[0];
    #[cfg(feature = "object")]
    if entry.name == "object" {
        let made = super::object::create(args, bytes).map_err(|fault| fail(args, fault))?;
        return Ok(made.then_some(Made { file: None }));
    }
    let can = ["file", "mmap", "vhd", "qcow2"].contains(&entry.name);
    if !can || args.path().exists() {
        return Ok(None);
    }
    let made = create_file(entry.name, args, bytes);
    made.map(Some).map_err(|error| fail(args, error))
}

fn create_file(name: &str, args: &Args, bytes: u64) -> Result<Made, OpenError> {
    let path = args.path();
    #[cfg(feature = "formats")]
    if name == "qcow2" {
        let made = crate::storage::create_qcow2(&path, bytes);
        return finish(made, path);
    }
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    let made = match name {
        "vhd" => Vhd::create(&file, bytes),
        _ => file.set_len(bytes),
    };
    finish(made, path)
}

/// Removes what could be made only in part.
fn finish(made: std::io::Result<()>, path: PathBuf) -> Result<Made, OpenError> {
    let file = Made { file: Some(path) };
    match made {
        Ok(()) => Ok(file),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::AlreadyExists {
                file.undo();
            }
            Err(error.into())
        }
    }
}
