//! Reads a domain's own number, from a xenstored in memory.

use std::process::ExitCode;
use xen_platform::DomId;
use xen_sim::{Sim, xenstore::Xenstored};
use xen_store::Error;

fn ask() -> Result<u16, Error> {
    let daemon = Xenstored::new();
    daemon.introduce(DomId(1));
    let mut sim = Sim::new();
    let guest = sim.domain(1);
    let (from, to) = daemon.connect(DomId(1));
    let (store, driver) = xen_store::connect(from, to);
    sim.spawn(&guest, driver);
    sim.run(async move { store.read_number("domid").await })
}

fn main() -> ExitCode {
    match ask() {
        Ok(domid) => println!("this is domain {domid}"),
        Err(error) => {
            eprintln!("xenstore: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
