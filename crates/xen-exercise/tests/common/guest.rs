//! A simulated host with a guest for the exerciser. The tests of `xen-blk-mutants` use it, too.

use std::cell::RefCell;
use std::fmt::Arguments;
use std::rc::Rc;
use xen_exercise::{Boxed, Front, Host, Usage};
use xen_platform::DomId;
use xen_sim::xenstore::Xenstored;
use xen_sim::{Domain, Sim, Spawner};
use xen_store::Store;

/// The services of the guest's program.
pub struct Guest {
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
        Some(Usage {
            grants: count("domain 1 grants"),
            still_mapped: count("domain 1 took back"),
            ports: count("domain 1 has port"),
            heap: 0,
        })
    }
    fn spawn(&self, work: Boxed<'static, ()>) {
        let _task = self.spawner.spawn(&self.domain, work);
    }
}

/// A host with dom0 and a guest.
pub struct World {
    pub sim: Sim,
    pub xs: Xenstored,
    pub dom0: Domain,
    /// dom0's connection to xenstore.
    pub back: Store,
    /// The guest's.
    pub front: Store,
    pub env: Front<Domain, Guest>,
    /// Text on the guest's console.
    pub text: Rc<RefCell<String>>,
}

impl World {
    pub fn new() -> World {
        let sim = Sim::new();
        let xs = Xenstored::new();
        xs.introduce(DomId(1));
        xs.set("/local/domain/0/backend", "");
        let (dom0, domain) = (sim.domain(0), sim.domain(1));
        let (back, front) = (connect(&sim, &xs, &dom0), connect(&sim, &xs, &domain));
        let text = Rc::new(RefCell::new(String::new()));
        let guest = Guest { domain: domain.clone(), spawner: sim.spawner(), text: text.clone() };
        let env = Front::new(&domain, &front, guest);
        World { sim, xs, dom0, back, front, env, text }
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
