//! vchan as a stream of the standard library.

#[path = "common/world.rs"]
mod world;

use std::io::{ErrorKind, Read, Write};
use world::{GUEST, bench, dial, host, serve};
use xen_exec::{Executor, Turn};
use xen_linux::vchan::Stream;
use xen_platform::Platform;
use xen_sim::{Domain, World};

/// A client's stream, and the world of its server.
fn client() -> (Stream<Domain>, World) {
    let bench = bench();
    let world = bench.world.clone();
    let mut executor = Executor::new();
    let spawner = executor.spawner();
    let (guest, guest_store, guest_driver) = host(&bench, 1);
    let (dom0, store, driver) = host(&bench, 0);
    spawner.spawn(guest_driver);
    spawner.spawn(driver);
    spawner.spawn(serve(guest, guest_store));
    let dialing = dom0.clone();
    let turning = world.clone();
    let connection =
        executor.run(async move { dial(&dialing, &store).await }, |turn| turning.turn(turn));
    let (waits, looks) = (world.clone(), world.clone());
    let wait = move |turn| waits.turn(turn);
    let yielding = dom0.clone();
    let look = move || {
        looks.turn(Turn::Busy);
        yielding.yields().signal();
    };
    (Stream::over(dom0, executor, wait, look, connection), world)
}

#[test]
fn stream_echoes_more_than_the_rings_hold() {
    let (mut stream, world) = client();
    let sent: Vec<u8> = (0..100_000u32).map(|i| b'a' + (i % 26) as u8).collect();
    let mut back = Vec::new();
    for piece in sent.chunks(1500) {
        stream.write_all(piece).unwrap();
        let mut answer = vec![0; piece.len()];
        stream.read_exact(&mut answer).unwrap();
        back.extend(answer);
    }
    assert_eq!(back, sent.to_ascii_uppercase());
    stream.close().unwrap();
    drop(world);
}

#[test]
fn nonblocking_stream_says_that_it_would_wait() {
    let (mut stream, _world) = client();
    stream.set_nonblocking(true);
    let would_wait = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
    assert!(would_wait(stream.read(&mut [0; 8]).unwrap_err()));
    // Nobody reads the answers, so that both rings fill at last. Each try lets the server move.
    let (mut written, mut tries) = (0, 0);
    while tries < 20 {
        match stream.write(&[b'x'; 700]) {
            Ok(bytes) => (written, tries) = (written + bytes, 0),
            Err(error) => (_, tries) = (assert!(would_wait(error)), tries + 1),
        }
    }
    assert!(written >= 8192, "{written} bytes");
    let mut back: Vec<u8> = Vec::new();
    let mut buffer = [0; 300];
    while back.len() < written && tries < 40 {
        match stream.read(&mut buffer) {
            Ok(bytes) => back.extend(&buffer[..bytes]),
            Err(error) => (_, tries) = (assert!(would_wait(error)), tries + 1),
        }
    }
    assert_eq!(back, vec![b'X'; written]);
    stream.set_nonblocking(false);
    stream.close().unwrap();
}

#[test]
fn dead_peer_is_a_reset_connection() {
    let (mut stream, world) = client();
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    world.destroy(GUEST);
    let error = stream.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    assert!(error.to_string().starts_with("the vchan peer, domain 1, died"), "{error}");
}
