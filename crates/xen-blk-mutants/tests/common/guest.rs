//! Runs of the exerciser in a guest.

use super::shelf::{Served, Shelf};
use super::world::World;
use std::rc::Rc;
use xen_blk::toolstack::{self, Attributes, VBD};
use xen_blk_mutants::back::{Config, Handle, Storage, serve};
use xen_blk_mutants::toolstack::Device;
use xen_exercise::{Plan, Verdict, run};
use xen_platform::DomId;

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

/// Runs a plan in a guest with the shelf as xvda, and another disk beside it.
pub fn on(line: &str, config: &Config, shelf: &Rc<Shelf>) -> Ran {
    let World { mut sim, xs, dom0, back, front: store, env, text } = World::new();
    let spawner = sim.spawner();
    let mut plan = Plan::default();
    for (name, value) in line.split_whitespace().filter_map(|word| word.split_once('=')) {
        assert_eq!(plan.set(name, value), Ok(true), "{name}={value}");
    }
    let other = Rc::new(Shelf::new(xen_blk_mutants::back::storage::Info::new(256), None));
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
