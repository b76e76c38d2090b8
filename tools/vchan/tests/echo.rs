//! Both directions, to a good end.

mod common;

use common::{Bench, Step, args, capitalize, letters};
use embedded_io_async::{Read, Write};
use std::time::Duration;
use vchan::DomainArgument;
use xen_platform::{Clock, deadline};

#[test]
fn lines_come_back_as_they_are_typed() {
    let mut bench = Bench::new();
    bench.serve(Duration::ZERO, |domain, reader, writer| {
        capitalize(domain, reader, writer, Duration::ZERO)
    });
    let typed = ["hello ", "from dom0\n"].map(|text| Step::Bytes(text.into()));
    let [first, second] = typed;
    let ended = bench.connect(args(), vec![first, Step::Pause(Duration::from_secs(60)), second]);
    assert_eq!(ended.result, Ok(()));
    assert_eq!(String::from_utf8(ended.output).unwrap(), "HELLO FROM DOM0\n");
    assert_eq!(ended.said, [""; 0]);
}

#[test]
fn much_more_than_the_rings_hold_comes_back_whole_in_any_order_of_events() {
    for seed in 0..20 {
        let mut bench = Bench::with_seed(seed);
        bench.serve(Duration::ZERO, |domain, reader, writer| {
            capitalize(domain, reader, writer, Duration::ZERO)
        });
        let ended = bench.connect(args(), vec![Step::Bytes(letters(300_000))]);
        assert_eq!(ended.result, Ok(()), "seed {seed}");
        assert!(ended.output == letters(300_000).to_ascii_uppercase(), "seed {seed}");
    }
}

#[test]
fn a_server_slower_than_the_linger_loses_nothing() {
    let thinking = Duration::from_secs(5);
    for seed in 0..20 {
        let mut bench = Bench::with_seed(seed);
        bench.serve(Duration::ZERO, move |domain, reader, writer| {
            capitalize(domain, reader, writer, thinking)
        });
        let ended = bench.connect(args(), vec![Step::Bytes(letters(20_000))]);
        assert_eq!(ended.result, Ok(()), "seed {seed}");
        assert!(ended.output == letters(20_000).to_ascii_uppercase(), "seed {seed}");
    }
}

#[test]
fn an_output_slower_than_the_linger_loses_nothing() {
    let mut bench = Bench::new();
    bench.serve(Duration::ZERO, |domain, reader, writer| {
        capitalize(domain, reader, writer, Duration::ZERO)
    });
    let ended = bench.connect_to(args(), vec![Step::Bytes(letters(20_000))], |output| {
        (output.pause, output.most) = (Duration::from_secs(2), 700);
    });
    assert_eq!(ended.result, Ok(()));
    assert!(ended.output == letters(20_000).to_ascii_uppercase());
}

#[test]
fn without_a_linger_it_still_waits_for_the_echo() {
    let mut bench = Bench::new();
    let thinking = Duration::from_secs(5);
    bench.serve(Duration::ZERO, move |domain, reader, writer| {
        capitalize(domain, reader, writer, thinking)
    });
    let mut args = args();
    args.linger = Some(0);
    let ended = bench.connect(args, vec![Step::Bytes(b"x".into())]);
    assert_eq!((ended.result, ended.output), (Ok(()), b"X".to_vec()));
}

#[test]
fn empty_input_ends_within_its_round_trips() {
    let mut bench = Bench::new();
    bench.serve(Duration::ZERO, |domain, reader, writer| {
        capitalize(domain, reader, writer, Duration::ZERO)
    });
    let ended = bench.connect(args(), Vec::new());
    assert_eq!((ended.result, ended.output), (Ok(()), Vec::new()));
    assert!(ended.took < Duration::from_millis(10), "{:?}", ended.took);
}

#[test]
fn a_server_that_says_goodbye_ends_it_well() {
    let mut bench = Bench::new();
    bench.serve(Duration::ZERO, |_, mut reader, mut writer| async move {
        let mut name = [0; 64];
        let count = reader.read(&mut name).await.unwrap();
        writer.write_all(&[b"bye, ", &name[..count]].concat()).await.unwrap();
    });
    let ended = bench.connect(args(), vec![Step::Bytes(b"dom0\n".into()), Step::Forever]);
    assert_eq!((ended.result, ended.output), (Ok(()), b"bye, dom0\n".to_vec()));
}

#[test]
fn the_server_is_waited_for_and_the_domain_found_by_its_name() {
    let mut bench = Bench::new();
    let boot = Duration::from_secs(7);
    bench.serve(boot, |domain, reader, writer| capitalize(domain, reader, writer, Duration::ZERO));
    let mut args = args();
    args.dial.place.domain = DomainArgument::Name("echo".into());
    let ended = bench.connect(args, vec![Step::Bytes(b"x".into())]);
    assert_eq!((ended.result, ended.output), (Ok(()), b"X".to_vec()));
    assert!(ended.took >= boot && ended.took < boot + Duration::from_secs(2), "{:?}", ended.took);
}

#[test]
fn verbose_tells_what_the_channel_is_made_of() {
    let mut bench = Bench::new();
    bench.serve(Duration::ZERO, |domain, reader, writer| {
        capitalize(domain, reader, writer, Duration::ZERO)
    });
    let mut args = args();
    args.verbose = true;
    let ended = bench.connect(args, Vec::new());
    let said = ended.said.join("\n");
    let lines: Vec<&str> = said.lines().collect();
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
    let (gntref, evtchn) = lines[0]
        .strip_prefix("Client initializing: Received gntref = ")
        .and_then(|rest| rest.split_once(", evtchn = "))
        .unwrap_or_else(|| panic!("{said}"));
    assert!(number(gntref) && number(evtchn), "{said}");
    assert_eq!(
        lines[1..4],
        ["Mapped the ring shared page:", "", "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"]
    );
    // As the server published it: orders 12 and 12, no client yet, which shall tell of writes; then
    // the two grants.
    assert!(lines[4].starts_with("0c 00 0c 00 02 01 81 00 "), "{said}");
    assert!(number(
        lines[5].strip_prefix("Correctly bound evtchn number ").unwrap_or_else(|| panic!("{said}"))
    ));
    assert_eq!(
        lines[6..],
        ["Connected to domain 1", "0 bytes sent, 0 received; the server closed first"]
    );
}

#[test]
fn a_server_that_goes_on_talking_is_listened_to() {
    let mut bench = Bench::new();
    bench.serve(Duration::ZERO, |domain, mut reader, mut writer| async move {
        for _ in 0..10 {
            writer.write_all(b"tick").await.unwrap();
            let next = Some(domain.now() + Duration::from_millis(300));
            // The client has no more to say, and yet waits.
            assert_eq!(reader.read(&mut [0; 1]).await.unwrap(), 0);
            deadline(&domain, next, std::future::pending::<()>()).await.unwrap_err();
        }
    });
    let ended = bench.connect(args(), Vec::new());
    assert_eq!((ended.result, ended.output), (Ok(()), b"tick".repeat(10)));
}
