//! Block devices of dom0 below each storage that can lie on one.

use anyhow::{Result, ensure};

use super::super::Bench;
use super::super::disks::LONG;
use super::Image;
use crate::disk::{Census, Kind, Stamp};
use crate::host::PATIENCE;

const MIB: u32 = 8;

/// A device with sectors of 512 bytes.
const PLAIN: Kind = Kind::Loop { mib: MIB, sector: 512, read_only: false };
/// One with sectors of 4096 bytes, of which none can be written in part.
const LARGE: Kind = Kind::Loop { mib: MIB, sector: 4096, read_only: false };

/// Has a guest write four disks on block devices, and checks the devices afterwards.
pub fn devices(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let (direct, mapped) = (bench.disk("direct", LARGE)?, bench.disk("mapped", PLAIN)?);
    let golden = bench.disk("golden", PLAIN)?;
    // Room for the tables of a VHD image beside its blocks.
    let kind = Kind::Loop { mib: MIB + 4, sector: 512, read_only: false };
    let vhd = bench.disk("vhd", kind)?;
    let image = Image::new(bench, "devices", MIB)?;
    let make = format!(
        "out/xen-disk convert file:{0} vhd:{0}.vhd && cat {0}.vhd >{1}",
        image.path,
        vhd.path()
    );
    bench.host.shell(&make)?;
    let sum = golden.checksum(0, None)?;

    let stacks = [
        ("xvdb", format!("file:{},direct", direct.path())),
        ("xvdc", format!("mmap:{}", mapped.path())),
        ("xvdd", format!("vhd:{}", vhd.path())),
        ("xvde", format!("cow:{}", golden.path())),
    ];
    let stamp = Stamp { seed: 21, ..Stamp::default() };
    let words = format!("role=blk-write disk=xvdb,xvdc,xvdd,xvde {}", stamp.words());
    let guest = bench.linux(1, &words, &[])?;
    let serving = stacks
        .iter()
        .map(|(vdev, stack)| bench.xen_disk(&guest, &["--stack", stack, "--vdev", vdev]))
        .collect::<Result<Vec<_>>>()?;
    // A device that is served is nobody else's.
    let again = ["out/xen-disk", "convert", &stacks[1].1, &format!("file:{}", mapped.path())];
    let refused = bench.host.spawn(&again)?.wait(PATIENCE)?.expect(1)?;
    ensure!(refused.stderr.contains("another program"), "xen-disk said:\n{}", refused.stderr);
    guest.says_within("is as it should be", LONG)?;
    guest.gone(LONG)?;
    for process in serving {
        process.wait(PATIENCE)?.expect(4)?;
    }
    direct.stamped(stamp)?;
    mapped.stamped(stamp)?;
    bench.host.shell(&format!("out/xen-disk convert vhd:{} file:{}", vhd.path(), image.path))?;
    image.stamped(stamp)?;
    ensure!(golden.checksum(0, None)? == sum, "the device below a copy on write was written");
    for disk in [direct, mapped, golden, vhd] {
        disk.remove()?;
    }
    bench.nothing_left(&before)
}
