//! Event channels, turns and time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use xen_exec::Turn;
use xen_platform::{
    Channel as _, Clock, DomId, Platform, Port, ReadySince, Time, deadline, sleep, yield_now,
};
use xen_sim::{Channel, Domain, Error, Reason, Sim, World};

const DOM0: DomId = DomId(0);
const GUEST: DomId = DomId(1);

/// A bound channel, the guest's end first, whose first event has come.
fn bound(world: &World) -> (Domain, Channel, Channel) {
    let (dom0, guest) = (world.domain(DOM0), world.domain(GUEST));
    let here = guest.listen(DOM0).unwrap();
    let there = dom0.connect(GUEST, here.port()).unwrap();
    world.turn(Turn::Busy);
    (dom0, here, there)
}

#[test]
fn binding_makes_the_new_port_pending_once() {
    let world = World::new();
    let (_dom0, here, there) = bound(&world);
    assert_eq!((here.seen(), there.seen()), (0, 1));
    world.turn(Turn::Busy);
    assert_eq!(there.seen(), 1);
}

#[test]
fn events_before_a_turn_count_as_one() {
    let world = World::new();
    let (_dom0, here, there) = bound(&world);
    there.notify();
    there.notify();
    assert_eq!(here.seen(), 0, "delivered only in a turn");
    world.turn(Turn::Busy);
    there.notify();
    world.turn(Turn::Busy);
    assert_eq!(here.seen(), 2);
    assert_eq!((world.notifies(DOM0), world.notifies(GUEST)), (3, 0));
}

#[test]
fn closing_unbinds_the_other_end_without_an_event_and_it_can_be_bound_again() {
    let world = World::new();
    let (dom0, here, there) = bound(&world);
    assert!(here.is_bound() && there.is_bound());
    drop(there);
    world.turn(Turn::Busy);
    assert_eq!((here.is_bound(), here.seen()), (false, 0));
    here.notify();
    let there = dom0.connect(GUEST, here.port()).unwrap();
    there.notify();
    world.turn(Turn::Busy);
    assert_eq!((here.is_bound(), here.seen()), (true, 1));
}

#[test]
fn ports_are_used_again_lowest_first() {
    let world = World::new();
    let guest = world.domain(GUEST);
    let [first, second] = [(); 2].map(|()| guest.listen(DOM0).unwrap());
    assert_eq!((first.port(), second.port()), (Port(3), Port(4)));
    drop(first);
    assert_eq!(guest.listen(DOM0).unwrap().port(), Port(3));
}

#[test]
fn what_may_not_be_bound_is_refused_with_the_reason() {
    let world = World::new();
    let (dom0, here, _there) = bound(&world);
    let other = world.domain(DomId(2));
    let open = world.domain(GUEST).listen(DOM0).unwrap();
    let reason = |result: Result<Channel, Error>| result.unwrap_err().reason;
    assert_eq!(reason(dom0.connect(GUEST, here.port())), Reason::PortBusy(here.port()));
    assert_eq!(reason(dom0.connect(GUEST, Port(77))), Reason::NoPort(Port(77)));
    assert_eq!(reason(dom0.connect(DomId(9), Port(3))), Reason::NoDomain(DomId(9)));
    assert_eq!(
        reason(other.connect(GUEST, open.port())),
        Reason::PortFor { port: open.port(), to: DOM0 }
    );
    assert_eq!(
        dom0.connect(GUEST, Port(77)).unwrap_err().to_string(),
        "domain 0 cannot bind to port 77 of domain 1: port 77 does not exist"
    );
}

#[test]
fn events_can_be_raised_and_lost() {
    let world = World::new();
    let (_dom0, here, there) = bound(&world);
    world.raise_spurious(GUEST, here.port(), 3);
    for _ in 0..10 {
        world.turn(Turn::Busy);
    }
    assert_eq!(here.seen(), 3);
    world.drop_events(GUEST, here.port(), 1);
    there.notify();
    world.turn(Turn::Busy);
    assert_eq!(here.seen(), 3);
    there.notify();
    world.turn(Turn::Busy);
    assert_eq!(here.seen(), 4);
}

#[test]
fn time_jumps_to_the_next_timer_and_only_then() {
    let mut sim = Sim::new();
    let (guest, dom0) = (sim.domain(1), sim.domain(0));
    let start = guest.now();
    let slept = |domain: Domain, secs| async move {
        sleep(&domain, Duration::from_secs(secs)).await;
        domain.now().since(start)
    };
    let long = sim.spawn(&guest, slept(guest.clone(), 3600));
    let short = sim.spawn(&dom0, slept(dom0.clone(), 1));
    let times = sim.run(async move { (long.join().await, short.join().await) });
    assert_eq!(times, (Duration::from_secs(3600), Duration::from_secs(1)));
    assert!(start > Time(0));
}

#[test]
fn an_event_comes_before_the_deadline() {
    let mut sim = Sim::new();
    let (dom0, here, there) = bound(sim.world());
    let until = dom0.now() + Duration::from_secs(1);
    let (waiter, mut events) = (dom0.clone(), ReadySince::now(&there));
    let wait = sim.spawn(&dom0, async move {
        let first = deadline(&waiter, Some(until), events.wait(&there)).await;
        (first, deadline(&waiter, Some(until), events.wait(&there)).await, waiter.now())
    });
    here.notify();
    let (first, second, end) = sim.run(wait.join());
    assert!(first.is_ok() && second.is_err());
    assert_eq!(end, until);
}

#[test]
#[should_panic(expected = "deadlock: every task waits, no event is pending, no timer is set
  domain 0: 1 unfinished tasks, waits on port 3 (bound to port 3 of domain 1)
  domain 1: 0 unfinished tasks")]
fn a_deadlock_is_reported_with_who_waits() {
    let mut sim = Sim::new();
    let (dom0, _here, there) = bound(sim.world());
    let wait = sim.spawn(&dom0, async move { ReadySince::now(&there).wait(&there).await });
    sim.run(wait.join());
}

#[test]
#[should_panic(expected = "livelock")]
fn tasks_that_keep_each_other_busy_for_ever_are_reported() {
    let mut sim = Sim::new();
    let (_dom0, here, there) = bound(sim.world());
    sim.run(async move {
        let (mut ping, mut pong) = (ReadySince::now(&there), ReadySince::now(&here));
        loop {
            here.notify();
            ping.wait(&there).await;
            there.notify();
            pong.wait(&here).await;
        }
    });
}

/// The order in which 6 events reached 6 tasks.
fn order(mut sim: Sim) -> Vec<u32> {
    let (dom0, guest) = (sim.domain(0), sim.domain(1));
    let trace = Rc::new(RefCell::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..6 {
        let here = guest.listen(DOM0).unwrap();
        let there = dom0.connect(GUEST, here.port()).unwrap();
        let (trace, mut events) = (trace.clone(), ReadySince::now(&there));
        tasks.push(sim.spawn(&dom0, async move {
            events.wait(&there).await;
            trace.borrow_mut().push(number);
        }));
    }
    sim.run(async move {
        for task in tasks {
            task.join().await;
        }
    });
    trace.take()
}

#[test]
fn a_seed_shuffles_and_the_same_seed_shuffles_alike() {
    assert_eq!(order(Sim::new()), [0, 1, 2, 3, 4, 5]);
    let orders: Vec<_> = (0..20).map(|seed| order(Sim::with_seed(seed))).collect();
    assert!(orders.iter().any(|order| *order != orders[0]));
    for (seed, first) in orders.iter().enumerate() {
        assert_eq!(order(Sim::with_seed(seed as u64)), *first);
    }
}

#[test]
fn a_yield_ends_when_nobody_else_can_move_and_before_time_passes() {
    let mut sim = Sim::new();
    let (dom0, guest) = (sim.world().domain(DOM0), sim.world().domain(GUEST));
    let trace = Rc::new(RefCell::new(Vec::new()));
    let (own, other) = (trace.clone(), trace.clone());
    let spawner = sim.spawner();
    sim.run(async move {
        let timed = spawner.spawn(&guest.clone(), async move {
            xen_exec::yield_now().await;
            other.borrow_mut().push("the other domain moved");
            sleep(&guest, Duration::from_nanos(1)).await;
            other.borrow_mut().push("time passed");
        });
        yield_now(&dom0).await;
        own.borrow_mut().push("the pause ended");
        timed.join().await;
    });
    assert_eq!(*trace.borrow(), ["the other domain moved", "the pause ended", "time passed"]);
}
