//! Grants and mappings: reuse, refusals, and the page that is still mapped.

use proptest::prelude::*;
use xen_platform::{Access, DomId, GrantRef, Granted, IndexMemory, PAGE_SIZE, Platform, SharedMem};
use xen_sim::{Domain, Error, Grant, Map, Reason, World};

const DOM0: DomId = DomId(0);
const GUEST: DomId = DomId(1);

fn two() -> (World, Domain, Domain) {
    let world = World::new();
    let (dom0, guest) = (world.domain(DOM0), world.domain(GUEST));
    (world, dom0, guest)
}

fn map_one(by: &Domain, of: DomId, gref: u32) -> Result<Map, Error> {
    by.map(of, &[GrantRef(gref)], Access::ReadWrite)
}

#[test]
fn references_start_after_the_reserved_ones_and_the_lowest_is_used_again() {
    let (_world, _dom0, guest) = two();
    let first = guest.share(DOM0, 2).unwrap();
    let second = guest.share(DOM0, 1).unwrap();
    assert_eq!(first.refs(), [GrantRef(8), GrantRef(9)]);
    assert_eq!(second.refs(), [GrantRef(10)]);
    drop(first);
    assert_eq!(guest.share(DOM0, 3).unwrap().refs(), [GrantRef(8), GrantRef(9), GrantRef(11)]);
}

#[test]
fn a_page_is_poisoned_when_it_is_given_back_and_zeroed_when_it_is_shared() {
    let (world, _dom0, guest) = two();
    let grant = guest.share(DOM0, 1).unwrap();
    grant.store(0, 7);
    let page = world.page_of(GUEST, GrantRef(8));
    assert_eq!(page.load(0), 7);
    drop(grant);
    assert_eq!(page.load(0), 0xdbdb_dbdb);
    let again = guest.share(DOM0, 1).unwrap();
    assert_eq!((again.load(0), page.load(0)), (0, 0), "the same page, zeroed");
}

#[test]
fn what_may_not_be_mapped_is_refused_with_the_reason() {
    let (world, dom0, guest) = two();
    let other = world.domain(DomId(2));
    let grant = guest.share(DOM0, 1).unwrap();
    let reason = |result: Result<Map, Error>| result.unwrap_err().reason;
    assert_eq!(reason(map_one(&dom0, GUEST, 9)), Reason::NoGrant(GrantRef(9)));
    assert_eq!(
        reason(map_one(&other, GUEST, 8)),
        Reason::GrantedTo { grant: GrantRef(8), to: DOM0 }
    );
    assert_eq!(reason(map_one(&dom0, DomId(7), 8)), Reason::NoDomain(DomId(7)));
    assert_eq!(reason(dom0.map(GUEST, &[], Access::ReadOnly)), Reason::NoPages);
    let map = map_one(&dom0, GUEST, 8).unwrap();
    drop(grant);
    assert_eq!(reason(map_one(&dom0, GUEST, 8)), Reason::Revoked(GrantRef(8)));
    drop(map);
    assert_eq!(
        map_one(&dom0, GUEST, 8).unwrap_err().to_string(),
        "domain 0 cannot map 1 pages of domain 1: grant 8 does not exist"
    );
}

#[test]
fn one_bad_reference_leaves_the_others_unmapped() {
    let (world, dom0, guest) = two();
    let grant = guest.share(DOM0, 2).unwrap();
    let refs = [grant.refs()[0], grant.refs()[1], GrantRef(99)];
    assert_eq!(
        dom0.map(GUEST, &refs, Access::ReadWrite).unwrap_err().reason,
        Reason::NoGrant(GrantRef(99))
    );
    drop(grant);
    world.assert_clean();
}

#[test]
fn sharing_is_refused_where_it_makes_no_sense() {
    let (_world, _dom0, guest) = two();
    assert_eq!(guest.share(DOM0, 0).unwrap_err().reason, Reason::NoPages);
    assert_eq!(guest.share(DomId::SELF, 1).unwrap_err().reason, Reason::NoDomain(DomId::SELF));
    assert_eq!(guest.share(DOM0, 64 * 512).unwrap_err().reason, Reason::TableFull);
    let all = guest.share(DOM0, 64 * 512 - 8).unwrap();
    assert_eq!(guest.share(DOM0, 1).unwrap_err().reason, Reason::TableFull);
    drop(all);
    guest.share(DOM0, 1).unwrap();
}

#[test]
fn a_page_dropped_while_mapped_is_set_aside_until_the_peer_lets_go() {
    let (world, dom0, guest) = two();
    let grant = guest.share(DOM0, 1).unwrap();
    let map = map_one(&dom0, GUEST, 8).unwrap();
    grant.store(0, 7);
    drop(grant);
    assert_eq!(map.load(0), 7);
    let next = guest.share(DOM0, 1).unwrap();
    assert_eq!(next.refs(), [GrantRef(9)]);
    map.store(0, 8);
    assert_eq!(next.load(0), 0);
    drop(next);
    assert_eq!(
        world.leaks(),
        [
            "domain 0 maps grants [8] of domain 1",
            "domain 1 took back grant 8, which domain 0 still maps"
        ]
    );
    drop(map);
    world.assert_clean();
    assert_eq!(guest.share(DOM0, 1).unwrap().refs(), [GrantRef(8)]);
}

#[test]
#[should_panic(expected = "domain 0 writes 4 bytes at 8 of pages that it mapped read-only")]
fn writing_to_a_read_only_mapping_is_a_bug() {
    let (_world, dom0, guest) = two();
    let grant = guest.share(DOM0, 1).unwrap();
    dom0.map(GUEST, grant.refs(), Access::ReadOnly).unwrap().store(8, 1);
}

#[test]
#[should_panic(expected = "domain 0 writes 1 bytes at 8 of pages that it mapped read-only")]
fn updating_a_read_only_mapping_is_a_bug() {
    let (_world, dom0, guest) = two();
    let grant = guest.share(DOM0, 1).unwrap();
    dom0.map(GUEST, grant.refs(), Access::ReadOnly).unwrap().fetch_and(8, 0xff);
}

#[test]
#[should_panic(expected = "misaligned offset 6 in a shared area")]
fn a_misaligned_word_is_a_bug() {
    let (_world, _dom0, guest) = two();
    guest.share(DOM0, 1).unwrap().load(6);
}

#[test]
#[should_panic(expected = "2 bytes at 8191 of a shared area of 8192")]
fn reading_past_the_end_is_a_bug() {
    let (_world, _dom0, guest) = two();
    guest.share(DOM0, 2).unwrap().read(2 * PAGE_SIZE - 1, &mut [0; 2]);
}

/// Expected bytes of the grants and mappings of one run, whatever happens to the others.
#[derive(Default)]
struct Run {
    tags: u32,
    grants: Vec<(Grant, DomId, u32)>,
    maps: Vec<(Map, u32)>,
}

impl Run {
    /// One random step: shares, drops a grant, maps or unmaps.
    fn step(&mut self, domains: &[Domain], kind: u8, pick: usize) {
        let (one, other) = (&domains[pick % 3], &domains[(pick / 3) % 3]);
        match kind {
            0 => {
                let grant = one.share(other.id(), 1 + pick % 2).unwrap();
                assert_eq!(grant.load(0), 0);
                self.tags += 1;
                grant.store(0, self.tags);
                self.grants.push((grant, one.id(), self.tags));
            }
            1 if !self.grants.is_empty() => drop(self.grants.swap_remove(pick % self.grants.len())),
            2 if !self.grants.is_empty() => {
                let (grant, owner, tag) = &self.grants[pick % self.grants.len()];
                if let Ok(map) = one.map(*owner, grant.refs(), Access::ReadOnly) {
                    self.maps.push((map, *tag));
                }
            }
            3 if !self.maps.is_empty() => drop(self.maps.swap_remove(pick % self.maps.len())),
            _ => {}
        }
        assert!(self.grants.iter().all(|(grant, _, tag)| grant.load(0) == *tag));
        assert!(self.maps.iter().all(|(map, tag)| map.load(0) == *tag));
    }
}

proptest! {
    #[test]
    fn no_page_is_used_twice(steps in prop::collection::vec((0u8..4, 0usize..1000), 1..80)) {
        let world = World::new();
        let domains = [0, 1, 2].map(|domid| world.domain(DomId(domid)));
        let mut run = Run::default();
        for (kind, pick) in steps {
            run.step(&domains, kind, pick);
        }
        drop(run);
        world.assert_clean();
    }
}
