//! Shows what is left of a domain that was destroyed while a peer mapped its page.

use std::process::ExitCode;
use xen_platform::{Access, DomId, Granted, IndexMemory, Platform};
use xen_sim::{Error, World};

fn crash() -> Result<u32, Error> {
    let world = World::new();
    let (guest, dom0) = (world.domain(DomId(1)), world.domain(DomId(0)));
    let page = guest.share(dom0.id(), 1)?;
    let map = dom0.map(guest.id(), page.refs(), Access::ReadOnly)?;
    page.store(0, 42);
    world.destroy(guest.id());
    page.store(0, 13);
    Ok(map.load(0))
}

fn main() -> ExitCode {
    match crash() {
        Ok(value) => println!("the page still holds {value}"),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
