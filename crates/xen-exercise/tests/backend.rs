//! The tests against `xen-blk`'s backend, over its frontend and by hand, in the simulator.

mod common;

use common::{Contents, Defect, Ran, XVDA};
use std::rc::Rc;
use std::time::Duration;
use xen_blk::back::storage::{Error, Info};
use xen_blk::back::{Config, Storage};
use xen_blk::protocol::{DiscardInfo, Units};
use xen_platform::{EventCounter, sleep};
use xen_sim::Domain;

const XVDB: u32 = 51728;

/// The contents as a storage, with discard or without.
struct Served {
    contents: Rc<Contents>,
    discard: bool,
    clock: Domain,
    grown: EventCounter,
    grows: bool,
}

impl Storage for Served {
    fn info(&self) -> Info {
        let discard = DiscardInfo { granularity: 4096, alignment: 0, secure: true };
        Info {
            sector_size: self.contents.sector_size,
            physical_sector_size: self.contents.sector_size,
            read_only: self.contents.read_only,
            discard: self.discard.then_some(discard),
            ..Info::new(self.contents.sectors())
        }
    }
    async fn read(&self, sector: u64, to: &mut [u8]) -> Result<(), Error> {
        sleep(&self.clock, Duration::from_micros(20)).await;
        self.contents.read(sector, to).then_some(()).ok_or(Error::Failed)
    }
    async fn write(&self, sector: u64, from: &[u8]) -> Result<(), Error> {
        sleep(&self.clock, Duration::from_micros(20)).await;
        self.contents.write(sector, from, false);
        Ok(())
    }
    async fn flush(&self) -> Result<(), Error> {
        self.contents.flush();
        Ok(())
    }
    async fn discard(&self, sector: u64, count: u64, _: bool) -> Result<(), Error> {
        self.contents.discard(sector, count);
        Ok(())
    }
    async fn changed(&self) {
        if !self.grows {
            std::future::pending().await
        }
        sleep(&self.clock, Duration::from_secs(2)).await;
        if self.contents.sectors() < 8000 {
            self.contents.grow(8000);
        } else {
            std::future::pending::<()>().await
        }
        self.grown.signal();
    }
}

struct Setup {
    disks: Vec<(u32, Rc<Contents>)>,
    discard: bool,
    grows: bool,
    config: Config,
}

fn on_backend(line: &str, setup: Setup) -> Ran {
    let Setup { disks, discard, grows, config } = setup;
    common::on_backend(line, &config, |clock| {
        let served = |(vdev, contents)| {
            let clock = clock.clone();
            (vdev, Served { contents, discard, clock, grown: EventCounter::new(), grows })
        };
        disks.into_iter().map(served).collect()
    })
}

fn one(sectors: u64, sector_size: u32, defect: Option<Defect>) -> Setup {
    let config = Config::default().with(|config| {
        config.indirect_segments = 4096;
        config.queues_max = 4;
    });
    Setup {
        disks: vec![(XVDA, Contents::new(sectors, sector_size, defect))],
        discard: true,
        grows: false,
        config,
    }
}

const LINE: &str = "blk.destroy=xvda blk.size=512K blk.seed=3 blk.loops=6 blk.bytes=1M";

#[test]
fn backend_passes_all_tests() {
    for (sectors, sector_size) in [(4096, 512), (4096, 4096)] {
        let ran = on_backend(&format!("blk.run=all {LINE}"), one(sectors, sector_size, None));
        assert_eq!(ran.verdict.failed + ran.verdict.skipped, 0, "{}", ran.text);
        assert_eq!(ran.published[0].1, "pass");
    }
}

#[test]
fn backend_withstands_hostile_test() {
    for sector_size in [512, 4096] {
        let mut setup = one(4096, sector_size, None);
        setup.disks.push((XVDB, Contents::new(256, 512, None)));
        let ran =
            on_backend(&format!("blk.disk=xvda blk.run=hostile blk.hostile=yes {LINE}"), setup);
        assert_eq!(ran.verdict.failed, 0, "{}", ran.text);
    }
}

#[test]
fn grown_disk_is_used_to_its_new_end() {
    let mut setup = one(4096, 512, None);
    setup.grows = true;
    let ran = on_backend(&format!("blk.run=resize {LINE}"), setup);
    assert_eq!(ran.verdict.passed, 1, "{}", ran.text);
    assert!(ran.text.contains("from 4096 to 8000 sectors"), "{}", ran.text);
}

#[test]
fn defect_behind_a_backend_is_found() {
    use Defect::*;
    for (defect, test) in [
        (Misplaces, "rand"),
        (Tears, "seq"),
        (Drops, "verify"),
        (Damages, "segments"),
        (FailsReads, "features"),
    ] {
        let ran = on_backend(&format!("blk.run={test} {LINE}"), one(4096, 512, Some(defect)));
        assert_eq!(ran.verdict.failed, 1, "{test} does not find {defect:?}: {}", ran.text);
    }
}

#[test]
fn units_of_a_backend_are_inferred() {
    for (name, units) in Units::NAMED {
        let mut setup = one(4096, 4096, None);
        setup.config.units = units;
        let ran = on_backend(&format!("blk.run=report {LINE}"), setup);
        assert!(
            ran.text.contains(&format!("\"units_inferred\":\"{name}\"")),
            "{name}: {}",
            ran.text
        );
    }
    let ran = on_backend(&format!("blk.run=report {LINE}"), one(4096, 512, None));
    assert!(ran.text.contains("\"units_inferred\":\"any\""), "{}", ran.text);
}

#[test]
fn limits_are_found_by_trying() {
    for (offered, found) in [(256, 256), (4096, 512), (0, 0)] {
        let mut setup = one(4096, 512, None);
        setup.config.indirect_segments = offered;
        let ran = on_backend(&format!("blk.run=report {LINE}"), setup);
        let bytes = u32::max(found, 11) * 4096;
        let limits = format!(
            "{{\"depth\":512,\"indirect_segments\":{found},\"direct_segments\":11,\"flush\":\"okay\",\"barrier\":\"okay\",\
             \"discard\":\"okay\",\"discard_of_a_sector\":\"okay\",\"bytes\":{bytes}}}"
        );
        assert!(ran.text.contains(&format!("\"limits\":{limits},")), "no {limits} in {}", ran.text);
        assert!(
            ran.published.contains(&("xvda/limits".to_string(), limits)),
            "{:?}",
            ran.published
        );
    }
    for line in ["blk.run=report", "blk.run=report blk.destroy=xvda blk.first=8"] {
        let setup = one(4096, 512, None);
        let contents = setup.disks[0].1.clone();
        contents.write(0, &[7; 512], false);
        let ran = on_backend(line, setup);
        assert!(
            ran.text.contains("\"barrier\":\"not tried\",\"discard\":\"not tried\""),
            "{line}: {}",
            ran.text
        );
        let mut sector = [0; 512];
        contents.read(0, &mut sector);
        assert_eq!(sector, [7; 512], "{line}");
    }
}

#[test]
fn mixed_workload_runs_on_all_disks_at_once() {
    let line = "blk.disk=xvda,xvdb blk.run=mix blk.destroy=xvda,xvdb blk.size=512K blk.seed=3 \
                blk.mix=read:50,write:40,discard:5,flush:5,least:512,most:32K,depth:8,seconds:6,iops:100,hot:20";
    for (defect, failed) in [(None, 0), (Some(Defect::Drops), 1)] {
        let mut setup = one(4096, 512, defect);
        setup.disks.push((XVDB, Contents::new(4096, 512, None)));
        let ran = on_backend(line, setup);
        assert_eq!(ran.verdict.failed, failed, "{defect:?}: {}", ran.text);
        for disk in ["xvda", "xvdb"] {
            let beats = format!("# {{\"beat\":{{\"disk\":\"{disk}\",\"s\":5,");
            assert!(ran.text.contains(&beats), "no {beats} in {}", ran.text);
        }
        assert!(ran.text.contains("ok 2 - xvdb mix: in the run of xvda"), "{}", ran.text);
    }
    // Without permission it only reads.
    let setup = one(4096, 512, None);
    let contents = setup.disks[0].1.clone();
    let ran = on_backend("blk.run=mix blk.mix=write:9,seconds:1,iops:50", setup);
    assert_eq!(ran.verdict.failed, 0, "{}", ran.text);
    let mut bytes = [1; 512];
    contents.read(0, &mut bytes);
    assert_eq!(bytes, [0; 512]);
}
