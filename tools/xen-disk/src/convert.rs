//! `xen-disk convert`: one storage into another.

use crate::stack::{self, Files};
use crate::storage::Storage;
use crate::{Code, ConvertArguments, Failure};
use std::io;

/// Bytes that are copied at a time.
const PIECE: usize = 1 << 20;

/// Shows how far a copy is.
pub trait Progress {
    /// It will be `bytes` long.
    fn begin(&mut self, bytes: u64);
    /// So many are done.
    fn done(&mut self, bytes: u64);
    /// It has ended.
    fn end(&mut self);
}

/// What was copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copied {
    /// The length of the disk, in bytes.
    pub bytes: u64,
    /// How many of them were not zero, in whole pieces, and were written.
    pub written: u64,
}

/// Copies `args.source` to `args.destination`, makes the destination's file if it is a missing one, and flushes.
pub fn convert(args: &ConvertArguments, progress: &mut impl Progress) -> Result<Copied, Failure> {
    let source = stack::build(&args.source, &Files { read_only: true, size: None })?;
    let bytes = source.info().bytes;
    let made = stack::create(&args.destination, bytes)?;
    let destination = stack::build(&args.destination, &Files::default())?;
    let have = destination.info().bytes;
    if have < bytes {
        let text = format!("{} has {have} bytes, and {bytes} are to be copied", args.destination);
        return Err(Failure::new(Code::Usage, text));
    }
    progress.begin(bytes);
    let copied = copy(&*source, &*destination, made, |done| progress.done(done));
    progress.end();
    copied.map_err(|error| Failure::new(Code::Storage, format!("the copy is not complete: {error}")))
}

/// Copies all of `from`. Zeros are left out if `to` is known to be zero.
fn copy(from: &dyn Storage, to: &dyn Storage, to_is_zero: bool, mut done: impl FnMut(u64)) -> io::Result<Copied> {
    let bytes = from.info().bytes;
    let mut piece = vec![0; PIECE];
    let mut written = 0;
    for at in (0..bytes).step_by(PIECE) {
        let piece = &mut piece[..(bytes - at).min(PIECE as u64) as usize];
        from.read(at, piece)?;
        if !to_is_zero || piece.iter().any(|byte| *byte != 0) {
            to.write(at, piece)?;
            written += piece.len() as u64;
        }
        done(at + piece.len() as u64);
    }
    to.flush()?;
    Ok(Copied { bytes, written })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Steps(Vec<u64>);

    impl Progress for Steps {
        fn begin(&mut self, bytes: u64) {
            self.0.push(bytes)
        }
        fn done(&mut self, bytes: u64) {
            self.0.push(bytes)
        }
        fn end(&mut self) {}
    }

    #[test]
    fn a_copy_is_the_same_and_zeros_stay_holes() {
        let source = std::env::temp_dir().join(format!("xen-disk-convert-{}", std::process::id()));
        let copy = source.with_extension("copy");
        let mut bytes = vec![0; 3 * PIECE + 512];
        bytes[PIECE + 7] = 1;
        std::fs::write(&source, &bytes).unwrap();
        let mut args = ConvertArguments {
            source: format!("cow:{}", source.display()),
            destination: format!("file:{}", copy.display()),
        };
        let mut steps = Steps(Vec::new());
        let copied = convert(&args, &mut steps).unwrap();
        assert_eq!(copied, Copied { bytes: bytes.len() as u64, written: PIECE as u64 });
        assert_eq!(steps.0, [3 * PIECE + 512, PIECE, 2 * PIECE, 3 * PIECE, 3 * PIECE + 512].map(|n| n as u64));
        assert_eq!(std::fs::read(&copy).unwrap(), bytes);
        // By way of another format, which is made as well.
        let vhd = format!("vhd:{}", source.with_extension("vhd").display());
        let there = ConvertArguments { source: args.source.clone(), destination: vhd.clone() };
        let back =
            ConvertArguments { source: vhd, destination: format!("file:{}", source.with_extension("back").display()) };
        assert_eq!(convert(&there, &mut steps).unwrap().written, PIECE as u64);
        convert(&back, &mut steps).unwrap();
        assert_eq!(std::fs::read(source.with_extension("back")).unwrap(), bytes);
        ["vhd", "back"].iter().for_each(|name| std::fs::remove_file(source.with_extension(name)).unwrap());
        // One that is there is written in full.
        std::fs::write(&copy, vec![9; bytes.len()]).unwrap();
        assert_eq!(convert(&args, &mut steps).unwrap().written, bytes.len() as u64);
        assert_eq!(std::fs::read(&copy).unwrap(), bytes);
        args.destination = "ram:size=1M".into();
        assert_eq!(convert(&args, &mut steps).unwrap_err().code, Code::Usage);
        [source, copy].iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }
}
