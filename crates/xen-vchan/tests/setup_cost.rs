//! The cost of a connection's setup: requests of xenstore, watch events, events. Alone,
//! and with 30 clients that wait for the same server.

mod common;

use common::{Bench, DOM0, GUEST, Host, server};
use std::time::Duration;
use xen_platform::sleep;
use xen_sim::World;
use xen_vchan::Listener;

/// The cost of one connection, as a mean.
#[derive(Debug)]
struct Cost {
    requests: f64,
    watch_events: f64,
    events: f64,
}

/// Number of events that both domains have sent.
fn events(world: &World) -> u64 {
    world.notifies(DOM0) + world.notifies(GUEST)
}

/// Has `clients` processes of dom0 wait for a server that takes all of them, and then stay.
fn cost(clients: u32) -> Cost {
    let mut bench = Bench::with_seed(7);
    let guest = bench.host(GUEST);
    let hosts: Vec<Host> = (0..clients).map(|_| bench.host(DOM0)).collect();
    let (spawner, xs, world) = (bench.sim.spawner(), bench.xs.clone(), bench.sim.world().clone());
    bench.run(async move {
        // All the connections to xenstore are made, and nobody has asked for anything.
        sleep(&guest.domain, Duration::from_secs(1)).await;
        let waiting: Vec<_> = hosts
            .into_iter()
            .map(|host| {
                spawner.spawn(&host.domain.clone(), async move {
                    let connection = host.connect().await.unwrap();
                    (host, connection)
                })
            })
            .collect();
        sleep(&guest.domain, Duration::from_secs(1)).await;
        let before = (xs.requests(), xs.watch_events(), events(&world));
        let mut listener =
            Listener::open(&guest.domain, &guest.store, &server(DOM0, (12, 12))).await.unwrap();
        let mut accepted = Vec::new();
        for _ in 0..clients {
            accepted.push(listener.accept().await.unwrap());
        }
        let mut connected = Vec::new();
        for client in waiting {
            connected.push(client.join().await);
        }
        let each = |now: u64, before: u64| (now - before) as f64 / f64::from(clients);
        let cost = Cost {
            requests: each(xs.requests(), before.0),
            watch_events: each(xs.watch_events(), before.1),
            events: each(events(&world), before.2),
        };
        listener.close().await.unwrap();
        for (_, connection) in connected {
            connection.close().await.unwrap();
        }
        for connection in accepted {
            connection.close().await.unwrap();
        }
        cost
    })
}

#[test]
fn setup_of_a_connection_costs_no_more_than_it_must() {
    let (alone, crowded) = (cost(1), cost(30));
    println!("alone {alone:?}, with 30 waiting {crowded:?}");
    let limits = |cost: &Cost, requests: f64, watch_events: f64| {
        let Cost { events, .. } = *cost;
        assert!(cost.requests <= requests && cost.watch_events <= watch_events, "{cost:?}");
        assert_eq!(events, 1.0, "the client says that it is there, and nothing else");
    };
    limits(&alone, 24.0, 4.0);
    limits(&crowded, 67.0, 18.0);
}
