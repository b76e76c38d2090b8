//! A storage of one's own: every write goes to two storages, reads come from the first that can.
//!
//! `cargo run --example mirror` shows it at work; to serve it to a guest, give it a name in `src/stack/kinds.rs`.

use std::io;
use std::sync::Arc;
use xen_disk::stack::{Files, build};
use xen_disk::storage::{Info, Pace, Storage};

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

    fn pace(&self) -> Pace {
        if self.0.iter().all(|copy| copy.pace() == Pace::Quick) { Pace::Quick } else { Pace::Slow }
    }
}

fn main() {
    let open = |stack: &str| build(stack, &Files::default()).expect("a stack without files can be opened");
    // The first copy has a bad place.
    let mirror = Mirror([open("fault:op=read,from=4K,to=8K/ram:size=1M"), open("ram:size=1M")]);
    mirror.write(4096, &[7; 4096]).expect("both copies take it");
    mirror.flush().expect("both copies are flushed");
    let mut back = [0; 4096];
    mirror.read(4096, &mut back).expect("the second copy has it");
    assert_eq!(back, [7; 4096]);
    println!("4096 bytes came back from the copy that is intact");
}
