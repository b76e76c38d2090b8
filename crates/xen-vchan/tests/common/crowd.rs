//! A server under many clients that do anything at all, by a script of bytes. The body of the fuzz
//! target `vchan_server` and of the property test in `tests/crowd.rs`.

use crate::common::{Bench, CLI_LIVE, CLI_NOTIFY, DOM0, GUEST, RawClient, server};
use embedded_io_async::{Read, Write};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use xen_platform::{Channel as _, IndexMemory, Platform, SharedMem, deadline, sleep};
use xen_sim::{Domain, Spawner};
use xen_vchan::{Connection, Info, Listener};

/// Number of clients that are there at a time.
const CLIENTS: usize = 4;

/// The offers that the server has published so far, and have no client.
type Offers = Rc<RefCell<Option<Info>>>;

/// Echoes to each client, until it leaves or is cut off for what it did.
async fn echo(connection: Connection<Domain>) {
    let (mut reader, mut writer) = connection.split();
    let mut buffer = [0; 700];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        if writer.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    connection.close().await.unwrap();
}

/// Accepts clients for ever; nothing that one of them does ends it.
async fn serve(mut listener: Listener<Domain>, guest: Domain, spawner: Spawner, offers: Offers) {
    loop {
        *offers.borrow_mut() = listener.info().cloned();
        if let Ok(connection) = listener.accept().await {
            spawner.spawn(&guest, echo(connection));
        }
    }
}

/// A client that keeps to no rules, but for one: it has taken the offer of the moment. (One that
/// spoils an offer and leaves it there harms its own domain alone, whose next client finds it.)
fn attach(dom0: &Domain, offers: &Offers) -> Option<RawClient> {
    let info = offers.borrow().clone()?;
    let page = dom0.map(GUEST, &[info.control_ref], xen_platform::Access::ReadWrite).ok()?;
    let channel = dom0.connect(GUEST, info.port).ok()?;
    let client = RawClient { domain: dom0.clone(), page, channel };
    client.join();
    Some(client)
}

/// Plays the script: each step is three bytes, of which client, what it does, and with what.
pub fn play(script: &[u8]) {
    let mut bench = Bench::new();
    let (guest, dom0, honest) = (bench.host(GUEST), bench.host(DOM0), bench.host(DOM0));
    let spawner = bench.sim.spawner();
    let script = script.to_vec();
    bench.run(async move {
        let listener =
            Listener::open(&guest.domain, &guest.store, &server(DOM0, (10, 11))).await.unwrap();
        let offers = Offers::default();
        let serving = serve(listener, guest.domain.clone(), spawner.clone(), offers.clone());
        spawner.spawn(&guest.domain, serving);
        let mut clients: [Option<RawClient>; CLIENTS] = Default::default();
        for step in script.chunks_exact(3) {
            let &[who, what, with] = step else { unreachable!("three bytes") };
            let client = &mut clients[usize::from(who) % CLIENTS];
            let Some(there) = client else {
                *client = attach(&dom0.domain, &offers);
                // The server sees it, and publishes the next offer.
                sleep(&dom0.domain, Duration::from_millis(1)).await;
                continue;
            };
            match what % 8 {
                0 => there.join(),
                1 => there.page.store_u8(CLI_LIVE, with % 4),
                2 => drop(there.page.fetch_or(CLI_NOTIFY + usize::from(with % 2), with)),
                // An index, to anything.
                3 | 4 => {
                    let value =
                        u32::from(with).wrapping_mul(if what & 8 == 0 { 1 } else { 1 << 25 });
                    there.page.store(4 * usize::from(with % 4), value);
                }
                5 => there.page.write(1024 + usize::from(with), &[with; 8]),
                6 => *client = None,
                _ => sleep(&dom0.domain, Duration::from_millis(with.into())).await,
            }
            if let Some(there) = client {
                there.channel.notify();
            }
        }
        // Whatever they did, once they are gone an honest client is served.
        drop(clients);
        sleep(&dom0.domain, Duration::from_secs(3)).await;
        let work = async {
            let client = honest.connect().await.unwrap();
            let (mut reader, mut writer) = client.split();
            writer.write_all(b"still there").await.unwrap();
            let mut got = [0; 11];
            reader.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"still there");
            client.close().await.unwrap();
        };
        deadline(&honest.domain, honest.in_secs(30), work).await.expect("nobody is served");
        // The end of the world for the server: nothing of it may stay.
        guest.domain.world().destroy(GUEST);
    });
}
