//! Tools of a test against the code under test: watch them, change memory under them, make the
//! hypervisor refuse.

use xen_platform::{Access, DomId, GrantRef, Granted, IndexMemory, PAGE_SIZE, Platform, SharedMem};
use xen_sim::conformance::{Endpoint, Violation, check};
use xen_sim::{AccessKind, Operation, Sim, World};

const DOM0: DomId = DomId(0);
const GUEST: DomId = DomId(1);
const FIRST: GrantRef = GrantRef(8);
const SECOND: GrantRef = GrantRef(9);

#[test]
fn reads_are_counted_by_reader_page_and_byte() {
    let world = World::new();
    let (guest, dom0) = (world.domain(GUEST), world.domain(DOM0));
    let grant = guest.share(DOM0, 2).unwrap();
    let map = dom0.map(GUEST, grant.refs(), Access::ReadWrite).unwrap();
    let reads = world.count_reads(DOM0);
    map.load(4);
    map.load_u8(5);
    map.read(PAGE_SIZE - 1, &mut [0; 2]);
    map.store(12, 1);
    map.fetch_or(16, 1);
    grant.load(4);
    assert_eq!([4, 5, 12, 16].map(|at| reads.of(GUEST, FIRST, at)), [1, 2, 0, 1]);
    assert_eq!(reads.most(GUEST, FIRST, 0..PAGE_SIZE), 2);
    assert_eq!(reads.most(GUEST, SECOND, 0..PAGE_SIZE), 1);
    assert_eq!(reads.repeated(), [(GUEST, FIRST, 5)]);
    reads.reset();
    assert_eq!(reads.most(GUEST, FIRST, 0..PAGE_SIZE), 0);
}

#[test]
fn memory_can_change_between_a_check_and_a_use() {
    let world = World::new();
    let (guest, dom0) = (world.domain(GUEST), world.domain(DOM0));
    let grant = guest.share(DOM0, 1).unwrap();
    grant.store(0, 10);
    let page = world.page_of(GUEST, FIRST);
    let mut reads = 0;
    let attack = world.on_access(move |access| {
        if access.by == GUEST && access.kind == AccessKind::Read && access.touches(GUEST, FIRST, 0)
        {
            reads += 1;
            page.store(0, 10 * reads);
        }
    });
    assert_eq!([grant.load(0), grant.load(0), grant.load(4)], [10, 20, 0]);
    drop(attack);
    assert_eq!(grant.load(0), 20);
    drop(dom0);
}

#[test]
fn a_hook_does_not_see_its_own_accesses() {
    let world = World::new();
    let (guest, dom0) = (world.domain(GUEST), world.domain(DOM0));
    let grant = guest.share(DOM0, 1).unwrap();
    let map = dom0.map(GUEST, grant.refs(), Access::ReadWrite).unwrap();
    let reads = world.count_reads(DOM0);
    let attack = world.on_access(move |_| {
        map.fetch_or(0, 1);
    });
    assert_eq!(grant.load(0), 1);
    assert_eq!(reads.of(GUEST, FIRST, 0), 1, "others see them");
    drop(attack);
}

#[test]
fn a_process_can_be_killed_at_any_access() {
    let world = World::new();
    let (guest, dom0) = (world.domain(GUEST), world.domain(DOM0));
    let grant = guest.share(DOM0, 1).unwrap();
    let map = dom0.map(GUEST, grant.refs(), Access::ReadWrite).unwrap();
    let mut accesses = 0;
    let _hook = world.on_access(move |access| {
        accesses += u32::from(access.by == DOM0);
        if accesses == 2 {
            dom0.kill_process();
        }
    });
    map.store(0, 1);
    map.store(4, 2);
    assert_eq!([grant.load(0), grant.load(4)], [1, 0]);
    drop(grant);
    world.assert_clean();
}

#[test]
#[should_panic(expected = "domain 1 has no grant 8")]
fn a_page_that_is_not_granted_cannot_be_reached() {
    let world = World::new();
    world.domain(GUEST);
    world.page_of(GUEST, FIRST);
}

/// Runs the conformance suite while the `nth` operation of one kind fails; says whether that
/// happened.
fn check_with_failure(kind: Operation, nth: u32) -> bool {
    let mut sim = Sim::new();
    let (guest, dom0) = (sim.domain(1), sim.domain(0));
    let failure = sim.world().fail_nth(DOM0, kind, nth);
    let found = sim.run(async move {
        let (a, b) =
            (Endpoint { id: DOM0, platform: dom0 }, Endpoint { id: GUEST, platform: guest });
        check(&a, &b, |_| {}).await
    });
    match found {
        Ok(()) => {}
        // A copy that fails leaves a number in its piece, without words.
        Err(Violation { contract, .. }) if kind == Operation::Copy => {
            assert!(contract.contains("copied"), "{contract}");
        }
        Err(Violation { found, .. }) => {
            assert!(found.ends_with("the test wants this to fail"), "{found}")
        }
    }
    failure.happened()
}

#[test]
fn every_operation_can_be_made_to_fail_and_the_suite_notices_and_leaks_nothing() {
    for kind in Operation::ALL {
        let places = (1..).take_while(|nth| check_with_failure(kind, *nth)).count();
        assert!(places >= 2, "{kind:?} failed in {places} places");
    }
}
