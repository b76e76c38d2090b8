//! Our own frontend meets every rogue, and stays.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use xen_blk::front::{Config, attach};
use xen_blk::toolstack::{Device, VBD};
use xen_blk_rogue::{ACTS, Act, Patience, Played, Reaction, play};
use xen_platform::{Clock, DomId, deadline, sleep};
use xen_sim::xenstore::Xenstored;
use xen_sim::{Bench, Domain, Sim, Spawner};
use xen_store::Store;

const DOM0: DomId = DomId(0);
const GUEST: DomId = DomId(1);
/// xvda.
const VDEV: u32 = 51712;

fn process(sim: &Sim, xs: &Xenstored, domid: DomId) -> (Domain, Store) {
    let domain = sim.domain(domid.0);
    let (from, to) = xs.connect(domid);
    let (store, driver) = xen_store::connect(from, to);
    sim.spawn(&domain, driver);
    (domain, store)
}

/// A guest that connects to its disk whenever there is one, and uses it.
async fn guest(domain: Domain, store: Store, spawner: Spawner, wrong: Rc<Cell<u32>>) {
    loop {
        sleep(&domain, Duration::from_millis(50)).await;
        let by = domain.now() + Duration::from_secs(20);
        let config = Config::default();
        let attaching = attach(&domain, &store, VDEV, &config);
        let Ok(Ok((disk, driver))) = deadline(&domain, Some(by), attaching).await else { continue };
        let driver = spawner.spawn(&domain, driver);
        for round in (0..=u8::MAX).cycle() {
            let sector = u64::from(round) % 16;
            let mut found = [0; 512];
            let done = async {
                disk.write(sector, &[round; 512]).await?;
                disk.read(sector, &mut found).await
            };
            let by = domain.now() + Duration::from_secs(5);
            match deadline(&domain, Some(by), done).await {
                // What a rogue reports as read was read into the guest's own buffer.
                Ok(Ok(())) => wrong.set(wrong.get() + u32::from(found != [round; 512])),
                _ => break,
            }
            sleep(&domain, Duration::from_millis(10)).await;
        }
        drop(disk);
        let _ = deadline(&domain, Some(domain.now() + Duration::from_secs(5)), driver.join()).await;
    }
}

fn played(act: &'static Act) -> (Played, u32) {
    let mut bench = Bench::without_toolstack(Sim::new(), |xs| xs.introduce(GUEST));
    let (front, front_store) = process(&bench.sim, &bench.xs, GUEST);
    let (back, store) = process(&bench.sim, &bench.xs, DOM0);
    let wrong = Rc::new(Cell::new(0));
    let spawner = bench.sim.spawner();
    let _guest =
        spawner.spawn(&front, guest(front.clone(), front_store, spawner.clone(), wrong.clone()));
    let device = Device { front: GUEST, back: DOM0, vdev: VDEV, kind: VBD.into() };
    let result = bench.run(async move {
        play(&back, &store, &device, act, &Patience::default()).await.expect("it is played")
    });
    (result, wrong.get())
}

#[test]
fn our_frontend_does_what_each_act_demands() {
    let mut failed = Vec::new();
    for act in ACTS {
        let (result, wrong) = played(act);
        println!("{}: {result}; {wrong} wrong reads", act.name);
        if result.passed() != Some(true) {
            failed.push(act.name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn verdict_needs_an_honest_disk_afterwards() {
    let demand = xen_blk_rogue::Demand::Survive;
    let played = |reaction, recovered| Played { reaction, recovered, demand }.passed();
    assert_eq!(played(Reaction::Closed, true), Some(true));
    assert_eq!(played(Reaction::Closed, false), Some(false));
    assert_eq!(played(Reaction::Unasked, true), None);
    assert_eq!(played(Reaction::Gone, false), Some(false));
}
