//! A guest whose disks `xen-blk`'s backend serves, in the simulator.

use super::guest::World;
use super::{Ran, plan};
use xen_blk::back::{Config, Handle, Storage, serve};
use xen_blk::toolstack::{self, Attributes, Device, VBD};
use xen_exercise::{Plan, run};
use xen_platform::{DomId, Platform};
use xen_sim::Domain;

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
    let World { mut sim, xs, dom0, back, front, env, text } = World::new();
    let (plan, spawner, store): (Plan, _, _) = (plan(line), sim.spawner(), front);
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
