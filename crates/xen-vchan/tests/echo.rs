//! Bytes through a vchan, both ways at once, in all sizes and orders.

mod common;

use common::{Bench, DOM0, GUEST, pattern, server};
use embedded_io_async::{Read, Write};
use proptest::prelude::*;
use std::rc::Rc;
use xen_sim::Domain;
use xen_vchan::{Live, Offer, Order, Orders, Piece, Reader, Writer};

/// Upper-cases what comes, until the client leaves.
async fn capitalise(mut reader: Reader<Domain>, mut writer: Writer<Domain>, buffer: usize) {
    let mut buffer = vec![0; buffer];
    loop {
        let n = reader.read(&mut buffer).await.unwrap();
        if n == 0 {
            return;
        }
        buffer[..n].make_ascii_uppercase();
        writer.write_all(&buffer[..n]).await.unwrap();
    }
}

/// Parameters of one run.
#[derive(Clone, Debug)]
struct Run {
    seed: u64,
    orders: (u16, u16),
    start: u32,
    /// Bytes in all, in each write of the client, and in the buffers of the client's reader and of
    /// the server.
    total: usize,
    piece: usize,
    buffers: (usize, usize),
    answers: Answers,
}

/// The server's way to answer.
#[derive(Clone, Copy, Debug)]
enum Answers {
    /// It reads, and writes.
    Apart,
    /// The same, but one event stands for both.
    Held,
    /// From ring to ring.
    Direct,
}

/// A client writes and reads at the same time, in two tasks; the server answers in capitals.
fn echo(run: Run) {
    let mut bench = Bench::with_seed(run.seed);
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let spawner = bench.sim.spawner();
    let config = server(DOM0, run.orders);
    let (guest_process, dom0_process) = (guest.domain.clone(), dom0.domain.clone());
    let serving = bench.sim.spawn(&guest_process, async move {
        let offer =
            Offer::publish_from(&guest.domain, &guest.store, &config, run.start).await.unwrap();
        let connection = offer.accept().await.unwrap();
        connection.hold_events(matches!(run.answers, Answers::Held));
        let (reader, writer) = connection.split();
        match run.answers {
            Answers::Apart | Answers::Held => capitalise(reader, writer, run.buffers.1).await,
            Answers::Direct => {
                while connection.readable().await.unwrap() > 0 {
                    let mover = |piece: Piece<'_>| {
                        piece.move_through(0, &mut [0; 100], <[u8]>::make_ascii_uppercase)
                    };
                    assert_ne!(connection.echo(run.buffers.1, mover).await.unwrap(), 0);
                }
            }
        }
        connection.close().await.unwrap();
    });
    bench.run(async move {
        let connection = dom0.connect().await.unwrap();
        let (mut reader, mut writer) = connection.split();
        let sent = Rc::new(pattern(run.total));
        let message = sent.clone();
        let writing = spawner.spawn(&dom0_process, async move {
            for piece in message.chunks(run.piece) {
                writer.write_all(piece).await.unwrap();
            }
            writer.drained().await.unwrap();
        });
        let mut got = Vec::new();
        let mut buffer = vec![0; run.buffers.0];
        while got.len() < run.total {
            let n = reader.read(&mut buffer).await.unwrap();
            assert_ne!(n, 0, "the server left early");
            got.extend_from_slice(&buffer[..n]);
        }
        assert!(got == sent.to_ascii_uppercase(), "other bytes came back than were sent");
        writing.join().await;
        assert_eq!(connection.state(), Live::Connected);
        connection.close().await.unwrap();
        drop(reader);
        serving.join().await;
    });
}

fn orders() -> impl Strategy<Value = (u16, u16)> {
    let pair = (10u16..=20, 10u16..=20);
    pair.prop_filter("rings that fit", |&(left, right)| {
        Orders::new(Order::new(left).unwrap(), Order::new(right).unwrap()).is_ok()
    })
}

prop_compose! {
    fn runs()(
        seed: u64,
        orders in orders(),
        start in prop_oneof![any::<u32>(), (0..5000u32).prop_map(|before| 0u32.wrapping_sub(before))],
        total in 0usize..20_000,
        piece in 1usize..6000,
        buffers in (1usize..6000, 1usize..6000),
        answers in prop::sample::select(&[Answers::Apart, Answers::Held, Answers::Direct][..]),
    ) -> Run {
        // So that a run of tiny reads does not take for ever.
        let total = total.min(40 * piece.min(buffers.0).min(buffers.1));
        Run { seed, orders, start, total, piece, buffers, answers }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn what_is_written_comes_back_in_capitals(run in runs()) {
        echo(run);
    }
}

#[test]
fn every_pair_of_orders_works() {
    let all = (10..=20).flat_map(|left| (10..=20).map(move |right| (left, right)));
    let mut tried = 0;
    for (left, right) in all {
        if Orders::new(Order::new(left).unwrap(), Order::new(right).unwrap()).is_err() {
            continue;
        }
        tried += 1;
        // More than the smaller ring holds, so that it wraps.
        let total = (1usize << left.min(right)) + 700;
        echo(Run {
            seed: 1,
            orders: (left, right),
            start: 0,
            total,
            piece: 3000,
            buffers: (8000, 5000),
            answers: Answers::Apart,
        });
    }
    assert_eq!(tried, 11 * 11 - 4, "all but 10/10, 11/11, 10/20 and 20/10");
}

#[test]
fn indices_pass_the_end_of_their_32_bits() {
    for before in [1, 100, 1023, 1024, 1025, 3000] {
        let start = 0u32.wrapping_sub(before);
        echo(Run {
            seed: 0,
            orders: (10, 11),
            start,
            total: 10_000,
            piece: 900,
            buffers: (700, 800),
            answers: Answers::Apart,
        });
        echo(Run {
            seed: 0,
            orders: (12, 12),
            start,
            total: 10_000,
            piece: 900,
            buffers: (700, 800),
            answers: Answers::Apart,
        });
    }
}
