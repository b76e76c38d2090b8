//! Ends that are not good: each with its exit code, and nothing lost that had come.

mod common;

use common::{Bench, DOM0, GUEST, Step, args, capitalize, letters};
use embedded_io_async::{Read, Write};
use std::future::pending;
use std::time::Duration;
use vchan::{Code, DomainArgument};
use xen_platform::{DomId, GrantRef, IndexMemory, deadline, sleep};

#[test]
fn no_server_before_the_timeout() {
    for (timeout, least) in [(10, 10), (0, 0)] {
        let mut bench = Bench::new();
        let mut args = args();
        args.dial.timeout = timeout;
        let ended = bench.connect(args, vec![Step::Forever]);
        let failure = ended.result.unwrap_err();
        assert_eq!(failure.code, Code::Missing);
        assert!(failure.text.contains("/local/domain/1/data/vchan"), "{failure}");
        assert!(
            ended.took >= Duration::from_secs(least)
                && ended.took <= Duration::from_secs(least + 1)
        );
    }
}

#[test]
fn no_such_domain() {
    for domain in [DomainArgument::Number(DomId(7)), DomainArgument::Name("nobody".into())] {
        let mut args = args();
        args.dial.place.domain = domain;
        let ended = Bench::new().connect(args, Vec::new());
        let failure = ended.result.unwrap_err();
        assert!(
            failure.code == Code::Missing && failure.text.ends_with("see xl list"),
            "{failure:?}"
        );
        assert!(ended.took < Duration::from_secs(1));
    }
}

#[test]
fn the_own_domain() {
    let mut args = args();
    args.dial.place.domain = DomainArgument::Number(DOM0);
    let failure = Bench::new().connect(args, Vec::new()).result.unwrap_err();
    assert_eq!(failure.code, Code::Usage);
    assert!(failure.text.starts_with("domain 0 is this one"), "{failure}");
}

#[test]
fn the_server_closes_before_it_has_read_everything() {
    // With both directions full, with the output still busy, and with an empty ring and the rest on
    // this side of it.
    for (sent, read, pause) in [(100_000, 1000, 0), (100_000, 1000, 2), (5000, 4096, 0)] {
        let mut bench = Bench::new();
        bench.serve(Duration::ZERO, move |domain, mut reader, mut writer| async move {
            sleep(&domain, Duration::from_secs(1)).await;
            writer.write_all(b"enough").await.unwrap();
            sleep(&domain, Duration::from_secs(1)).await;
            reader.read_exact(&mut vec![0; read]).await.unwrap();
        });
        let ended = bench.connect_to(args(), vec![Step::Bytes(letters(sent))], |output| {
            (output.pause, output.most) = (Duration::from_secs(pause), 3);
        });
        let failure = ended.result.unwrap_err();
        assert_eq!((failure.code, &*ended.output), (Code::Other, &b"enough"[..]));
        let text = "the server closed the channel before it had read everything: ";
        assert!(failure.text.starts_with(text), "{failure}");
    }
}

#[test]
fn the_domain_is_destroyed() {
    for steps in [vec![Step::Forever], vec![Step::Bytes(letters(100_000))]] {
        let mut bench = Bench::new();
        let (guest, _) = bench.serve(Duration::ZERO, |_, _, mut writer| async move {
            writer.write_all(b"last words").await.unwrap();
            pending().await
        });
        let (dom0, world) = (bench.sim.domain(0), guest.world().clone());
        let killing = bench.sim.domain(0);
        bench.sim.spawn(&killing, async move {
            sleep(&dom0, Duration::from_secs(3)).await;
            world.destroy(GUEST);
        });
        let ended = bench.connect(args(), steps);
        assert_eq!(ended.result.unwrap_err().code, Code::Gone);
        assert_eq!(ended.output, b"last words");
        assert!(ended.took < Duration::from_secs(5), "{:?}", ended.took);
    }
}

#[test]
fn the_server_process_is_killed() {
    let mut bench = Bench::new();
    let (guest, serving) = bench.serve(Duration::ZERO, |_, _, _| pending());
    let killer = bench.sim.domain(0);
    let clock = killer.clone();
    bench.sim.spawn(&killer, async move {
        sleep(&clock, Duration::from_secs(3)).await;
        guest.kill_process();
    });
    let ended = bench.connect(args(), vec![Step::Forever]);
    // Its kernel clears the live byte, but the end of the output was never announced.
    assert_eq!(ended.result.unwrap_err().code, Code::Gone);
    assert!(ended.took < Duration::from_secs(5), "{:?}", ended.took);
    assert_eq!(bench.sim.run(serving.outcome()), None);
    bench.xs.remove("/local/domain/1/data/vchan");
}

#[test]
fn the_server_breaks_the_protocol() {
    let mut bench = Bench::new();
    let (guest, _) = bench.serve(Duration::ZERO, |_, _, _| pending());
    let (clock, world, xs) = (bench.sim.domain(0), guest.world().clone(), bench.xs.clone());
    bench.sim.spawn(&guest, {
        let guest = guest.clone();
        async move {
            sleep(&clock, Duration::from_secs(3)).await;
            let gref = xs.get("/local/domain/1/data/vchan/ring-ref").unwrap();
            let gref = String::from_utf8(gref).unwrap().parse().map(GrantRef).unwrap();
            // right.prod (io/libxenvchan.h): far more than the ring holds.
            world.page_of(guest.id(), gref).store(12, 0x8000_0000);
        }
    });
    let ended =
        bench.connect(args(), vec![Step::Pause(Duration::from_secs(4)), Step::Bytes(b"x".into())]);
    let failure = ended.result.unwrap_err();
    assert_eq!(failure.code, Code::Protocol);
    assert!(failure.text.contains("right ring"), "{failure}");
    bench.sim.world().destroy(GUEST);
}

#[test]
fn giving_up_closes_the_channel_in_good_order() {
    let mut bench = Bench::new();
    let (_, serving) = bench.serve(Duration::ZERO, |domain, reader, writer| {
        capitalize(domain, reader, writer, Duration::ZERO)
    });
    let (dom0, store) = bench.host(DOM0);
    let (input, output) = common::streams(&dom0, vec![Step::Bytes(b"x".into()), Step::Forever]);
    bench.sim.run(async move {
        // As a signal does it.
        let limit = xen_platform::Clock::now(&dom0) + Duration::from_secs(2);
        let (args, stop) = (args(), vchan::Stop::new());
        let work =
            vchan::connect(common::quiet(&dom0, &store, &stop), &args, input, output.clone());
        deadline(&dom0, Some(limit), work).await.unwrap_err();
        assert_eq!(*output.bytes.borrow(), b"X");
        serving.join().await;
    });
    assert_eq!(bench.xs.get("/local/domain/1/data/vchan/ring-ref"), None);
}

/// xenstored refuses all but dom0 that ask for another domain (IS_DOMAIN_INTRODUCED).
#[test]
fn a_guest_need_not_know_which_domains_there_are() {
    let mut bench = Bench::new();
    let (guest, store) = bench.host(GUEST);
    let (input, output) = common::streams(&guest, Vec::new());
    let mut args = args();
    args.dial.place.domain = DomainArgument::Number(DOM0);
    let result = bench.sim.run(async move {
        vchan::connect(common::quiet(&guest, &store, &vchan::Stop::new()), &args, input, output)
            .await
    });
    let failure = result.unwrap_err();
    assert_eq!(failure.code, Code::Missing, "{failure}");
    assert!(failure.text.contains("/local/domain/0/data/vchan"), "{failure}");
}

#[test]
fn a_guest_is_told_that_it_may_not_look_names_up() {
    let mut bench = Bench::new();
    let (guest, store) = bench.host(GUEST);
    let (input, output) = common::streams(&guest, Vec::new());
    let mut args = args();
    args.dial.place.domain = DomainArgument::Name("Domain-0".into());
    let result = bench.sim.run(async move {
        vchan::connect(common::quiet(&guest, &store, &vchan::Stop::new()), &args, input, output)
            .await
    });
    let failure = result.unwrap_err();
    assert_eq!(failure.code, Code::Usage);
    assert!(failure.text.contains("give its number"), "{failure}");
}
