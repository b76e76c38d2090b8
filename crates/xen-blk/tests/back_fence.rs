//! Old writes never reach the disk behind newer ones, and writes behind a failed flush are never
//! taken for durable.

mod back_common;

use back_common::*;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use xen_abi::blkif::{RSP_ERROR, RSP_OKAY};
use xen_abi::xenbus::State;
use xen_blk::back::storage::{Error, Info};
use xen_blk::back::{self, Config, End, Ram, Storage};
use xen_blk::front;
use xen_blk::protocol::wire::{Op, RawRequest};
use xen_blk::toolstack;
use xen_platform::{EventCounter, SharedMem, sleep};
use xen_sim::{Operation, Reason};

/// A storage whose writes are done by other threads: to drop the future of a write does not stop
/// it. Held writes are done once they are released.
struct Threaded {
    ram: Ram,
    host: Host,
    held: Cell<bool>,
    released: EventCounter,
    flush_fails: Cell<bool>,
    flushes: Cell<u32>,
    log: RefCell<Vec<u8>>,
}

impl Threaded {
    fn start(host: &Host) -> Rc<Threads> {
        Rc::new(Threads(Rc::new(Threaded {
            ram: Ram::with_sectors(64),
            host: host.clone(),
            held: Cell::new(false),
            released: EventCounter::new(),
            flush_fails: Cell::new(false),
            flushes: Cell::new(0),
            log: RefCell::default(),
        })))
    }

    fn release(&self) {
        self.held.set(false);
        self.released.signal();
    }
}

/// The handle of a [`Threaded`] storage that its threads share.
struct Threads(Rc<Threaded>);

impl Storage for Threads {
    fn info(&self) -> Info {
        self.0.ram.info()
    }
    async fn read(&self, sector: u64, to: &mut [u8]) -> Result<(), Error> {
        self.0.ram.read(sector, to).await
    }
    async fn write(&self, sector: u64, from: &[u8]) -> Result<(), Error> {
        let (storage, bytes, held) = (self.0.clone(), from.to_vec(), self.0.held.get());
        let host = self.0.host.clone();
        let thread = host.spawner().spawn(&host.domain, async move {
            let mut seen = storage.released.count();
            if held {
                std::future::poll_fn(|cx| storage.released.poll_after(&mut seen, cx)).await;
            }
            storage.log.borrow_mut().push(bytes[0]);
            storage.ram.write(sector, &bytes).await
        });
        thread.join().await
    }
    async fn flush(&self) -> Result<(), Error> {
        self.0.flushes.set(self.0.flushes.get() + 1);
        match self.0.flush_fails.get() {
            true => Err(Error::Failed),
            false => Ok(()),
        }
    }
    async fn discard(&self, sector: u64, count: u64, secure: bool) -> Result<(), Error> {
        self.0.ram.discard(sector, count, secure).await
    }
}

fn page(raw: &RawFront, op: Op, sector: u64) -> RawRequest {
    RawRequest::Direct { op, sector, segments: vec![raw.segment(0, 0, 7)] }
}

fn bare(op: Op) -> RawRequest {
    RawRequest::Direct { op, sector: 0, segments: vec![] }
}

/// Has a frontend leave while a write of it is held, in the way of `leave`, and another one connect
/// and write to the same place: the newer data must stay.
fn old_write_comes_first(leave: impl AsyncFn(RawFront) + 'static) {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let storage = Threaded::start(&dom0);
        let config = Config::default().with(|config| config.drain_timeout = Duration::from_secs(3));
        let served = dom0.plug(XVDA, &storage, config).await;
        let mut raw = RawFront::connect(&guest, XVDA, Layout::default()).await;
        raw.data.write(0, &[1; 4096]);
        storage.0.held.set(true);
        let write = page(&raw, Op::Write, 0);
        raw.ask(&write);
        guest.moment().await;
        storage.0.held.set(false);
        leave(raw).await;

        let later = storage.0.clone();
        dom0.spawner().spawn(&dom0.domain, async move {
            sleep(&later.host.domain, Duration::from_secs(20)).await;
            assert_eq!(later.log.borrow()[..], [0u8; 0], "a newer write passed the old one");
            later.release();
        });
        let (disk, end) = guest.attach(XVDA, &front::Config::default()).await;
        disk.write(0, &[2; 4096]).await.unwrap();
        disk.flush().await.unwrap();
        sleep(&guest.domain, Duration::from_secs(30)).await;
        let mut bytes = [0; 4096];
        disk.read(0, &mut bytes).await.unwrap();
        assert_eq!(bytes, [2; 4096], "the old write came after the newer one");
        assert_eq!(storage.0.log.borrow()[..], [1, 2]);
        disk.close().await;
        end.join().await;
        served.unplug().await;
    });
}

#[test]
fn old_write_ends_before_a_closed_frontend_connects_again() {
    old_write_comes_first(async |raw| {
        raw.set_state(State::CLOSING);
        raw.until(State::CLOSING).await;
        raw.set_state(State::CLOSED);
        raw.until(State::CLOSED).await;
        raw.set_state(State::INITIALISING);
    });
}

#[test]
fn old_write_ends_before_a_restarted_frontend_connects() {
    old_write_comes_first(async |raw| raw.set_state(State::INITIALISING));
}

#[test]
fn old_write_ends_before_a_frontend_connects_after_a_breach() {
    old_write_comes_first(async |raw| {
        raw.break_index();
        raw.until(State::CLOSING).await;
        raw.set_state(State::CLOSED);
        raw.until(State::CLOSED).await;
        raw.set_state(State::INITIALISING);
    });
}

#[test]
fn disk_with_unfinished_writes_ends_with_an_error() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let storage = Threaded::start(&dom0);
        let config = Config::default().with(|config| config.drain_timeout = Duration::from_secs(3));
        let served = dom0.plug(XVDA, &storage, config).await;
        let mut raw = RawFront::connect(&guest, XVDA, Layout::default()).await;
        storage.0.held.set(true);
        let write = page(&raw, Op::Write, 0);
        raw.ask(&write);
        guest.moment().await;
        served.handle.force();
        let error = served.result().await.unwrap_err();
        assert!(
            matches!(error, back::Error::Unfinished { operations: 1, end: End::Forced, .. }),
            "{error}"
        );
        storage.0.release();
        guest.moment().await;
        toolstack::remove(&dom0.store, &device(XVDA)).await.unwrap();
    });
}

#[test]
fn local_cause_is_not_blamed_on_the_frontend() {
    for kind in [Operation::Map, Operation::Connect] {
        let mut bench = Bench::new();
        let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
        bench.sim.world().fail_nth_for(DOM0, kind, 1, Reason::OutOfMemory);
        bench.run(async move {
            let storage = Threaded::start(&dom0);
            let served = dom0.plug(XVDA, &storage, Config::default()).await;
            let raw = RawFront::publish(&guest, XVDA, Layout::default());
            raw.until(State::CLOSED).await;
            let handle = served.handle.clone();
            let error = served.result().await.unwrap_err();
            assert!(matches!(error, back::Error::Platform { .. }), "{kind:?}: {error}");
            assert!(error.to_string().contains("no memory left"), "{error}");
            assert_eq!((handle.broken(), handle.stats().broken), (None, 0));
            assert!(raw.error().contains("the backend cannot connect"), "{}", raw.error());
            toolstack::remove(&dom0.store, &device(XVDA)).await.unwrap();
        });
    }
}

#[test]
fn flush_failure_fails_later_writes_and_flushes() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let storage = Threaded::start(&dom0);
        let served = dom0.plug(XVDA, &storage, Config::default()).await;
        let mut raw = RawFront::connect(&guest, XVDA, Layout::default()).await;
        assert_eq!(raw.write(0, &[1; 4096]).await, RSP_OKAY);
        storage.0.flush_fails.set(true);
        assert_eq!(raw.status(&bare(Op::Flush)).await, RSP_ERROR);
        // The pages that could not be written are clean now: the next flush would succeed.
        storage.0.flush_fails.set(false);
        assert_eq!(raw.status(&bare(Op::Flush)).await, RSP_ERROR);
        assert_eq!(raw.status(&bare(Op::Barrier)).await, RSP_ERROR);
        assert_eq!(raw.write(8, &[2; 4096]).await, RSP_ERROR);
        let discard = RawRequest::Discard { sector: 0, count: 8, secure: false };
        assert_eq!(raw.status(&discard).await, RSP_ERROR);
        assert_eq!(raw.read(0, 4096).await, [1; 4096], "reads go on");
        assert_eq!(storage.0.log.borrow()[..], [1], "nothing is written behind it");
        raw.close().await;

        // A new connection does not make it good, and a new service of the disk does.
        guest.xs.set(&format!("{}/state", device(XVDA).front_path()), "1");
        guest.moment().await;
        let mut raw = RawFront::connect(&guest, XVDA, Layout::default()).await;
        assert_eq!(raw.status(&bare(Op::Flush)).await, RSP_ERROR);
        raw.close().await;
        served.unplug().await;
        let served = dom0.plug(XVDA, &storage, Config::default()).await;
        let mut raw = RawFront::connect(&guest, XVDA, Layout::default()).await;
        assert_eq!(raw.write(8, &[2; 4096]).await, RSP_OKAY);
        assert_eq!(raw.status(&bare(Op::Flush)).await, RSP_OKAY);
        raw.close().await;
        served.unplug().await;
    });
}
