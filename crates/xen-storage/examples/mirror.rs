//! A layer of one's own: every write goes to two storages, reads come from the first that can.
//!
//! `cargo run --example mirror` shows it at work. A program that registers it the same way and then
//! calls `xen_disk::main()` is the tool with this layer.

use std::io;
use std::sync::Arc;
use xen_storage::stack::{Args, Built, Entry, Files, OpenError, build, register};
use xen_storage::storage::{Info, Pace, Storage};

/// Two copies of one disk.
struct Mirror([Arc<dyn Storage>; 2]);

impl Storage for Mirror {
    /// As long as the shorter one.
    fn info(&self) -> Info {
        let [one, other] = [self.0[0].info(), self.0[1].info()];
        let sector_size = one.sector_size.max(other.sector_size);
        let read_only = one.read_only || other.read_only;
        Info { read_only, ..Info::new(one.bytes.min(other.bytes)).with_sector_size(sector_size) }
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.info().range(at, to.len() as u64)?;
        self.0[0].read(at, to).or_else(|_| self.0[1].read(at, to))
    }

    /// Done only if both are.
    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        self.info().range(at, from.len() as u64)?;
        self.0.iter().try_for_each(|copy| copy.write(at, from))
    }

    fn flush(&self) -> io::Result<()> {
        self.0.iter().try_for_each(|copy| copy.flush())
    }

    /// A write is done only if both copies have it.
    fn outlives(&self) -> bool {
        self.0.iter().all(|copy| copy.outlives())
    }

    fn identity(&self) -> Option<String> {
        Some(format!("mirror of {} and {}", self.0[0].identity()?, self.0[1].identity()?))
    }

    fn pace(&self) -> Pace {
        if self.0.iter().all(|copy| copy.pace() == Pace::Quick) { Pace::Quick } else { Pace::Slow }
    }
}

/// Opens `mirror:"STACK"/...`: what is below, and the stack of the second copy.
fn open(args: &Args, below: Built) -> Result<Built, OpenError> {
    let second = args.path();
    let second = second.to_str().ok_or_else(|| args.wrong("it is not UTF-8"))?;
    Ok(Arc::new(Mirror([below, build(second, &Files::default())?])))
}

fn main() {
    let entry = Entry::layer("mirror", "keeps a second copy in another stack", open);
    register(entry.with_path()).expect("the name is free");
    // The first copy has a bad place.
    let stack = "mirror:\"ram:size=1M\"/fault:op=read,from=4K,to=8K/ram:size=1M";
    let mirror = build(stack, &Files::default()).expect("a stack without files can be opened");
    mirror.write(4096, &[7; 4096]).expect("both copies take it");
    mirror.flush().expect("both copies are flushed");
    let mut back = [0; 4096];
    mirror.read(4096, &mut back).expect("the second copy has it");
    assert_eq!(back, [7; 4096]);
    println!("4096 bytes came back from the copy that is intact");
}
