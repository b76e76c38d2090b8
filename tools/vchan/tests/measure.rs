//! Ping and bench against echo servers that are good, mute, or wrong.

mod common;

use common::{Bench, DOM0, capitalize, place};
use embedded_io_async::{Read, Write};
use std::future::pending;
use std::time::Duration;
use tools_common::Progress;
use vchan::{BenchArguments, Code, Dial, Failure, PingArguments};

fn dial() -> Dial {
    Dial { place: place(), timeout: 10 }
}

fn ping_args(json: bool) -> PingArguments {
    PingArguments { dial: dial(), count: 3, interval: Duration::from_secs(1), size: 5000, json }
}

/// Runs `vchan ping` in dom0: its result, and what it printed.
fn ping(bench: &mut Bench, args: PingArguments) -> (Result<(), Failure>, String) {
    let (dom0, store) = bench.host(DOM0);
    bench.sim.run(async move {
        let mut printed = String::new();
        let print = |text: &str| {
            printed.push_str(text);
            Ok(())
        };
        (vchan::ping(&dom0, &store, &args, print).await, printed)
    })
}

#[derive(Default)]
struct Log {
    begun: Vec<(String, u64)>,
    at: u64,
    ended: bool,
}

impl Progress for Log {
    fn begin(&mut self, what: &str, steps: u64) {
        assert_eq!(
            self.begun.last().map_or(0, |(_, steps)| *steps),
            self.at,
            "the one before was finished"
        );
        self.begun.push((what.to_string(), steps));
        self.at = 0;
    }

    fn done(&mut self, steps: u64) {
        assert!(steps > self.at);
        self.at = steps;
    }

    fn end(&mut self) {
        self.ended = true;
    }
}

fn bench(bench: &mut Bench, json: bool) -> (Result<String, Failure>, Log) {
    let (dom0, store) = bench.host(DOM0);
    bench.sim.run(async move {
        let args = BenchArguments { dial: dial(), amount: 100_000, round_trips: 20, json };
        let mut log = Log::default();
        (vchan::bench(&dom0, &store, &args, &mut log).await, log)
    })
}

#[test]
fn round_trips_are_timed_one_by_one() {
    let mut bench = Bench::new();
    let thinking = Duration::from_micros(250);
    bench.serve(Duration::ZERO, move |domain, reader, writer| {
        capitalize(domain, reader, writer, thinking)
    });
    let (result, printed) = ping(&mut bench, ping_args(false));
    assert_eq!(result, Ok(()));
    let lines: Vec<&str> = printed.lines().collect();
    // 5000 bytes pass a ring of 4096 in two pieces.
    assert_eq!(lines[0], "5000 bytes from domain 1: seq=1 time=500.0 µs");
    assert_eq!(lines[2], "5000 bytes from domain 1: seq=3 time=500.0 µs");
    let summary = "min 500.0 µs, median 500.0 µs, p99 500.0 µs, max 500.0 µs";
    assert_eq!(lines[3..], [format!("3 round trips of 5000 bytes: {summary}")]);
}

#[test]
fn figures_for_scripts() {
    let mut bench = Bench::new();
    bench.serve(Duration::ZERO, |domain, reader, writer| {
        capitalize(domain, reader, writer, Duration::ZERO)
    });
    let (result, printed) = ping(&mut bench, ping_args(true));
    let rtt = r#"{"count":3,"min_us":0.000,"median_us":0.000,"p99_us":0.000,"max_us":0.000}"#;
    assert_eq!((result, printed), (Ok(()), format!("{{\"bytes\":5000,\"rtt\":{rtt}}}\n")));
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for_for_ever() {
    let mut world = Bench::new();
    world.serve(Duration::ZERO, |_, _reader, _writer| pending());
    let (result, printed) = ping(&mut world, ping_args(false));
    let failure = result.unwrap_err();
    assert!(
        failure.code == Code::Missing && failure.text.starts_with("nothing came back for 10s"),
        "{failure}"
    );
    assert_eq!(printed, "");
    world.sim.world().destroy(common::GUEST);
}

#[test]
fn a_server_that_is_no_echo_server_is_found_out() {
    let serve = |world: &Bench| {
        world.serve(Duration::ZERO, |_, mut reader, mut writer| async move {
            let mut chunk = [0; 100];
            while let Ok(count @ 1..) = reader.read(&mut chunk).await {
                chunk[..count].reverse();
                if writer.write_all(&chunk[..count]).await.is_err() {
                    return;
                }
            }
        })
    };
    let mut world = Bench::new();
    serve(&world);
    let failure = ping(&mut world, ping_args(false)).0.unwrap_err();
    assert!(
        failure.code == Code::Protocol && failure.text.starts_with("byte 0 came back as"),
        "{failure}"
    );
    let mut world = Bench::new();
    serve(&world);
    let (result, log) = bench(&mut world, false);
    assert_eq!((result.unwrap_err().code, log.ended), (Code::Protocol, true));
}

#[test]
fn a_server_that_leaves_early_is_a_failure() {
    let mut world = Bench::new();
    world.serve(Duration::ZERO, |_, mut reader, _| async move {
        reader.read_exact(&mut [0; 100]).await.unwrap()
    });
    let failure = ping(&mut world, ping_args(false)).0.unwrap_err();
    assert_eq!(failure.code, Code::Other, "{failure}");
}

#[test]
fn every_size_is_measured_and_every_byte_comes_back() {
    for json in [false, true] {
        let mut world = Bench::with_seed(7);
        let thinking = Duration::from_micros(100);
        world.serve(Duration::ZERO, move |domain, reader, writer| {
            capitalize(domain, reader, writer, thinking)
        });
        let (result, log) = bench(&mut world, json);
        let text = result.unwrap();
        let expected = [
            ("messages of 64 B", 100_032),
            ("messages of 1 KiB", 100_352),
            ("messages of 4 KiB", 102_400),
            ("messages of 64 KiB", 131_072),
            ("messages of 1 MiB", 1 << 20),
            ("round trips of 64 B", 20),
        ];
        assert_eq!(log.begun, expected.map(|(what, steps)| (what.to_string(), steps)));
        assert!(log.ended && log.at == 20);
        if json {
            assert!(
                text.starts_with(r#"{"left":4096,"right":4096,"setup_us":"#)
                    && text.contains(r#","throughput":[{"size":64,"messages":1563,"#),
                "{text}"
            );
            assert!(text.contains(r#""rtt":{"count":20,"min_us":100.000,"#), "{text}");
        } else {
            assert!(text.starts_with("Echo through rings of 4096 and 4096 bytes"), "{text}");
            assert!(text.contains("Round trips of 64 B: min 100.0 µs"), "{text}");
            assert!(
                text.ends_with(&format!("  <       128 µs      20  {}\n", "#".repeat(40))),
                "{text}"
            );
        }
    }
}
