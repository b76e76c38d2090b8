//! Keys and states in xenstore when a frontend connects: malformed ones are reported or passed
//! over.

mod common;

use common::backend::{Backend, Keys, Store, all_keys, offer, with};
use common::{Bench, DOM0, Error, GUEST, SECTORS};
use std::time::Duration;
use xen_blk::front::{Config, Note, PeerError};

/// Tries to connect to a backend with these keys.
fn attach_to(keys: Keys, config: Config) -> Result<Vec<Note>, Error> {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let task = bench.sim.spawn(&dom0.domain.clone(), async move {
        let mut backend = Backend::start(&dom0, &Store::new(SECTORS), &keys).await;
        while let Some((queue, request)) = backend.next().await {
            backend.refuse(queue, &request, 0);
        }
        backend.close().await;
    });
    bench.run(async move {
        let (disk, driver) = guest.attach(&config).await?;
        disk.read(0, &mut [0; 4096]).await?;
        let notes = disk.info().notes;
        disk.close().await;
        driver.join().await.unwrap();
        task.join().await;
        Ok(notes)
    })
}

#[test]
fn malformed_key_is_reported_or_passed_over() {
    let absurd = [
        "",
        "-1",
        "x",
        " 1",
        "+1",
        "1e3",
        "99999999999999999999",
        "4294967296",
        "0",
        "1000000000",
        "255",
        "\u{fffd}",
    ];
    for key in [
        "max-ring-page-order",
        "max-ring-pages",
        "multi-queue-max-queues",
        "feature-persistent",
        "feature-max-indirect-segments",
        "feature-flush-cache",
        "feature-barrier",
        "feature-discard",
        "discard-granularity",
        "discard-alignment",
        "discard-secure",
        "physical-sector-size",
        "info",
    ] {
        for value in absurd {
            let config = Config::default().with(|config| {
                config.queues = 2;
                config.ring_pages = 4;
            });
            let notes = attach_to(with(all_keys(), key, value), config)
                .unwrap_or_else(|e| panic!("{key} {value:?}: {e}"));
            let wrong = !value.is_empty() && value.parse::<u32>().is_err();
            let noted =
                notes.iter().any(|note| matches!(note, Note::Key { key: of, .. } if *of == key));
            assert!(
                !wrong || value == "+1" || noted || key == "max-ring-pages",
                "{key} {value:?}: {notes:?}"
            );
        }
    }
}

#[test]
fn disk_without_size_is_refused() {
    for sectors in
        ["", "x", "-1", "18446744073709551615", "18446744073709551616", "18014398509481984", "+5"]
    {
        let wrong = attach_to(with(all_keys(), "sectors", sectors), Config::default()).unwrap_err();
        assert!(
            matches!(
                wrong,
                Error::Peer(
                    PeerError::Key { key: "sectors", .. } | PeerError::NoKey { key: "sectors" }
                )
            ),
            "{wrong}"
        );
    }
    for size in ["0", "3", "511", "1000", "8192", "2147483648", "x", "4294967808"] {
        let wrong =
            attach_to(with(all_keys(), "sector-size", size), Config::default()).unwrap_err();
        assert!(
            matches!(wrong, Error::Peer(PeerError::Key { key: "sector-size", .. })),
            "{size}: {wrong}"
        );
    }
}

#[test]
fn states_out_of_order_do_no_harm() {
    // Straight to connected, without having waited for the rings; then garbage; then nothing at
    // all.
    for (state, expected) in [("4", None), ("77", None), ("8", None), ("x", Some("state"))] {
        let mut bench = Bench::new();
        let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
        dom0.xs.set(&format!("{}/state", common::BACK), state);
        let config =
            Config::default().with(|config| config.connect_timeout = Duration::from_secs(5));
        bench.run(async move {
            let wrong = guest.attach(&config).await.map(|_| ()).unwrap_err();
            match expected {
                Some(name) => {
                    assert!(
                        matches!(wrong, Error::Peer(PeerError::Key { key, .. }) if key == name),
                        "{wrong}"
                    )
                }
                None => assert!(matches!(wrong, Error::NoBackend { .. }), "{wrong}"),
            }
        });
    }
}

#[test]
fn missing_disk_is_reported() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    offer(&dom0, &all_keys());
    bench.xs.remove(common::FRONT);
    let wrong =
        bench.run(async move { guest.attach(&Config::default()).await.map(|_| ()).unwrap_err() });
    assert!(matches!(wrong, Error::Store(error) if error.is_not_found()));
}
