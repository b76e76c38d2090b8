//! Each wake-up comes by its event: no time passes, and the events are those that were asked for.
//!
//! An end that did not ask would find what it waits for all the same, up to a second late, when it
//! looks whether its peer lives, or at once in its busy-poll window. So there is no window here,
//! and time is looked at: each line of the crate that asks for an event was taken out once, and
//! each time a test here failed.

mod common;

use common::{Bench, DOM0, GUEST, Host, pair, pattern};
use embedded_io_async::{Read, Write};
use xen_platform::Clock;
use xen_sim::{Domain, Spawner, World};
use xen_vchan::Connection;

/// A guest that serves and a client in dom0, connected, without a busy-poll window.
struct Pair {
    guest: Host,
    dom0: Host,
    server: Connection<Domain>,
    client: Connection<Domain>,
    spawner: Spawner,
    world: World,
}

impl Pair {
    /// Number of events that the guest and dom0 have sent.
    fn events(&self) -> (u64, u64) {
        (self.world.notifies(GUEST), self.world.notifies(DOM0))
    }
}

/// Runs `test` on a pair, and checks that it takes no time.
fn at_once(test: impl AsyncFnOnce(&Pair) + 'static) {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (12, 12)).await;
        server.busy_poll(0);
        client.busy_poll(0);
        let clock = dom0.domain.clone();
        let pair = Pair { guest, dom0, server, client, spawner, world };
        let begun = clock.now();
        test(&pair).await;
        assert_eq!(clock.now(), begun, "somebody slept until the next look");
        let Pair { server, client, .. } = pair;
        client.close().await.unwrap();
        server.close().await.unwrap();
    });
}

/// Lets the other tasks go on until they sleep; a wake-up without a cause is behind them then.
async fn asleep() {
    for _ in 0..100 {
        yield_now().await;
    }
}

/// Lets every other task go first, once.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await
}

/// Spawns an echo in the guest, for `total` bytes.
fn echo(pair: &Pair, total: usize) -> xen_sim::Task<()> {
    let (mut reader, mut writer) = pair.server.split();
    pair.spawner.spawn(&pair.guest.domain, async move {
        let mut buffer = [0; 4096];
        let mut left = total;
        while left > 0 {
            let count = reader.read(&mut buffer).await.unwrap();
            writer.write_all(&buffer[..count]).await.unwrap();
            left -= count;
        }
    })
}

#[test]
fn round_trip_is_one_event_each_way() {
    at_once(async |pair| {
        let serving = echo(pair, 10);
        let (mut reader, mut writer) = pair.client.split();
        let before = pair.events();
        for _ in 0..10 {
            writer.write_all(b"x").await.unwrap();
            reader.read_exact(&mut [0]).await.unwrap();
        }
        serving.join().await;
        let after = pair.events();
        assert_eq!((after.0 - before.0, after.1 - before.1), (10, 10));
    });
}

#[test]
fn stream_of_many_rings_is_woken_for_data_and_for_space() {
    at_once(async |pair| {
        let sent = pattern(100_000);
        let serving = echo(pair, sent.len());
        let (mut reader, mut writer) = pair.client.split();
        let message = sent.clone();
        let writing = pair.spawner.spawn(&pair.dom0.domain, async move {
            writer.write_all(&message).await.unwrap();
            writer.drained().await.unwrap();
        });
        let mut got = vec![0; sent.len()];
        reader.read_exact(&mut got).await.unwrap();
        assert!(got == sent);
        writing.join().await;
        serving.join().await;
    });
}

/// As libxenvchan's: the client asks for the first event when it connects, before it waits.
#[test]
fn first_bytes_of_either_end_are_an_event() {
    at_once(async |pair| {
        let before = pair.events();
        pair.server.split().1.write_all(b"hello").await.unwrap();
        assert_eq!(pair.events().0 - before.0, 1, "of the server");
        pair.client.split().1.write_all(b"hello").await.unwrap();
        assert_eq!(pair.events().1 - before.1, 1, "of the client");
    });
}

#[test]
fn queries_ask_for_the_next_event() {
    at_once(async |pair| {
        let ((mut server_reader, _), (mut reader, mut writer)) =
            (pair.server.split(), pair.client.split());
        let mut server_writer = pair.server.split().1;
        // The requests of the beginning are answered first, and the event for them has come.
        server_writer.write_all(b"a").await.unwrap();
        reader.next_event().await;
        reader.read_exact(&mut [0]).await.unwrap();
        assert_eq!(reader.data_ready().unwrap(), 0);
        let waiting = pair.spawner.spawn(&pair.dom0.domain, async move {
            while reader.data_ready().unwrap() == 0 {
                reader.next_event().await;
            }
        });
        asleep().await;
        server_writer.write_all(b"b").await.unwrap();
        waiting.join().await;

        writer.write_all(&[0; 4096]).await.unwrap();
        assert_eq!(writer.space().unwrap(), 0);
        let waiting = pair.spawner.spawn(&pair.dom0.domain, async move {
            while writer.space().unwrap() == 0 {
                writer.next_event().await;
            }
        });
        asleep().await;
        server_reader.read_exact(&mut [0; 4096]).await.unwrap();
        waiting.join().await;
        pair.client.split().0.read_exact(&mut [0]).await.unwrap();
    });
}

#[test]
fn end_of_output_and_its_receipt_are_events() {
    at_once(async |pair| {
        let (mut server_reader, _) = pair.server.split();
        let (_, mut writer) = pair.client.split();
        let reading = pair.spawner.spawn(&pair.guest.domain, async move {
            while server_reader.read(&mut [0; 10]).await.unwrap() > 0 {}
        });
        writer.write_all(b"last").await.unwrap();
        writer.finish().unwrap();
        writer.drained().await.unwrap();
        reading.join().await;
    });
}
