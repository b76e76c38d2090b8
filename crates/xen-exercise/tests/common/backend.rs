//! A guest whose disks `xen-blk`'s backend serves, in the simulator.

use super::{Ran, plan};
use std::cell::RefCell;
use std::fmt::Arguments;
use std::rc::Rc;
use xen_blk::back::{Config, Handle, Storage, serve};
use xen_blk::toolstack::{self, Attributes, Device, VBD};
use xen_exercise::{Boxed, Front, Host, Plan, Usage, run};
use xen_platform::{DomId, Platform};
use xen_sim::xenstore::Xenstored;
use xen_sim::{Domain, Sim, Spawner};
use xen_store::Store;

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

/// Runs a plan in a guest whose disks a backend serves in dom0. `disks` makes them, with dom0's
/// clock if they want it.
pub fn on_backend<S: Storage + 'static>(
    line: &str,
    config: &Config,
    disks: impl FnOnce(&Domain) -> Vec<(u32, S)>,
) -> Ran {
    on_platform(line, config, Domain::clone, disks)
}

/// The same with a platform of the test's for the backend.
pub fn on_platform<P: Platform, S: Storage + 'static>(
    line: &str,
    config: &Config,
    platform: impl FnOnce(&Domain) -> P,
    disks: impl FnOnce(&Domain) -> Vec<(u32, S)>,
) -> Ran {
    let mut sim = Sim::new();
    let xs = Xenstored::new();
    xs.introduce(DomId(1));
    xs.set("/local/domain/0/backend", "");
    let (dom0, guest) = (sim.domain(0), sim.domain(1));
    let (back, front) = (connect(&sim, &xs, &dom0), connect(&sim, &xs, &guest));
    let text = Rc::new(RefCell::new(String::new()));
    let env = Front::new(
        &guest,
        &front,
        Guest { domain: guest.clone(), spawner: sim.spawner(), text: text.clone() },
    );
    let (plan, spawner, store): (Plan, _, _) = (plan(line), sim.spawner(), front.clone());
    let (disks, config, platform) = (disks(&dom0), config.clone(), platform(&dom0));
    let verdict = sim.run(async move {
        store.mkdir("data").await.unwrap();
        let mut ends = Vec::new();
        for (vdev, storage) in disks {
            let device = Device { front: DomId(1), back: DomId(0), vdev, kind: VBD.to_string() };
            toolstack::create(&back, &device, &Attributes::default()).await.unwrap();
            let (platform, back, config, handle) =
                (platform.clone(), back.clone(), config.clone(), Handle::new());
            let stop = handle.clone();
            let task = spawner.spawn(&dom0, async move {
                serve(&platform, &back, &device, &storage, &config, &handle).await
            });
            ends.push((stop, task));
        }
        let verdict = run(&env, &plan).await;
        for (stop, task) in ends {
            stop.force();
            task.join().await.unwrap();
        }
        verdict
    });
    let read = |key: &str| xs.get(&format!("/local/domain/1/data/report/{key}"));
    let published =
        ["result", "passed", "failed", "seed", "xvda/durable", "xvda/limits"].map(|key| {
            let value = read(key).map(|value| String::from_utf8(value).unwrap());
            (key.to_string(), value.unwrap_or_default())
        });
    Ran { verdict, text: text.take(), published: published.to_vec() }
}
