//! Suspends: cancelled, and restored as another domain.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use xen_exec::{Turn, yield_now};
use xen_platform::{
    Access, Channel as _, CopySegment, DomId, Granted, IndexMemory, Platform, ReadySince, sleep,
};
use xen_sim::{Channel, Domain, Grant, Map, Reason, Resume, Sim, World};

const DOM0: DomId = DomId(0);
const GUEST: DomId = DomId(1);
const AFTER: DomId = DomId(7);

/// A page of each side that the other maps, and a channel.
struct Pair {
    world: World,
    guest: Domain,
    dom0: Domain,
    ours: (Grant, Map, Channel),
    theirs: (Grant, Map, Channel),
}

fn pair() -> Pair {
    let world = World::new();
    let (guest, dom0) = (world.domain(GUEST), world.domain(DOM0));
    let (grant, granted) = (guest.share(DOM0, 1).unwrap(), dom0.share(GUEST, 1).unwrap());
    let map = guest.map(DOM0, granted.refs(), Access::ReadWrite).unwrap();
    let mapped = dom0.map(GUEST, grant.refs(), Access::ReadWrite).unwrap();
    let here = guest.listen(DOM0).unwrap();
    let there = dom0.connect(GUEST, here.port()).unwrap();
    world.turn(Turn::Busy);
    grant.store(0, 11);
    granted.store(0, 22);
    Pair { world, guest, dom0, ours: (grant, map, here), theirs: (granted, mapped, there) }
}

#[test]
fn restore_leaves_own_memory_and_nothing_else() {
    let Pair { world, guest, ours: (grant, map, here), theirs: (granted, mapped, there), .. } =
        pair();
    world.suspend(GUEST).restore(AFTER);
    assert_eq!((guest.id(), guest.domid(), guest.resumes().count()), (AFTER, Some(AFTER), 1));
    // The guest's page is its own now; the old one is the peer's alone.
    grant.store(4, 1);
    mapped.store(8, 2);
    assert_eq!([grant.load(0), grant.load(4), grant.load(8)], [11, 1, 0]);
    assert_eq!([mapped.load(0), mapped.load(4), mapped.load(8)], [11, 0, 2]);
    // Foreign memory is a hole.
    map.store(0, 3);
    assert_eq!((map.load(0), granted.load(0)), (u32::MAX, 22));
    // The channel is closed at both ends, and its waiters look.
    assert_eq!((here.seen(), here.is_bound(), there.is_bound()), (1, false, false));
    here.notify();
    assert_eq!((world.notifies(AFTER), world.notifies(GUEST)), (0, 0));
    drop((grant, map, here, granted, there));
    assert_eq!(
        world.leaks(),
        [
            "domain 0 maps grants [8] of domain 1",
            "domain 1 took back grant 8, which domain 0 still maps"
        ]
    );
    drop(mapped);
    world.assert_clean();
}

#[test]
fn stale_handle_closes_no_reused_number() {
    for to in [AFTER, GUEST] {
        let Pair { world, guest, dom0, ours: (grant, map, here), theirs } = pair();
        world.suspend(GUEST).restore(to);
        let (again, port) = (guest.share(DOM0, 1).unwrap(), guest.listen(DOM0).unwrap());
        let mapped_again = guest.map(DOM0, theirs.0.refs(), Access::ReadOnly);
        assert_eq!((again.refs(), port.port()), (grant.refs(), here.port()), "numbers come again");
        assert_eq!(mapped_again.is_ok(), to == GUEST, "the grant is for the number");
        let old = grant.refs()[0];
        drop((grant, map, here));
        let there = dom0.connect(to, port.port()).unwrap();
        let mapped = dom0.map(to, again.refs(), Access::ReadWrite).unwrap();
        again.store(0, 5);
        assert_eq!((mapped.load(0), port.is_bound(), there.is_bound()), (5, true, true));
        assert_eq!(theirs.1.load(0), 11, "grant {old} of the old domain is another page");
        drop((theirs, mapped_again, mapped, there, again, port));
        world.assert_clean();
    }
}

#[test]
fn stale_handles_arrange_no_last_words() {
    let Pair { world, guest, ours: (grant, _, here), .. } = pair();
    guest.clear_grant_on_death(&grant, 0, &here).unwrap();
    world.suspend(GUEST).restore(AFTER);
    let fresh = (guest.share(DOM0, 1).unwrap(), guest.listen(DOM0).unwrap());
    let refused = |grant, channel| {
        guest.clear_grant_on_death(grant, 0, channel).map_err(|error| error.reason)
    };
    assert_eq!(refused(&grant, &fresh.1), Err(Reason::Resumed));
    assert_eq!(refused(&fresh.0, &here), Err(Reason::Resumed));
    assert_eq!(refused(&fresh.0, &fresh.1), Ok(()));
    assert_eq!(grant.load(0), 11, "a suspend is no death");
}

#[test]
fn old_number_is_gone_for_its_peers() {
    let pair = pair();
    let gone = Rc::new(RefCell::new(Vec::new()));
    let list = gone.clone();
    pair.world.on_destroy(move |domid| list.borrow_mut().push(domid));
    pair.world.suspend(GUEST).restore(AFTER);
    assert_eq!(*gone.borrow(), [GUEST]);
    let refs = pair.ours.0.refs();
    let error = pair.dom0.map(GUEST, refs, Access::ReadOnly).unwrap_err();
    assert_eq!(error.reason, Reason::NoDomain(GUEST));
    let error = pair.dom0.map(AFTER, refs, Access::ReadOnly).unwrap_err();
    assert_eq!(error.reason, Reason::NoGrant(refs[0]));
    let mut byte = [0];
    let mut copy = [CopySegment::from_peer(refs[0], 0, &mut byte)];
    pair.dom0.copy(GUEST, &mut copy).unwrap();
    assert_eq!(copy[0].status(), -2);
}

#[test]
fn cancelled_suspend_changes_nothing() {
    let Pair { world, guest, ours: (grant, map, here), theirs: (granted, mapped, there), .. } =
        pair();
    let suspended = world.suspend(GUEST);
    there.notify();
    mapped.store(0, 12);
    suspended.cancel();
    world.turn(Turn::Busy);
    assert_eq!((guest.id(), guest.resumes().count()), (GUEST, 0));
    assert_eq!((grant.load(0), map.load(0), here.seen(), here.is_bound()), (12, 22, 1, true));
    drop((grant, map, here, granted, mapped, there));
    world.assert_clean();
}

#[test]
fn suspended_tasks_stand_still_and_wake_on_resume() {
    for cancelled in [true, false] {
        let mut sim = Sim::new();
        let (guest, dom0) = (sim.domain(1), sim.domain(0));
        let here = guest.listen(DOM0).unwrap();
        let there = dom0.connect(GUEST, here.port()).unwrap();
        let moves = Rc::new(Cell::new(0));
        let (count, clock) = (moves.clone(), guest.clone());
        let ticking = sim.spawn(&guest, async move {
            loop {
                sleep(&clock, Duration::from_secs(1)).await;
                count.set(count.get() + 1);
            }
        });
        let waiting = sim.spawn(&guest, async move {
            let mut events = ReadySince::now(&here);
            events.wait(&here).await;
            here.is_bound()
        });
        let itself = guest.clone();
        let suspending = sim.spawn(&guest, async move { (itself.suspend().await, itself.id()) });
        let world = sim.world().clone();
        sim.run(async move {
            // The event that binding raises, and then one for the suspended domain.
            let suspended = world.next_suspended(GUEST).await;
            assert_eq!(suspended.id(), GUEST);
            there.notify();
            let stands = moves.get();
            sleep(&dom0, Duration::from_secs(10)).await;
            assert_eq!(moves.get(), stands, "a task of a suspended domain moved");
            match cancelled {
                true => suspended.cancel(),
                false => suspended.restore(AFTER),
            }
            let expected = match cancelled {
                true => (Resume::Cancelled, GUEST),
                false => (Resume::Restored, AFTER),
            };
            assert_eq!(suspending.join().await, expected);
            assert_eq!(waiting.join().await, cancelled);
            sleep(&dom0, Duration::from_secs(3)).await;
            assert!(moves.get() > stands, "the timer is set again");
            yield_now().await;
            world.destroy(expected.1);
            assert_eq!(ticking.outcome().await, None);
        });
    }
}

#[test]
fn suspended_domain_can_be_destroyed() {
    let mut sim = Sim::new();
    let guest = sim.domain(1);
    let itself = guest.clone();
    let task = sim.spawn(&guest, async move { itself.suspend().await });
    let world = sim.world().clone();
    sim.run(async move {
        let suspended = world.next_suspended(GUEST).await;
        drop(suspended);
        world.destroy(GUEST);
        assert_eq!(task.outcome().await, None);
    });
}

#[test]
#[should_panic(expected = "domain 1 is suspended already")]
fn second_suspend_is_a_bug_of_the_test() {
    let pair = pair();
    let _suspended = pair.world.suspend(GUEST);
    let _ = pair.world.suspend(GUEST);
}

#[test]
#[should_panic(expected = "there is or was another domain 0")]
fn restore_under_a_used_number_is_refused() {
    let pair = pair();
    pair.world.suspend(GUEST).restore(DOM0);
}
