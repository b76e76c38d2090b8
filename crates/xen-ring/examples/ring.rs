//! Moves bytes through one ring, from a page's owner to the domain that maps it.

use std::process::ExitCode;
use xen_platform::{Access, Granted, Platform};
use xen_ring::bytes::{Consumer, Corrupt, Layout, Producer};
use xen_sim::World;

/// Indices at the start of the page, and 1 KiB of data in its second half.
const LAYOUT: Layout = Layout { prod: 0, cons: 4, data: 2048, size: 1024 };

fn transfer() -> Result<Vec<u8>, Corrupt> {
    let world = World::new();
    let (guest, dom0) =
        (world.domain(xen_platform::DomId(1)), world.domain(xen_platform::DomId(0)));
    let page = guest.share(dom0.id(), 1).expect("a fresh world has pages");
    let map = dom0.map(guest.id(), page.refs(), Access::ReadWrite).expect("it was just granted");
    let mut producer = Producer::new(LAYOUT, 0);
    let mut consumer = Consumer::new(LAYOUT, 0);
    producer.write(&page, &page, b"hello")?;
    let mut bytes = [0; 16];
    let count = consumer.read(&map, &map, &mut bytes)?;
    Ok(bytes[..count].to_vec())
}

fn main() -> ExitCode {
    match transfer() {
        Ok(bytes) => println!("{}", String::from_utf8_lossy(&bytes)),
        Err(corrupt) => {
            eprintln!("the peer broke the ring: {corrupt}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
