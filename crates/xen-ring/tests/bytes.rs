//! The byte ring against a queue as its model, and against hostile indices.

mod common;

use common::TestMem;
use proptest::prelude::*;
use std::collections::VecDeque;
use xen_platform::{IndexMemory, SharedMem};
use xen_ring::Piece;
use xen_ring::bytes::{Consumer, Corrupt, Fault, Field, Layout, Producer};

const RING: Layout = Layout { prod: 4, cons: 0, data: 16, size: 64 };

/// A page whose indices both are `start`; the bytes around the ring are 0xee.
fn page(start: u32) -> TestMem {
    let page = TestMem::new(96);
    page.write(0, &[0xee; 96]);
    page.store(RING.prod, start);
    page.store(RING.cons, start);
    page
}

/// Starting indices, half of them so late that they wrap within the test.
fn start() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), (0u32..300).prop_map(|before| 0u32.wrapping_sub(before))]
}

proptest! {
    #[test]
    fn writes_and_reads_are_those_of_a_queue(
        start in start(),
        steps in prop::collection::vec((any::<bool>(), any::<bool>(), 0usize..100), 1..60),
    ) {
        let page = page(start);
        let (mut producer, mut consumer) = (Producer::new(RING, start), Consumer::new(RING, start));
        let mut model = VecDeque::new();
        let mut next = 0u8;
        for (write, all, len) in steps {
            let most = if write { 64 - model.len() } else { model.len() };
            // All or nothing, or what can be.
            let expected = if all && len > most { 0 } else { len.min(most) };
            if write {
                let from: Vec<u8> = (0..len).map(|i| next.wrapping_add(i as u8)).collect();
                if all {
                    prop_assert_eq!(producer.write_all(&page, &page, &from), Ok(len <= most));
                } else {
                    prop_assert_eq!(producer.write(&page, &page, &from), Ok(expected));
                }
                model.extend(&from[..expected]);
                next = next.wrapping_add(expected as u8);
            } else {
                let mut to = vec![0; len];
                if all {
                    prop_assert_eq!(consumer.read_all(&page, &page, &mut to), Ok(len <= most));
                } else {
                    prop_assert_eq!(consumer.read(&page, &page, &mut to), Ok(expected));
                }
                prop_assert_eq!(&to[..expected], model.drain(..expected).collect::<Vec<_>>());
                let rest = to[expected..].iter().all(|&b| b == 0);
                prop_assert!(rest, "copied what it did not count");
            }
            prop_assert_eq!(consumer.available(&page).unwrap(), model.len());
            prop_assert_eq!(producer.space(&page).unwrap(), 64 - model.len());
            prop_assert_eq!(producer.is_empty(&page).unwrap(), model.is_empty());
        }
        let mut all = [0; 96];
        page.read(0, &mut all);
        let outside = all[8..16].iter().chain(&all[80..]).all(|&b| b == 0xee);
        prop_assert!(outside, "wrote outside the ring");
    }

    #[test]
    fn any_producer_index_is_taken_or_refused_as_it_should(
        start in start(), good in 0u32..=64, bad in any::<u32>(),
    ) {
        let page = page(start);
        let mut consumer = Consumer::new(RING, start);
        page.store(RING.prod, start.wrapping_add(good));
        prop_assert_eq!(consumer.available(&page).unwrap(), good as usize);
        let prod = start.wrapping_add(bad);
        page.store(RING.prod, prod);
        let mut to = [0x55; 64];
        let got = consumer.read(&page, &page, &mut to);
        let field = Field::Prod;
        let corrupt = |fault| Err(Corrupt { field, fault, prod, cons: start, size: 64 });
        let moved_back = corrupt(Fault::Backwards { from: start.wrapping_add(good) });
        match bad {
            0..=64 if bad >= good => prop_assert_eq!(got, Ok(bad as usize)),
            0..=64 => prop_assert_eq!(got, moved_back),
            _ => prop_assert_eq!(got, corrupt(Fault::Overfull)),
        }
        let untouched = to == [0x55; 64] && page.load(RING.cons) == start;
        prop_assert!(got.is_ok() || untouched, "copied all the same");
    }

    #[test]
    fn any_consumer_index_is_taken_or_refused_as_it_should(
        start in start(), taken in 0u32..=64, bad in any::<u32>(),
    ) {
        let page = page(start);
        let mut producer = Producer::new(RING, start);
        prop_assert_eq!(producer.write(&page, &page, &[1; 64]), Ok(64));
        let prod = start.wrapping_add(64);
        page.store(RING.cons, start.wrapping_add(taken));
        prop_assert_eq!(producer.space(&page).unwrap(), taken as usize);
        let cons = start.wrapping_add(bad);
        page.store(RING.cons, cons);
        let got = producer.write(&page, &page, &[2; 100]);
        let corrupt = |fault| Err(Corrupt { field: Field::Cons, fault, prod, cons, size: 64 });
        let moved_back = corrupt(Fault::Backwards { from: start.wrapping_add(taken) });
        match bad {
            0..=64 if bad >= taken => prop_assert_eq!(got, Ok(bad as usize)),
            0..=64 => prop_assert_eq!(got, moved_back),
            _ => prop_assert_eq!(got, corrupt(Fault::Overfull)),
        }
        prop_assert!(got.is_ok() || page.load(RING.prod) == prod, "published all the same");
    }

    #[test]
    fn resuming_takes_up_whatever_can_be_true(
        prod in start(),
        used in prop_oneof![0u32..70, any::<u32>()],
    ) {
        let page = page(0);
        let cons = prod.wrapping_sub(used);
        page.store(RING.prod, prod);
        page.store(RING.cons, cons);
        let corrupt = |field| Corrupt { field, fault: Fault::Overfull, prod, cons, size: 64 };
        let producer = Producer::resume(RING, &page);
        let consumer = Consumer::resume(RING, &page);
        if used <= 64 {
            prop_assert_eq!(producer.unwrap().space(&page).unwrap(), 64 - used as usize);
            prop_assert_eq!(consumer.unwrap().available(&page).unwrap(), used as usize);
        } else {
            prop_assert_eq!(producer.unwrap_err(), corrupt(Field::Cons));
            prop_assert_eq!(consumer.unwrap_err(), corrupt(Field::Prod));
        }
    }
}

#[test]
fn a_peer_that_overwrites_our_index_changes_nothing() {
    let page = page(0);
    let (mut producer, mut consumer) = (Producer::new(RING, 0), Consumer::new(RING, 0));
    assert_eq!(producer.write(&page, &page, b"abc"), Ok(3));
    page.store(RING.prod, 3000);
    assert_eq!(producer.write(&page, &page, b"def"), Ok(3));
    assert_eq!(page.load(RING.prod), 6);
    let mut to = [0; 4];
    assert_eq!(consumer.read(&page, &page, &mut to), Ok(4));
    page.store(RING.cons, 0);
    assert_eq!(consumer.read(&page, &page, &mut to), Ok(2));
    assert_eq!(page.load(RING.cons), 6);
    assert_eq!(&to[..2], b"ef");
}

#[test]
fn the_error_says_what_was_found() {
    let page = page(0);
    page.store(RING.prod, 65);
    let error = Consumer::new(RING, 0).available(&page).unwrap_err();
    let text = "producer index is wrong: producer 0x00000041 and consumer 0x00000000 are 65 bytes \
                apart in a ring of 64";
    assert_eq!(error.to_string(), text);
}

/// The other ring of a pair, in the same page.
const ANSWERS: Layout = Layout { prod: 84, cons: 80, data: 96, size: 256 };

proptest! {
    #[test]
    fn a_transfer_is_a_read_and_a_write_of_what_fits(
        starts in (start(), start()),
        steps in prop::collection::vec((0usize..=64, 0usize..100, 0usize..300), 1..60),
    ) {
        let page = TestMem::new(384);
        page.write(0, &[0xee; 384]);
        for (layout, start) in [(RING, starts.0), (ANSWERS, starts.1)] {
            page.store(layout.prod, start);
            page.store(layout.cons, start);
        }
        let mut asker = Producer::new(RING, starts.0);
        let mut consumer = Consumer::new(RING, starts.0);
        let mut producer = Producer::new(ANSWERS, starts.1);
        let mut answered = Consumer::new(ANSWERS, starts.1);
        let (mut asked, mut answers) = (VecDeque::new(), VecDeque::new());
        let mut next = 0u8;
        for (write, most, read) in steps {
            let from: Vec<u8> = (0..write).map(|i| next.wrapping_add(i as u8)).collect();
            let written = asker.write(&page, &page, &from).unwrap();
            asked.extend(&from[..written]);
            next = next.wrapping_add(written as u8);
            let mut invert = |piece: Piece<'_>| {
                let change = |bytes: &mut [u8]| bytes.iter_mut().for_each(|byte| *byte = !*byte);
                piece.move_through(0, &mut [0; 10], change);
            };
            let moved = consumer.transfer(&mut producer, &page, (&page, &page), most, &mut invert);
            let expected = most.min(asked.len()).min(256 - answers.len());
            prop_assert_eq!(moved, Ok(expected));
            answers.extend(asked.drain(..expected).map(|byte: u8| !byte));
            prop_assert_eq!(asker.space(&page).unwrap(), 64 - asked.len());
            prop_assert_eq!(answered.available(&page).unwrap(), answers.len());
            let mut to = vec![0; read.min(answers.len())];
            answered.read(&page, &page, &mut to).unwrap();
            prop_assert_eq!(&to, &answers.drain(..to.len()).collect::<Vec<_>>());
        }
        let mut all = [0; 384];
        page.read(0, &mut all);
        let outside = all[8..16].iter().chain(&all[88..96]).chain(&all[352..]);
        prop_assert!(outside.into_iter().all(|&b| b == 0xee), "wrote outside the rings");
    }

    #[test]
    fn a_transfer_moves_nothing_if_an_index_is_wrong(bad in 300u32..u32::MAX - 300) {
        for (at, field) in [(RING.prod, Field::Prod), (ANSWERS.cons, Field::Cons)] {
            let page = TestMem::new(384);
            let mut asker = Producer::new(RING, 0);
            asker.write(&page, &page, &[1; 64]).unwrap();
            let (mut consumer, mut producer) = (Consumer::new(RING, 0), Producer::new(ANSWERS, 0));
            page.store(at, bad);
            let moved = consumer.transfer(&mut producer, &page, (&page, &page), 64, &mut |_| ());
            prop_assert_eq!(moved.unwrap_err().field, field);
            prop_assert_eq!((page.load(RING.cons), page.load(ANSWERS.prod)), (0, 0));
        }
    }
}

#[test]
#[should_panic(expected = "an empty buffer")]
fn an_empty_buffer_is_refused_and_not_waited_for() {
    let page = TestMem::new(384);
    let mut asker = Producer::new(RING, 0);
    asker.write(&page, &page, &[1; 3]).unwrap();
    let (mut consumer, mut producer) = (Consumer::new(RING, 0), Producer::new(ANSWERS, 0));
    let mut mover = |piece: Piece<'_>| piece.move_through(0, &mut [], |_| ());
    let _ = consumer.transfer(&mut producer, &page, (&page, &page), 3, &mut mover);
}
