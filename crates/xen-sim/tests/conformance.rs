//! The simulated hypervisor keeps the contracts of the platform traits, in any order of events.

use std::cell::Cell;
use std::rc::Rc;
use xen_sim::conformance::{Endpoint, check};
use xen_sim::{Domain, Sim};

fn end(platform: Domain) -> Endpoint<Domain> {
    Endpoint { id: platform.id(), platform }
}

/// Runs the suite between two ends and says how many contracts were kept.
fn kept(mut sim: Sim, a: Domain, b: Domain) -> usize {
    let count = Rc::new(Cell::new(0));
    let counter = count.clone();
    let found =
        sim.run(async move { check(&end(a), &end(b), |_| counter.set(counter.get() + 1)).await });
    assert_eq!(found, Ok(()));
    count.get()
}

#[test]
fn between_two_domains() {
    let sim = Sim::new();
    let (a, b) = (sim.domain(0), sim.domain(1));
    assert_eq!(kept(sim, a, b), 2 * 20);
}

#[test]
fn within_one_domain() {
    let sim = Sim::new();
    let a = sim.domain(0);
    assert_eq!(kept(sim, a.clone(), a), 2 * 20);
}

#[test]
fn in_random_orders() {
    for seed in 0..50 {
        let sim = Sim::with_seed(seed);
        let (a, b) = (sim.domain(0), sim.domain(1));
        kept(sim, a, b);
    }
}
