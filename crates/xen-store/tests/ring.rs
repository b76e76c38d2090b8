//! The client over the shared ring that a guest has.

mod common;

use common::{DOM0, Host, ONE};
use proptest::prelude::*;
use std::mem::offset_of;
use std::rc::Rc;
use xen_abi::xs_wire::{DomainInterface, RING_SIZE};
use xen_platform::{Access, Channel, Granted, IndexMemory, Platform};
use xen_ring::bytes::Layout;
use xen_ring::stream::split;

const REQUESTS: Layout = Layout {
    prod: offset_of!(DomainInterface, req_prod),
    cons: offset_of!(DomainInterface, req_cons),
    data: offset_of!(DomainInterface, req),
    size: RING_SIZE as u32,
};
const REPLIES: Layout = Layout {
    prod: offset_of!(DomainInterface, rsp_prod),
    cons: offset_of!(DomainInterface, rsp_cons),
    data: offset_of!(DomainInterface, rsp),
    size: RING_SIZE as u32,
};

/// Does some of everything over a ring whose indices start at `requests` and `replies`.
fn talk(requests: u32, replies: u32) {
    let mut host = Host::new();
    let (dom0, guest) = (host.sim.domain(0), host.sim.domain(1));
    let page = guest.share(DOM0, 1).unwrap();
    for (layout, start) in [(REQUESTS, requests), (REPLIES, replies)] {
        page.store(layout.prod, start);
        page.store(layout.cons, start);
    }
    let bell = guest.listen(DOM0).unwrap();
    let daemon_page = dom0.map(ONE, page.refs(), Access::ReadWrite).unwrap();
    let daemon_bell = dom0.connect(ONE, bell.port()).unwrap();

    let (from, to) = split(Rc::new(daemon_page), Rc::new(daemon_bell), REQUESTS, REPLIES).unwrap();
    host.sim.spawn(&dom0, host.daemon.serve(ONE, from, to));
    let (from, to) = split(Rc::new(page), Rc::new(bell), REPLIES, REQUESTS).unwrap();
    let (store, driver) = xen_store::connect(from, to);
    host.sim.spawn(&guest, driver);

    let daemon = host.daemon.clone();
    host.run(async move {
        assert_eq!(store.read("domid").await.unwrap(), b"1");
        // Longer than the ring in both directions.
        let value: Vec<u8> = (0..4000).map(|n| n as u8).collect();
        store.write("data/long", &value).await.unwrap();
        assert_eq!(store.read("data/long").await.unwrap(), value);
        let mut watch = store.watch("data/x").await.unwrap();
        store.transaction(async |tx| tx.write("data/x", b"").await).await.unwrap();
        assert_eq!(watch.next().await.unwrap(), "data/x");
        drop(watch);
        store.rm("data/x").await.unwrap();
        assert_eq!(daemon.watches(ONE), 0);
    });
}

#[test]
fn indices_may_start_anywhere_and_wrap() {
    talk(0, 0);
    talk(0xffff_fff0, 0xffff_ff00);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn indices_may_start_at_any_number(requests: u32, replies: u32) {
        talk(requests, replies);
    }
}
