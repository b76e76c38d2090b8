//! The tests against `xen-blk`'s backend, over its frontend and by hand, in the simulator.

mod common;

use common::{Contents, Defect, Ran, XVDA, plan};
use std::cell::RefCell;
use std::fmt::Arguments;
use std::rc::Rc;
use std::time::Duration;
use xen_blk::back::storage::{Error, Info};
use xen_blk::back::{Config, Handle, Storage, serve};
use xen_blk::front::{DiscardInfo, Units};
use xen_blk::toolstack::{self, Attributes, Device, VBD};
use xen_exercise::{Boxed, Front, Host, Plan, Usage, run};
use xen_platform::{DomId, EventCounter, sleep};
use xen_sim::xenstore::Xenstored;
use xen_sim::{Domain, Sim, Spawner};
use xen_store::Store;

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

struct Guest {
    domain: Domain,
    spawner: Spawner,
    text: Rc<RefCell<String>>,
}

impl Host for Guest {
    fn print(&self, text: Arguments<'_>) {
        self.text.borrow_mut().push_str(&text.to_string());
    }
    fn shown(&self) -> Boxed<'_, ()> {
        Box::pin(async {})
    }
    fn usage(&self) -> Option<Usage> {
        let held = self.domain.world().leaks();
        let count = |what: &str| held.iter().filter(|leak| leak.contains(what)).count() as u32;
        Some(Usage { grants: count("grant"), ports: count("port"), ..Usage::default() })
    }
    fn spawn(&self, work: Boxed<'static, ()>) {
        let _task = self.spawner.spawn(&self.domain, work);
    }
}

fn connect(sim: &Sim, xs: &Xenstored, domain: &Domain) -> Store {
    let (reader, writer) = xs.connect(domain.id());
    let (store, driver) = xen_store::connect(reader, writer);
    sim.spawn(domain, async move {
        driver.await;
    });
    store
}

struct Setup {
    disks: Vec<(u32, Rc<Contents>)>,
    discard: bool,
    grows: bool,
    config: Config,
}

/// Runs a plan in a guest whose disks a backend serves in dom0.
fn on_backend(line: &str, setup: Setup) -> Ran {
    let mut sim = Sim::new();
    let xs = Xenstored::new();
    xs.introduce(DomId(1));
    xs.set("/local/domain/0/backend", "");
    let (dom0, guest) = (sim.domain(0), sim.domain(1));
    let (back, front) = (connect(&sim, &xs, &dom0), connect(&sim, &xs, &guest));
    let text = Rc::new(RefCell::new(String::new()));
    let site = Front::new(&guest, &front, Guest { domain: guest.clone(), spawner: sim.spawner(), text: text.clone() });
    let (plan, spawner, store): (Plan, _, _) = (plan(line), sim.spawner(), front.clone());
    let verdict = sim.run(async move {
        store.mkdir("data").await.unwrap();
        let mut ends = Vec::new();
        for (vdev, contents) in setup.disks {
            let device = Device { front: DomId(1), back: DomId(0), vdev, kind: VBD.to_string() };
            toolstack::create(&back, &device, &Attributes::default()).await.unwrap();
            let (dom0, back, config, handle) = (dom0.clone(), back.clone(), setup.config.clone(), Handle::new());
            let (discard, grows, clock) = (setup.discard, setup.grows, dom0.clone());
            let stop = handle.clone();
            let task = spawner.spawn(&dom0.clone(), async move {
                let storage = Served { contents, discard, clock, grown: EventCounter::new(), grows };
                serve(&dom0, &back, &device, &storage, &config, &handle).await
            });
            ends.push((stop, task));
        }
        let verdict = run(&site, &plan).await;
        for (stop, task) in ends {
            stop.force();
            task.join().await.unwrap();
        }
        verdict
    });
    let read = |key: &str| xs.get(&format!("/local/domain/1/data/report/{key}"));
    let published = ["result", "passed", "failed", "seed"].map(|key| {
        let value = read(key).map(|value| String::from_utf8(value).unwrap());
        (key.to_string(), value.unwrap_or_default())
    });
    Ran { verdict, text: text.take(), published: published.to_vec() }
}

fn one(sectors: u64, sector_size: u32, defect: Option<Defect>) -> Setup {
    let config = Config { indirect_segments: 4096, queues_max: 4, ..Config::default() };
    Setup { disks: vec![(XVDA, Contents::new(sectors, sector_size, defect))], discard: true, grows: false, config }
}

const LINE: &str = "blk.destroy=xvda blk.size=512K blk.seed=3 blk.loops=6 blk.bytes=1M";

#[test]
fn the_backend_passes_everything() {
    for (sectors, sector_size) in [(4096, 512), (4096, 4096)] {
        let ran = on_backend(&format!("blk.run=all {LINE}"), one(sectors, sector_size, None));
        assert_eq!(ran.verdict.failed + ran.verdict.skipped, 0, "{}", ran.text);
        assert_eq!(ran.published[0].1, "pass");
    }
}

#[test]
fn the_backend_withstands_what_is_forbidden() {
    for sector_size in [512, 4096] {
        let mut setup = one(4096, sector_size, None);
        setup.disks.push((XVDB, Contents::new(256, 512, None)));
        let ran = on_backend(&format!("blk.disk=xvda blk.run=hostile blk.hostile=yes {LINE}"), setup);
        assert_eq!(ran.verdict.failed, 0, "{}", ran.text);
    }
}

#[test]
fn a_disk_that_grows_is_used_to_its_new_end() {
    let mut setup = one(4096, 512, None);
    setup.grows = true;
    let ran = on_backend(&format!("blk.run=resize {LINE}"), setup);
    assert_eq!(ran.verdict.passed, 1, "{}", ran.text);
    assert!(ran.text.contains("from 4096 to 8000 sectors"), "{}", ran.text);
}

#[test]
fn defects_are_found_through_a_backend_too() {
    use Defect::*;
    for (defect, test) in
        [(Misplaces, "rand"), (Tears, "seq"), (Drops, "verify"), (Damages, "segments"), (FailsReads, "features")]
    {
        let ran = on_backend(&format!("blk.run={test} {LINE}"), one(4096, 512, Some(defect)));
        assert_eq!(ran.verdict.failed, 1, "{test} does not find {defect:?}: {}", ran.text);
    }
}

#[test]
fn the_units_in_which_a_backend_counts_are_found_out() {
    for (name, units) in Units::NAMED {
        let mut setup = one(4096, 4096, None);
        setup.config.units = units;
        let ran = on_backend(&format!("blk.run=report {LINE}"), setup);
        assert!(ran.text.contains(&format!("\"units_inferred\":\"{name}\"")), "{name}: {}", ran.text);
    }
    let ran = on_backend(&format!("blk.run=report {LINE}"), one(4096, 512, None));
    assert!(ran.text.contains("\"units_inferred\":\"any\""), "{}", ran.text);
}
