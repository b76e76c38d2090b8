//! Opening a stack.

use super::args::Args;
use super::kinds::{Built, Entry, Make, OpenError};
use super::{StackError, parse};
use crate::layer::{
    Cut, Delay, Fault as FaultLayer, Kind, Layered, Log, PowerCut, Rule, Throttle, Verify,
};
use crate::storage::LockedFile;
#[cfg(feature = "formats")]
use crate::storage::Qcow2;
use crate::storage::{
    Cow, FileOptions, FileStorage, Mmap, Moved, Nbd, NbdOptions, Overlay, Ram, Vhd, Vmdk, Zero,
    open_locked,
};
use signal_hook::consts::SIGUSR1;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use xen_nbd::{Uri, UriError};

/// Settings for all storages of a stack, whatever its text says.
#[derive(Clone, Copy, Default, Debug)]
pub struct Files {
    /// No file is to be written, unless it is one of an overlay's changes.
    pub read_only: bool,
    /// The length of what has no file to tell it, in bytes.
    pub size: Option<u64>,
}

/// Opens the stack that `text` describes.
pub fn build(text: &str, files: &Files) -> Result<Built, StackError> {
    build_parts(&parse(text)?.0, files)
}

fn build_parts(parts: &[(&'static Entry, Args)], files: &Files) -> Result<Built, StackError> {
    let mut parts = parts.iter().rev();
    let (entry, args) = parts.next().expect("a stack has a storage");
    let Make::Storage(make) = entry.make else { unreachable!("the last part is a storage") };
    // Nobody writes what lies below an overlay.
    let overlaid = parts.clone().any(|(entry, _)| entry.name == OVERLAY);
    let files = &Files { read_only: files.read_only || overlaid, ..*files };
    let mut built = make(args, files).map_err(|fault| fail(args, fault))?;
    for (entry, args) in parts {
        let Make::Layer(make) = entry.make else {
            unreachable!("all but the last part are layers")
        };
        built = make(args, built).map_err(|fault| fail(args, fault))?;
    }
    Ok(built)
}

pub(super) fn fail(args: &Args, fault: OpenError) -> StackError {
    match fault {
        OpenError::Words(error) => error,
        OpenError::Io(reason) => StackError::Open { part: args.part.clone(), reason },
    }
}

/// Moves the changes of the overlay on top of the stack into what is below it.
pub fn commit(text: &str) -> Result<Moved, StackError> {
    let (args, below) = overlay_and_below(text, false)?;
    let work = || {
        let fingerprint = below.fingerprint()?;
        let file = open_locked(&args.path(), true)?;
        Overlay::commit(file, below.clone(), &fingerprint, || below.fingerprint())
    };
    work().map_err(|error| fail(&args, error.into()))
}

/// Gives the changes of the overlay on top of the stack up.
pub fn revert(text: &str) -> Result<Moved, StackError> {
    let (args, below) = overlay_and_below(text, true)?;
    let work = || {
        let fingerprint = below.fingerprint()?;
        Overlay::revert(open_locked(&args.path(), true)?, below, &fingerprint)
    };
    work().map_err(|error| fail(&args, error.into()))
}

/// Says that the changes of the overlay on top of the stack are right for what is below it now, for
/// users that know better than the overlay.
pub fn rebase(text: &str) -> Result<(), StackError> {
    let (args, below) = overlay_and_below(text, true)?;
    let work = || {
        let fingerprint = below.fingerprint()?;
        Overlay::rebase(open_locked(&args.path(), true)?, below, &fingerprint)
    };
    work().map_err(|error| fail(&args, error.into()))
}

fn overlay_and_below(text: &str, read_only: bool) -> Result<(Args, Built), StackError> {
    let mut parts = parse(text)?.0;
    let (entry, args) = parts.remove(0);
    if entry.name != OVERLAY {
        return Err(
            args.wrong("there are changes only in an overlay: overlay:PATH/... must come first")
        );
    }
    if !args.path().exists() {
        return Err(args.wrong("there is no such file"));
    }
    Ok((args, build_parts(&parts, &Files { read_only, size: None })?))
}

/// Opens the file of an overlay, or makes it, and locks it against other programs.
fn open_overlay(path: &Path) -> io::Result<LockedFile> {
    let made = File::options().write(true).create_new(true).open(path);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let file = open_locked(path, true)?;
    if !file.metadata()?.is_file() {
        let text = "the changes of an overlay are kept in a file, not on a device";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(file)
}

/// The name of the layer that has changes.
const OVERLAY: &str = "overlay";

const DEFAULT_SIZE: u64 = 1 << 30;

pub(super) fn size(args: &Args, files: &Files) -> Result<u64, OpenError> {
    let size = args.size("size")?.or(files.size).unwrap_or(DEFAULT_SIZE);
    match size > 0 && size.is_multiple_of(args.sector_size()?.into()) {
        true => Ok(size),
        false => Err(args
            .wrong(format!("a size of {size} bytes is not one or more whole sectors"))
            .into()),
    }
}

/// A size for what has its own is a mistake.
pub(super) fn no_size(args: &Args, files: &Files) -> Result<(), OpenError> {
    match files.size {
        Some(_) => Err(args
            .wrong(
                "its file or its server says how long it is: truncate -s SIZE sets that of a file",
            )
            .into()),
        None => Ok(()),
    }
}

pub(super) fn discard(args: &Args, files: &Files) -> Result<Built, OpenError> {
    Ok(Arc::new(Zero::new(size(args, files)?, args.sector_size()?)))
}

pub(super) fn ram(args: &Args, files: &Files) -> Result<Built, OpenError> {
    Ok(Arc::new(Ram::open(size(args, files)?, args.sector_size()?)?))
}

pub(super) fn file(args: &Args, files: &Files) -> Result<Built, OpenError> {
    no_size(args, files)?;
    let read_only = args.flag("ro")? || files.read_only;
    let options =
        FileOptions { read_only, direct: args.flag("direct")?, sector_size: args.sector_size()? };
    Ok(Arc::new(FileStorage::open(&args.path(), options)?))
}

pub(super) fn mmap(args: &Args, files: &Files) -> Result<Built, OpenError> {
    no_size(args, files)?;
    let writable = !args.flag("ro")? && !files.read_only;
    Ok(Arc::new(Mmap::open(&args.path(), writable, args.sector_size()?)?))
}

pub(super) fn vhd(args: &Args, files: &Files) -> Result<Built, OpenError> {
    no_size(args, files)?;
    let writable = !args.flag("ro")? && !files.read_only;
    Ok(Arc::new(Vhd::open(open_locked(&args.path(), writable)?, writable)?))
}

/// Returns the server and export that an `nbd` names.
pub(super) fn nbd_uri(args: &Args) -> Result<Uri, StackError> {
    let path = args.path();
    let text = path.to_str().expect("it was text");
    text.parse().map_err(|error: UriError| args.wrong(error.to_string()))
}

/// Returns the options of an `nbd`.
pub(super) fn nbd_options(args: &Args, files: &Files) -> Result<NbdOptions, OpenError> {
    no_size(args, files)?;
    let ours = NbdOptions::default();
    let options = NbdOptions {
        read_only: args.flag("ro")? || files.read_only,
        outage: args.duration("outage")?.unwrap_or(ours.outage),
        timeout: args.duration("timeout")?.unwrap_or(ours.timeout),
        connections: args.number("connections")?.unwrap_or(ours.connections),
        unflushed: args.size("unflushed")?.unwrap_or(ours.unflushed),
    };
    if options.timeout.is_zero() || !(1..=16).contains(&options.connections) {
        return Err(args.wrong("timeout=TIME must not be 0, and connections=N be 1 to 16").into());
    }
    Ok(options)
}

pub(super) fn nbd(args: &Args, files: &Files) -> Result<Built, OpenError> {
    let (uri, options) = (nbd_uri(args)?, nbd_options(args, files)?);
    Ok(Arc::new(Nbd::open(uri, options)?))
}

pub(super) fn cow(args: &Args, files: &Files) -> Result<Built, OpenError> {
    no_size(args, files)?;
    Ok(Arc::new(Cow::open(&args.path(), args.sector_size()?)?))
}

#[cfg(feature = "formats")]
pub(super) fn qcow2(args: &Args, files: &Files) -> Result<Built, OpenError> {
    no_size(args, files)?;
    let writable = !args.flag("ro")? && !files.read_only;
    Ok(Arc::new(Qcow2::open(&args.path(), writable, args.flag("trusted")?)?))
}

pub(super) fn vmdk(args: &Args, files: &Files) -> Result<Built, OpenError> {
    no_size(args, files)?;
    Ok(Arc::new(Vmdk::open(&args.path(), args.flag("trusted")?)?))
}

pub(super) fn overlay(args: &Args, below: Built) -> Result<Built, OpenError> {
    let file = open_overlay(&args.path())?;
    Ok(Arc::new(Overlay::open(file, below.clone(), &below.fingerprint()?)?))
}

pub(super) fn throttle(args: &Args, below: Built) -> Result<Built, OpenError> {
    let (requests, bytes) = (args.number("iops")?, args.size("rate")?);
    if requests.or(bytes).is_none() || requests == Some(0) || bytes == Some(0) {
        return Err(args
            .wrong("iops=N or rate=SIZE must say how much, and more than nothing")
            .into());
    }
    Ok(Arc::new(Layered::new(Throttle::new(requests, bytes), below)))
}

pub(super) fn delay(args: &Args, below: Built) -> Result<Built, OpenError> {
    let fixed =
        args.duration("time")?.ok_or_else(|| args.wrong("how long? for instance delay:5ms"))?;
    let jitter = args.duration("jitter")?.unwrap_or_default();
    Ok(Arc::new(Layered::new(Delay::new(fixed, jitter, seed(args)?), below)))
}

fn seed(args: &Args) -> Result<u64, StackError> {
    Ok(args.number("seed")?.unwrap_or(0))
}

pub(super) fn fault(args: &Args, below: Built) -> Result<Built, OpenError> {
    let kind = |name: &str| {
        Kind::named(name).ok_or_else(|| args.wrong(format!("op={name}: there is no such request")))
    };
    let kinds: Option<Vec<Kind>> =
        args.text("op")?.map(|names| names.split('+').map(kind).collect()).transpose()?;
    let kinds = kinds.unwrap_or_default();
    let (from, to) = (args.size("from")?, args.size("to")?);
    let range = from.or(to).map(|_| from.unwrap_or(0)..to.unwrap_or(u64::MAX));
    let (every, probability) = (args.number("every")?, args.number::<f64>("p")?);
    if every == Some(0) || probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
        return Err(args.wrong("every=N must be 1 or more, and p=NUMBER from 0 to 1").into());
    }
    let (torn, silent) = (args.flag("torn")?, args.flag("silent")?);
    if silent && (kinds.is_empty() || kinds.contains(&Kind::Read)) {
        return Err(args
            .wrong("a read cannot be silent: op=KIND must name what is, for instance op=flush")
            .into());
    }
    let rule = Rule { kinds, range, every, probability, torn, silent };
    Ok(Arc::new(Layered::new(FaultLayer::new(rule, seed(args)?), below)))
}

pub(super) fn verify(_: &Args, below: Built) -> Result<Built, OpenError> {
    Ok(Arc::new(Layered::new(Verify::new(), below)))
}

pub(super) fn log(args: &Args, below: Built) -> Result<Built, OpenError> {
    let out = File::options().create(true).append(true).open(args.path())?;
    Ok(Arc::new(Layered::new(Log::new(BufWriter::new(out)), below)))
}

pub(super) fn powercut(args: &Args, below: Built) -> Result<Built, OpenError> {
    let off = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGUSR1, off.clone())?;
    let keep = args.number("keep")?.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&keep) {
        return Err(args.wrong("keep=NUMBER must be from 0 to 1").into());
    }
    let rule = Cut { after: args.number("after")?, keep, seed: seed(args)? };
    Ok(Arc::new(Layered::new(PowerCut::new(rule, off), below)))
}
