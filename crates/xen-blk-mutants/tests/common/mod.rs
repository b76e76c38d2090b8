//! Disks that the backend with its bugs serves to a guest with the exerciser, in the simulator.

mod guest;
mod shelf;

pub use guest::{Ran, on};
use shelf::Shelf;
use std::rc::Rc;
use xen_blk_mutants::back::storage::Info;
use xen_blk_mutants::back::{Config, DataPath};
use xen_blk_mutants::mutant;
use xen_blk_mutants::protocol::DiscardInfo;

/// Sectors of the disk.
const SECTORS: u64 = 4096;
/// The disks by their names in the table of bugs.
pub const DISKS: [&str; 7] = ["usual", "copying", "mapping", "readonly", "plain", "4k", "growing"];

fn info(disk: &str) -> Info {
    let discard = DiscardInfo { granularity: 4096, alignment: 0, secure: true };
    let mut info = Info { discard: Some(discard), ..Info::new(SECTORS) };
    match disk {
        "readonly" => info.read_only = true,
        "plain" => (info.flush, info.barrier, info.discard) = (false, false, None),
        "4k" => (info.sector_size, info.physical_sector_size) = (4096, 4096),
        _ => {}
    }
    info
}

fn config(disk: &str) -> Config {
    Config::default().with(|config| {
        config.queues_max = 4;
        config.indirect_segments = 1024;
        // Fewer than the frontend has pages.
        config.persistent = if matches!(disk, "copying" | "mapping") { 0 } else { 96 };
        if disk == "mapping" {
            config.data_path = DataPath::Map;
        }
    })
}

/// Runs tests on a disk whose backend has that bug, or none.
pub fn run(disk: &str, tests: &str, bug: &'static str) -> Ran {
    let line = |tests: &str| {
        format!(
            "blk.disk=xvda blk.run={tests} blk.destroy=xvda blk.hostile=yes blk.size=256K \
             blk.seed=3 blk.loops=8 blk.bytes=1M"
        )
    };
    let shelf = Rc::new(Shelf::new(info(disk), disk == "growing"));
    mutant::switch(bug);
    if !matches!(tests, "durable" | "ordered") {
        return on(&line(tests), &config(disk), &shelf);
    }
    // Until the power goes, and what is there then.
    shelf.cut_after(99);
    let line =
        line(tests).replace("blk.size=256K", "blk.size=512K").replace("loops=8", "loops=100");
    let ran = on(&line, &config(disk), &shelf);
    mutant::switch("");
    shelf.restore();
    let check = format!("blk.run={tests}-check blk.durable={}", ran.durable);
    on(&line.replace(&format!("blk.run={tests}"), &check), &config(disk), &shelf)
}
