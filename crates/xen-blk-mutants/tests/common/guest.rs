//! The guest and its host.

use super::shelf::{Served, Shelf};
use std::cell::RefCell;
use std::fmt::Arguments;
use std::rc::Rc;
use xen_blk::toolstack::{self, Attributes, VBD};
use xen_blk_mutants::back::{Config, Handle, Storage, serve};
use xen_blk_mutants::toolstack::Device;
use xen_exercise::{Boxed, Front, Host, Plan, Usage, Verdict, run};
use xen_platform::DomId;
use xen_sim::xenstore::Xenstored;
use xen_sim::{Domain, Sim, Spawner};
use xen_store::Store;

const XVDA: u32 = 51712;
const XVDB: u32 = 51728;

/// Result of a run.
pub struct Ran {
    pub verdict: Verdict,
    pub text: String,
    /// The number that `durable` published.
    pub durable: String,
}

impl Ran {
    /// Returns the names of the tests that failed.
    pub fn failed(&self) -> Vec<&str> {
        self.text
            .lines()
            .filter(|line| line.starts_with("not ok"))
            .filter_map(|line| line.split_whitespace().nth(5))
            .map(|name| name.trim_end_matches(':'))
            .collect()
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
    fn flushed(&self) -> Boxed<'_, ()> {
        Box::pin(async {})
    }
    fn usage(&self) -> Option<Usage> {
        let held = self.domain.world().leaks();
        let count = |what: &str| held.iter().filter(|leak| leak.contains(what)).count() as u32;
        Some(Usage {
            grants: count("domain 1 grants"),
            still_mapped: count("domain 1 took back"),
            ports: count("domain 1 has port"),
            heap: 0,
        })
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

/// Runs a plan in a guest with the shelf as xvda, and another disk beside it.
pub fn on(line: &str, config: &Config, shelf: &Rc<Shelf>) -> Ran {
    let mut sim = Sim::new();
    let xs = Xenstored::new();
    xs.introduce(DomId(1));
    xs.set("/local/domain/0/backend", "");
    let (dom0, guest) = (sim.domain(0), sim.domain(1));
    let (back, front) = (connect(&sim, &xs, &dom0), connect(&sim, &xs, &guest));
    let text = Rc::new(RefCell::new(String::new()));
    let host = Guest { domain: guest.clone(), spawner: sim.spawner(), text: text.clone() };
    let env = Front::new(&guest, &front, host);
    let (spawner, store) = (sim.spawner(), front.clone());
    let mut plan = Plan::default();
    for (name, value) in line.split_whitespace().filter_map(|word| word.split_once('=')) {
        assert_eq!(plan.set(name, value), Ok(true), "{name}={value}");
    }
    let other = Rc::new(Shelf::new(xen_blk_mutants::back::storage::Info::new(256), false));
    let (config, disks) = (config.clone(), [(XVDA, shelf.clone()), (XVDB, other)]);
    let verdict = sim.run(async move {
        store.mkdir("data").await.unwrap();
        let mut ends = Vec::new();
        for (vdev, shelf) in disks {
            let (front, back_id, kind) = (DomId(1), DomId(0), VBD.to_string());
            let device = toolstack::Device { front, back: back_id, vdev, kind: kind.clone() };
            let read_only = Served(&shelf, dom0.clone()).info().read_only;
            let attributes = Attributes { read_only, ..Attributes::default() };
            toolstack::create(&back, &device, &attributes).await.unwrap();
            let device = Device { front, back: back_id, vdev, kind };
            let (platform, back, config, stop) =
                (dom0.clone(), back.clone(), config.clone(), Handle::new());
            let handle = stop.clone();
            let task = spawner.spawn(&dom0, async move {
                let storage = Served(&shelf, platform.clone());
                serve(&platform, &back, &device, &storage, &config, &handle).await
            });
            ends.push((stop, task));
        }
        let verdict = run(&env, &plan).await;
        for (stop, task) in ends {
            stop.force();
            let _ = task.join().await.unwrap();
        }
        verdict
    });
    let durable = xs.get("/local/domain/1/data/report/xvda/durable").unwrap_or_default();
    let durable = String::from_utf8(durable).unwrap();
    Ran { verdict, text: text.take(), durable }
}
