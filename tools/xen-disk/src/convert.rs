//! `xen-disk convert`: one storage into another.

use crate::stack::{self, Files, Made};
use crate::storage::Storage;
use crate::{Code, ConvertArguments, Failure};
use std::io;
use tools_common::Progress;

/// Bytes that are read at a time.
const PIECE: u64 = 1 << 20;
/// Bytes of a hole that are made zero at a time.
const HOLE: u64 = 64 << 20;
/// Unit in which zeros are looked for, in bytes.
const UNIT: usize = 4096;

/// Result of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copied {
    /// Length of the disk in bytes.
    pub bytes: u64,
    /// Number of them that were written; zeros are left out where the destination has some.
    pub written: u64,
}

/// Copies `args.source` to `args.destination`, makes the destination's file if it is a missing one,
/// and flushes. A file that was made for a copy that fails is removed.
pub fn convert(args: &ConvertArguments, progress: &mut impl Progress) -> Result<Copied, Failure> {
    let source = stack::build(&args.source, &Files { read_only: true, size: None })?;
    let bytes = source.info().bytes;
    let made = stack::create(&args.destination, bytes)?;
    let copied = copy_into(&*source, args, made.as_ref(), progress);
    if let (Err(_), Some(made)) = (&copied, made) {
        made.undo();
    }
    copied
}

fn copy_into(
    source: &dyn Storage,
    args: &ConvertArguments,
    made: Option<&Made>,
    progress: &mut impl Progress,
) -> Result<Copied, Failure> {
    let destination = stack::build(&args.destination, &Files::default())?;
    let (bytes, info) = (source.info().bytes, destination.info());
    let usage = |text| Err(Failure::new(Code::Usage, text));
    if info.read_only {
        return usage(format!("{} cannot be written", args.destination));
    }
    if info.bytes < bytes {
        let have = info.bytes;
        return usage(format!(
            "{} has {have} bytes, and {bytes} are to be copied",
            args.destination
        ));
    }
    let unit = info.sector_size.max(source.info().sector_size);
    if !bytes.is_multiple_of(unit.into()) {
        return usage(format!("{bytes} bytes are not whole sectors of {unit}"));
    }
    progress.begin("", bytes);
    let copied = copy(source, &*destination, made.is_some(), |done| progress.done(done));
    progress.end();
    copied
        .map_err(|error| Failure::new(Code::Storage, format!("the copy is not complete: {error}")))
}

/// Copies all of `from`. Zeros are left out if `to` is known to be zero.
fn copy(
    from: &dyn Storage,
    to: &dyn Storage,
    to_is_zero: bool,
    mut done: impl FnMut(u64),
) -> io::Result<Copied> {
    let bytes = from.info().bytes;
    let sector = u64::from(to.info().sector_size.max(from.info().sector_size));
    let mut buffer = vec![0; PIECE as usize];
    let (mut at, mut written) = (0, 0);
    while at < bytes {
        // Holes of the source are not read.
        let data = from.next_data(at)?.filter(|data| data.start < bytes);
        let start = data.as_ref().map_or(bytes, |data| at.max(data.start / sector * sector));
        if at < start {
            let end = if to_is_zero { start } else { start.min(at + HOLE) };
            if !to_is_zero {
                to.write_zeroes(at, end - at, true)?;
            }
            at = end;
            done(at);
            continue;
        }
        let data = data.expect("there is some, since it begins before the end");
        // Pieces end at whole ones, so that chunks and blocks are written once.
        let end = data.end.next_multiple_of(sector).min((at / PIECE + 1) * PIECE).min(bytes);
        let piece = &mut buffer[..(end - at) as usize];
        from.read(at, piece)?;
        written += write_data(to, at, piece, to_is_zero)?;
        at = end;
        done(at);
    }
    if bytes == 0 {
        done(bytes);
    }
    to.flush()?;
    Ok(Copied { bytes, written })
}

/// Writes a piece, without its units of zeros if there are zeros already. Returns the bytes that
/// were written.
fn write_data(to: &dyn Storage, at: u64, piece: &[u8], to_is_zero: bool) -> io::Result<u64> {
    if !to_is_zero {
        return to.write(at, piece).map(|()| piece.len() as u64);
    }
    let is_zero = |unit: &[u8]| unit.iter().all(|byte| *byte == 0);
    let mut written = 0;
    let mut first = None;
    let ends = (0..piece.len()).step_by(UNIT).map(|start| start..piece.len().min(start + UNIT));
    for unit in ends.chain(std::iter::once(piece.len()..piece.len())) {
        let data = !unit.is_empty() && !is_zero(&piece[unit.clone()]);
        match (first, data) {
            (None, true) => first = Some(unit.start),
            (Some(start), false) => {
                to.write(at + start as u64, &piece[start..unit.start])?;
                written += (unit.start - start) as u64;
                first = None;
            }
            _ => {}
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests;
