//! `object:...` of a stack.

use super::args::Args;
use super::build::Files;
use super::kinds::{Built, OpenError};
use super::{StackError, parse_duration};
use crate::storage::object::{
    CHUNK, Cached, KEY, Make, Object, Objects, OnOutage, Options, open_store, read_key,
};
use std::path::Path;
use std::sync::Arc;

/// Opens the disk.
pub(super) fn open(args: &Args, files: &Files) -> Result<Built, OpenError> {
    check(args)?;
    let size = args.size("size")?.or(files.size);
    let name = name(args)?;
    let read_only = files.read_only || args.flag("ro")?;
    let key = key(args)?;
    let made = !read_only && size.is_some();
    let store = store(args, made)?;
    if let (Some(bytes), false) = (size, read_only) {
        Object::create(&store, name, &make(args, bytes, key)?)?;
    }
    let store: Box<dyn Objects> = match (args.text("cache")?, args.size("limit")?) {
        (Some(folder), most) => {
            Box::new(Cached::open(store, folder.as_ref(), most.unwrap_or(1 << 30))?)
        }
        (None, _) => store,
    };
    let memory = args.size("memory")?.unwrap_or(64 << 20);
    let take_over = args.flag("takeover")?;
    let options = Options { memory, read_only, take_over, key, ..Options::default() };
    Ok(Arc::new(Object::open(store, name, options)?))
}

/// Makes the disk, if there is none of that name.
pub(super) fn create(args: &Args, bytes: u64) -> Result<bool, OpenError> {
    check(args)?;
    let bytes = args.size("size")?.unwrap_or(bytes);
    let key = key(args)?;
    let store = store(args, true)?;
    Ok(Object::create(&store, name(args)?, &make(args, bytes, key)?)?)
}

/// Finds what is wrong with the words.
pub(super) fn check(args: &Args) -> Result<(), StackError> {
    for size in ["size", "memory"] {
        args.size(size)?;
    }
    for flag in ["ro", "takeover"] {
        args.flag(flag)?;
    }
    if args.size("limit")?.is_some() && args.text("cache")?.is_none() {
        return Err(args.wrong("limit is that of a cache: cache=DIR names one"));
    }
    if args.text("key")?.is_some() && args.text("keycommand")?.is_some() {
        return Err(args.wrong("key and keycommand are both given: one is enough"));
    }
    if args.flag("takeover")? && args.flag("ro")? {
        return Err(args.wrong("takeover is not needed for a disk that is only read (ro)"));
    }
    outage(args)?;
    level(args)?;
    chunk(args)?;
    name(args).map(drop)
}

fn make(args: &Args, bytes: u64, key: Option<[u8; KEY]>) -> Result<Make, StackError> {
    Ok(Make { bytes, chunk: chunk(args)?, zstd: level(args)?, key })
}

fn name(args: &Args) -> Result<&str, StackError> {
    let name = args.text("name")?.unwrap_or("disk");
    if name.contains('/') || name.starts_with('.') {
        return Err(args
            .wrong(format!("a disk cannot be called {name:?}: no slashes, and no dot in front")));
    }
    Ok(name)
}

fn store(args: &Args, make: bool) -> Result<Box<dyn Objects>, OpenError> {
    let place = args.path();
    let place = place.to_str().expect("it was text");
    Ok(open_store(place, make, outage(args)?)?)
}

fn chunk(args: &Args) -> Result<u32, StackError> {
    let bytes = args.size("chunk")?.unwrap_or(CHUNK.into());
    u32::try_from(bytes).map_err(|_| args.wrong(format!("chunks of {bytes} bytes are too long")))
}

fn level(args: &Args) -> Result<Option<i32>, StackError> {
    match args.number("zstd")? {
        Some(level) if !(1..=19).contains(&level) => {
            Err(args.wrong(format!("zstd={level}: levels from 1 to 19 are possible")))
        }
        level => Ok(level),
    }
}

fn outage(args: &Args) -> Result<OnOutage, StackError> {
    match args.text("outage")? {
        None => Ok(OnOutage::default()),
        Some("wait") => Ok(OnOutage::Wait(None)),
        Some("fail") => Ok(OnOutage::Fail),
        Some(time) => match parse_duration(time) {
            Ok(time) => Ok(OnOutage::Wait(Some(time))),
            Err(_) => Err(args.wrong(format!(
                "outage={time}: wait, fail or a time is possible, for instance 300s"
            ))),
        },
    }
}

/// The key, from its file or from what a command prints.
fn key(args: &Args) -> Result<Option<[u8; KEY]>, OpenError> {
    let path = args.text("key")?.map(Path::new);
    Ok(read_key(path, args.text("keycommand")?)?)
}
