//! The end of processes and domains.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use xen_exec::{Turn, yield_now};
use xen_platform::{Access, Channel as _, DomId, Granted, IndexMemory, Platform, SharedMem};
use xen_sim::{Channel, Domain, Grant, Map, Reason, Sim, World};

const DOM0: DomId = DomId(0);
const GUEST: DomId = DomId(1);
/// The byte that says whether its writer lives.
const LIVE: usize = 20;

/// A page of the guest that dom0 has mapped, with a channel, and a live byte of 1 on it.
struct Pair {
    world: World,
    guest: Domain,
    dom0: Domain,
    grant: Grant,
    map: Map,
    here: Channel,
    there: Channel,
}

fn pair() -> Pair {
    let world = World::new();
    let (guest, dom0) = (world.domain(GUEST), world.domain(DOM0));
    let grant = guest.share(DOM0, 1).unwrap();
    let map = dom0.map(GUEST, grant.refs(), Access::ReadWrite).unwrap();
    let here = guest.listen(DOM0).unwrap();
    let there = dom0.connect(GUEST, here.port()).unwrap();
    world.turn(Turn::Busy);
    grant.store_u8(LIVE, 1);
    Pair { world, guest, dom0, grant, map, here, there }
}

#[test]
fn a_killed_process_speaks_its_last_words_and_holds_nothing() {
    let pair = pair();
    pair.dom0.clear_map_on_death(&pair.map, LIVE, &pair.there).unwrap();
    let sibling = pair.world.domain(DOM0).share(GUEST, 1).unwrap();
    pair.dom0.kill_process();
    pair.world.turn(Turn::Busy);
    assert_eq!((pair.grant.load_u8(LIVE), pair.here.seen(), pair.here.is_bound()), (0, 1, false));
    assert_eq!(sibling.len(), 4096, "another process of the domain lives on");
    assert_eq!(
        pair.world.leaks(),
        ["domain 1 grants [8]", "domain 0 grants [8]", "domain 1 has port 3 open for domain 0"]
    );
    drop((pair.map, pair.there));
    drop((pair.grant, pair.here, sibling));
    pair.world.assert_clean();
}

#[test]
fn what_a_dead_process_does_has_no_effect() {
    let pair = pair();
    pair.dom0.kill_process();
    pair.map.store_u8(LIVE, 9);
    pair.map.write(0, &[9; 8]);
    pair.map.fetch_or(LIVE, 8);
    pair.there.notify();
    pair.world.turn(Turn::Busy);
    assert_eq!((pair.grant.load_u8(LIVE), pair.grant.load(0), pair.here.seen()), (1, 0, 0));
    assert_eq!((pair.map.load(0), pair.map.load_u8(0)), (u32::MAX, 0xff));
    assert!(!pair.there.is_bound());
    assert_eq!(pair.dom0.listen(GUEST).unwrap_err().reason, Reason::Dead);
    assert_eq!(pair.dom0.share(GUEST, 1).unwrap_err().reason, Reason::Dead);
}

#[test]
fn dropping_speaks_the_last_words_even_after_the_channel() {
    let pair = pair();
    pair.dom0.clear_map_on_death(&pair.map, LIVE, &pair.there).unwrap();
    drop(pair.there);
    pair.world.turn(Turn::Busy);
    assert_eq!((pair.grant.load_u8(LIVE), pair.here.seen()), (1, 0));
    drop(pair.map);
    pair.world.turn(Turn::Busy);
    assert_eq!((pair.grant.load_u8(LIVE), pair.here.seen(), pair.here.is_bound()), (0, 1, false));
    drop((pair.grant, pair.here));
    pair.world.assert_clean();
}

#[test]
fn a_byte_outside_the_pages_cannot_be_cleared() {
    let pair = pair();
    let refused = pair.guest.clear_grant_on_death(&pair.grant, 4096, &pair.here).unwrap_err();
    assert_eq!(refused.reason, Reason::Outside { at: 4096, len: 4096 });
}

#[test]
fn nobody_speaks_for_a_destroyed_domain_and_its_pages_live_while_mapped() {
    let pair = pair();
    pair.guest.clear_grant_on_death(&pair.grant, LIVE, &pair.here).unwrap();
    let gone = Rc::new(RefCell::new(Vec::new()));
    let list = gone.clone();
    pair.world.on_destroy(move |domid| list.borrow_mut().push(domid));
    pair.world.destroy(GUEST);
    pair.world.turn(Turn::Busy);
    assert_eq!(*gone.borrow(), [GUEST]);
    assert_eq!((pair.map.load_u8(LIVE), pair.there.seen(), pair.there.is_bound()), (1, 1, false));
    pair.there.notify();
    assert_eq!(pair.dom0.listen(GUEST).map(drop), Ok(()));
    assert_eq!(
        pair.dom0.connect(GUEST, pair.here.port()).unwrap_err().reason,
        Reason::NoDomain(GUEST)
    );
    assert_eq!(
        pair.dom0.map(GUEST, pair.grant.refs(), Access::ReadOnly).unwrap_err().reason,
        Reason::NoDomain(GUEST)
    );
    drop(pair.there);
    assert_eq!(
        pair.world.leaks(),
        [
            "domain 0 maps grants [8] of domain 1",
            "domain 1 took back grant 8, which domain 0 still maps"
        ]
    );
    drop(pair.map);
    pair.world.assert_clean();
}

#[test]
fn a_destroyed_mapper_frees_what_the_owner_took_back() {
    let pair = pair();
    drop(pair.grant);
    pair.world.destroy(DOM0);
    assert!(!pair.here.is_bound());
    drop(pair.here);
    pair.world.assert_clean();
}

#[test]
#[should_panic(expected = "domain 1 was destroyed")]
fn a_destroyed_domain_has_no_new_processes() {
    let pair = pair();
    pair.world.destroy(GUEST);
    pair.world.domain(GUEST);
}

/// Says in its drop that it was dropped, and tries to do something.
struct Mark(Rc<Cell<u32>>, Rc<Grant>);

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
        self.1.store(0, 1);
    }
}

#[test]
fn tasks_die_with_their_process_at_once() {
    let mut sim = Sim::new();
    let (guest, dom0) = (sim.domain(1), sim.domain(0));
    let grant = Rc::new(guest.share(DOM0, 1).unwrap());
    let map = dom0.map(GUEST, grant.refs(), Access::ReadOnly).unwrap();
    let drops = Rc::new(Cell::new(0));
    let mark = Mark(drops.clone(), grant);
    let task = sim.spawn(&guest, async move {
        let _mark = mark;
        pending::<()>().await
    });
    sim.run(async move {
        yield_now().await;
        guest.kill_process();
        assert_eq!((drops.get(), map.load(0)), (1, 0));
        assert_eq!(task.outcome().await, None);
    });
}

#[test]
fn a_task_can_end_its_own_process() {
    let mut sim = Sim::new();
    let guest = sim.domain(1);
    let suicide = guest.clone();
    let task = sim.spawn(&guest, async move {
        suicide.kill_process();
        pending::<()>().await
    });
    let later = sim.spawner();
    sim.run(async move {
        assert_eq!(task.outcome().await, None);
        assert_eq!(
            later.spawn(&guest, async {}).outcome().await,
            None,
            "nothing runs in a dead process"
        );
    });
}

#[test]
fn a_destroyed_domain_takes_its_tasks_along() {
    let mut sim = Sim::new();
    let guest = sim.domain(1);
    let task = sim.spawn(&guest, pending::<()>());
    let world = sim.world().clone();
    sim.run(async move {
        world.destroy(GUEST);
        assert_eq!(task.outcome().await, None);
    });
}

#[test]
#[should_panic(expected = "2 things leaked:
  domain 1 grants [8, 9]
  domain 1 has port 3 open for domain 0")]
fn a_leak_fails_the_test_when_the_sim_is_dropped() {
    let sim = Sim::new();
    let guest = sim.domain(1);
    std::mem::forget(guest.share(DOM0, 2).unwrap());
    std::mem::forget(guest.listen(DOM0).unwrap());
}
