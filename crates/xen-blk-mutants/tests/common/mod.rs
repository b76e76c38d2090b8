//! Disks that the backend with its bugs serves to a guest with the exerciser, in the simulator.

mod guest;
mod shelf;
#[path = "../../../xen-exercise/tests/common/guest.rs"]
mod world;

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
pub const DISKS: [&str; 8] =
    ["usual", "copying", "mapping", "readonly", "plain", "4k", "growing", "shrinking"];

fn info(disk: &str) -> Info {
    let discard = DiscardInfo { granularity: 4096, alignment: 0, secure: true };
    let mut info = Info { discard: Some(discard), ..Info::new(SECTORS) };
    match disk {
        "readonly" => info.read_only = true,
        "plain" => {
            (info.flush, info.barrier, info.discard) = (false, false, None);
            // Its last page is not whole.
            info.sectors -= 3;
        }
        "mapping" => info.discard = Some(DiscardInfo { secure: false, ..discard }),
        "4k" => (info.sector_size, info.physical_sector_size) = (4096, 4096),
        _ => {}
    }
    info
}

/// Returns the number of sectors that the disk has after a while.
fn new_size(disk: &str) -> Option<u64> {
    match disk {
        "growing" => Some(8000),
        "shrinking" => Some(2048),
        _ => None,
    }
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
    let shelf = || Rc::new(Shelf::new(info(disk), new_size(disk)));
    if !matches!(tests, "durable" | "ordered") {
        mutant::switch(bug);
        return on(&line(tests), &config(disk), &shelf());
    }
    let line =
        line(tests).replace("blk.size=256K", "blk.size=512K").replace("loops=8", "loops=100");
    // Until the power goes, and what is there then; at each place of a round, which has eight
    // writes of one or two requests.
    for cut in 99..115 {
        let shelf = shelf();
        mutant::switch(bug);
        shelf.cut_after(cut);
        let ran = on(&line, &config(disk), &shelf);
        mutant::switch("");
        shelf.restore();
        let check = format!("blk.run={tests}-check blk.durable={}", ran.durable);
        let ran = on(&line.replace(&format!("blk.run={tests}"), &check), &config(disk), &shelf);
        if ran.verdict.failed > 0 || cut == 114 {
            return ran;
        }
    }
    unreachable!("the last one returns")
}
