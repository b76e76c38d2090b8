//! vchan as a stream of tokio, and the platform under its executor.

#[path = "common/world.rs"]
mod world;

use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};
use world::{bench, dial, host, serve};
use xen_exec::Turn;
use xen_linux::Linux;
use xen_linux::vchan::AsyncStream;
use xen_platform::{Clock, Platform, deadline, sleep, yield_now};

/// Runs `main` in a LocalSet, for 20 seconds at most.
fn run(main: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, main).await.expect("it hangs");
    });
}

#[test]
fn stream_echoes_under_tokio() {
    run(async {
        let bench = bench();
        let (guest, guest_store, guest_driver) = host(&bench, 1);
        let (dom0, store, driver) = host(&bench, 0);
        spawn_local(guest_driver);
        spawn_local(driver);
        let serving = spawn_local(serve(guest, guest_store));
        let (world, yielding) = (bench.world.clone(), dom0.clone());
        spawn_local(async move {
            loop {
                world.turn(Turn::Busy);
                yielding.yields().signal();
                tokio::task::yield_now().await;
            }
        });
        // The clock of the world stands still.
        let mut stream = AsyncStream::over(dial(&dom0, &store).await);
        let sent: Vec<u8> = (0..10_000u32).map(|i| b'a' + (i % 26) as u8).collect();
        for piece in sent.chunks(1000) {
            stream.write_all(piece).await.unwrap();
            let mut answer = vec![0; piece.len()];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, piece.to_ascii_uppercase());
        }
        stream.close().await.unwrap();
        serving.await.unwrap();
    });
}

#[test]
fn deadlines_and_yields_pass_under_tokio() {
    run(async {
        let linux = Linux::new();
        let driven = linux.clone();
        let driving = spawn_local(async move { driven.drive().await });
        let at = Some(linux.now() + Duration::from_millis(20));
        assert!(deadline(&linux, at, std::future::pending::<()>()).await.is_err());
        // An earlier timer than the one that the descriptor was set for.
        let late = linux.clone();
        let sleeping = spawn_local(async move { sleep(&late, Duration::from_secs(3600)).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        sleep(&linux, Duration::from_millis(5)).await;
        // The driver sleeps in tokio when a task asks for the processor to be given away.
        tokio::time::sleep(Duration::from_millis(20)).await;
        for _ in 0..100 {
            yield_now(&linux).await;
        }
        assert!(!driving.is_finished());
        sleeping.abort();
    });
}

#[test]
fn descriptor_wakes_a_task_that_waits_for_another() {
    use embedded_io_async::{Read as _, Write as _};
    run(async {
        let linux = Linux::new();
        let driven = linux.clone();
        spawn_local(async move { driven.drive().await });
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut input = xen_linux::Input::new(&linux, ours.try_clone().unwrap()).unwrap();
        let mut output = xen_linux::Output::new(&linux, ours).unwrap();
        let mut theirs = tokio::task::spawn_blocking(move || {
            use std::io::{Read as _, Write as _};
            let mut theirs = theirs;
            for _ in 0..50 {
                let mut byte = [0];
                theirs.read_exact(&mut byte).unwrap();
                std::thread::sleep(Duration::from_millis(1));
                theirs.write_all(&byte).unwrap();
            }
        });
        for round in 0..50 {
            output.write_all(&[round]).await.unwrap();
            let mut byte = [0];
            assert_eq!(input.read(&mut byte).await.unwrap(), 1);
            assert_eq!(byte, [round]);
        }
        (&mut theirs).await.unwrap();
    });
}
