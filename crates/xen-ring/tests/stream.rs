//! The always-notifying stream, end to end between two ends of one page.

mod common;

use common::TestMem;
use embedded_io_async::{Read, Write};
use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};
use xen_exec::Executor;
use xen_platform::{Channel, EventCounter, IndexMemory, Port};
use xen_ring::bytes::{Field, Layout};
use xen_ring::stream;

const UP: Layout = Layout { prod: 0, cons: 4, data: 16, size: 16 };
const DOWN: Layout = Layout { prod: 8, cons: 12, data: 32, size: 32 };

/// One end of an event channel; the other end is a second value over the same two counters.
struct TestChannel {
    own: Rc<EventCounter>,
    peer: Rc<EventCounter>,
    sent: Cell<u32>,
}

impl Channel for TestChannel {
    fn port(&self) -> Port {
        Port(1)
    }
    fn notify(&self) {
        self.sent.set(self.sent.get() + 1);
        self.peer.signal();
    }
    fn seen(&self) -> u32 {
        self.own.count()
    }
    fn poll_after(&self, seen: &mut u32, cx: &mut Context<'_>) -> Poll<()> {
        self.own.poll_after(seen, cx)
    }
    fn is_bound(&self) -> bool {
        true
    }
}

fn channels() -> (Rc<TestChannel>, Rc<TestChannel>) {
    let (a, b) = (Rc::new(EventCounter::new()), Rc::new(EventCounter::new()));
    let one = |own: &Rc<EventCounter>, peer: &Rc<EventCounter>| {
        Rc::new(TestChannel { own: own.clone(), peer: peer.clone(), sent: Cell::new(0) })
    };
    (one(&a, &b), one(&b, &a))
}

#[test]
fn bytes_cross_in_both_directions_from_indices_that_are_not_zero() {
    let page = Rc::new(TestMem::new(64));
    for (layout, start) in [(UP, u32::MAX - 20), (DOWN, 77)] {
        page.store(layout.prod, start);
        page.store(layout.cons, start);
    }
    let (near, far) = channels();
    let (mut near_rx, mut near_tx) = stream::split(page.clone(), near, DOWN, UP).unwrap();
    let (mut far_rx, mut far_tx) = stream::split(page, far, UP, DOWN).unwrap();
    let message: Vec<u8> = (0..500).map(|i| (i * 7) as u8).collect();

    let mut exec = Executor::new();
    let spawner = exec.spawner();
    spawner.spawn(async move {
        let mut buf = [0; 13];
        loop {
            let n = far_rx.read(&mut buf).await.unwrap();
            far_tx.write_all(&buf[..n]).await.unwrap();
        }
    });
    let sent = message.clone();
    let echoed = exec.run(
        async move {
            let writing = spawner.spawn(async move {
                near_tx.write_all(&sent).await.unwrap();
                near_tx.flush().await.unwrap();
            });
            let mut echoed = vec![0; 500];
            near_rx.read_exact(&mut echoed).await.unwrap();
            writing.join().await;
            echoed
        },
        |turn| assert_eq!(turn, xen_exec::Turn::Busy, "both sides sleep"),
    );
    assert_eq!(echoed, message);
}

#[test]
fn every_move_is_told_and_nothing_else_is() {
    let page = Rc::new(TestMem::new(64));
    let (near, far) = channels();
    let (_, mut near_tx) = stream::split(page.clone(), near.clone(), DOWN, UP).unwrap();
    let (mut far_rx, _) = stream::split(page, far.clone(), UP, DOWN).unwrap();
    let mut buf = [0; 10];
    assert_eq!(far_rx.try_read(&mut buf), Ok(0));
    assert_eq!(far.sent.get(), 0);
    assert_eq!(near_tx.try_write(&[1; 20]), Ok(16));
    assert_eq!(near_tx.try_write(&[1; 20]), Ok(0));
    assert_eq!(near.sent.get(), 1);
    assert_eq!(far_rx.try_read(&mut buf), Ok(10));
    assert_eq!(far.sent.get(), 1);
}

#[test]
fn a_page_that_cannot_be_true_is_refused() {
    let page = Rc::new(TestMem::new(64));
    page.store(DOWN.prod, 33);
    let error = stream::split(page, channels().0, DOWN, UP).err().unwrap();
    assert_eq!((error.field, error.prod, error.size), (Field::Prod, 33, 32));
}
