//! Operations of the storage: side by side, merged, in the order that barriers and flushes demand,
//! and the errors of a storage.

mod back_common;

use back_common::*;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use xen_abi::blkif::{RSP_EOPNOTSUPP, RSP_ERROR, RSP_OKAY};
use xen_abi::xenbus::State;
use xen_blk::back::storage::{Error, Info};
use xen_blk::back::{Config, End, Pages, Ram, Storage};
use xen_blk::front;
use xen_blk::protocol::wire::{Op, RawRequest};
use xen_blk::toolstack;
use xen_platform::{EventCounter, PAGE_SIZE};

/// Notes what begins and ends; holds everything until it is let go.
struct Slow {
    ram: Ram,
    log: RefCell<Vec<String>>,
    open: Cell<bool>,
    opened: EventCounter,
    /// Operations that touch this sector fail.
    bad: Cell<Option<u64>>,
    /// Reads and writes are done at once where that can be.
    now: Cell<bool>,
}

impl Slow {
    fn new(open: bool) -> Rc<Slow> {
        let (ram, log, bad) = (Ram::with_sectors(1024), RefCell::default(), Cell::new(None));
        Rc::new(Slow {
            ram,
            log,
            open: Cell::new(open),
            opened: EventCounter::new(),
            bad,
            now: Cell::new(false),
        })
    }

    fn let_go(&self) {
        self.open.set(true);
        self.opened.signal();
    }

    fn take_log(&self) -> Vec<String> {
        self.log.take()
    }

    /// Does it at once, if it is to be so.
    fn act_now(
        &self,
        what: &str,
        sector: u64,
        pages: &mut dyn Pages,
        work: impl FnOnce(&mut dyn Pages) -> Option<Result<(), Error>>,
    ) -> Option<Result<(), Error>> {
        if !self.now.get() {
            return None;
        }
        let count = pages.left() as u64 / 512;
        self.log.borrow_mut().push(format!("!{what}{sector}+{count}"));
        match self.bad.get() {
            Some(bad) if (sector..sector + count).contains(&bad) => Some(Err(Error::Failed)),
            _ => work(pages),
        }
    }

    async fn act(
        &self,
        what: String,
        sector: u64,
        count: u64,
        work: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        self.log.borrow_mut().push(format!("+{what}"));
        while !self.open.get() {
            let mut seen = self.opened.count();
            std::future::poll_fn(|cx| self.opened.poll_after(&mut seen, cx)).await;
        }
        self.log.borrow_mut().push(format!("-{what}"));
        match self.bad.get() {
            Some(bad) if (sector..sector + count).contains(&bad) => Err(Error::Failed),
            _ => work.await,
        }
    }
}

impl Storage for Slow {
    fn info(&self) -> Info {
        self.ram.info()
    }
    async fn read(&self, sector: u64, to: &mut [u8]) -> Result<(), Error> {
        let count = to.len() as u64 / 512;
        self.act(format!("r{sector}+{count}"), sector, count, self.ram.read(sector, to)).await
    }
    async fn write(&self, sector: u64, from: &[u8]) -> Result<(), Error> {
        let count = from.len() as u64 / 512;
        self.act(format!("w{sector}+{count}"), sector, count, self.ram.write(sector, from)).await
    }
    fn read_now(&self, sector: u64, to: &mut dyn Pages) -> Option<Result<(), Error>> {
        self.act_now("r", sector, to, |to| self.ram.read_now(sector, to))
    }
    fn write_now(&self, sector: u64, from: &mut dyn Pages) -> Option<Result<(), Error>> {
        self.act_now("w", sector, from, |from| self.ram.write_now(sector, from))
    }
    async fn flush(&self) -> Result<(), Error> {
        self.act("f".into(), 0, 0, self.ram.flush()).await
    }
    async fn discard(&self, sector: u64, count: u64, secure: bool) -> Result<(), Error> {
        if secure {
            return Err(Error::Unsupported);
        }
        self.act(
            format!("d{sector}+{count}"),
            sector,
            count,
            self.ram.discard(sector, count, secure),
        )
        .await
    }
}

/// Runs a raw frontend against a slow storage, which is closed at first.
fn with_slow(config: Config, play: impl AsyncFn(&mut RawFront, &Slow) + 'static) {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let slow = Slow::new(false);
        let served = dom0.plug(XVDA, &slow, config).await;
        let mut raw = RawFront::connect(&guest, XVDA, Layout::default()).await;
        play(&mut raw, &slow).await;
        slow.let_go();
        raw.close().await;
        served.unplug().await;
    });
}

fn pages(raw: &RawFront, op: Op, sector: u64, count: usize) -> RawRequest {
    RawRequest::Direct {
        op,
        sector,
        segments: (0..count).map(|page| raw.segment(page, 0, 7)).collect(),
    }
}

#[test]
fn requests_run_side_by_side_and_neighbours_merge() {
    with_slow(Config::default(), async |raw: &mut RawFront, slow: &Slow| {
        // Shown all at once: the backend hears of them only together.
        for (op, sector, count) in [
            (Op::Read, 0, 2),
            (Op::Read, 16, 1),
            (Op::Read, 24, 4),
            (Op::Write, 56, 1),
            (Op::Write, 64, 1),
            (Op::Read, 72, 1),
            (Op::Write, 100, 1),
            (Op::Write, 92, 1),
        ] {
            let raw_request =
                xen_blk::protocol::wire::encode(raw.abi, sector, &pages(raw, op, sector, count));
            raw.front.put(&raw.ring, &raw_request);
        }
        raw.show();
        raw.host.moment().await;
        assert_eq!(slow.take_log(), ["+r0+56", "+w56+16", "+r72+8", "+w100+8", "+w92+8"]);
        slow.let_go();
        for id in [0, 16, 24, 56, 64, 72, 100, 92] {
            let response = raw.response().await;
            assert_eq!((response.id, response.status), (id, RSP_OKAY));
        }
        assert_eq!(slow.take_log().len(), 5);
    });
}

#[test]
fn bad_sector_fails_only_its_request() {
    with_slow(Config::default(), async |raw: &mut RawFront, slow: &Slow| {
        slow.let_go();
        for (op, now) in
            [(Op::Read, false), (Op::Write, false), (Op::Read, true), (Op::Write, true)]
        {
            slow.now.set(now);
            slow.bad.set(Some(13));
            for sector in [0, 8, 16] {
                let raw_request =
                    xen_blk::protocol::wire::encode(raw.abi, sector, &pages(raw, op, sector, 1));
                raw.front.put(&raw.ring, &raw_request);
            }
            raw.show();
            for (id, status) in [(0, RSP_OKAY), (8, RSP_ERROR), (16, RSP_OKAY)] {
                let response = raw.response().await;
                assert_eq!((response.id, response.status), (id, status), "{op:?}");
            }
        }
        slow.bad.set(None);
        let secure = RawRequest::Discard { sector: 0, count: 8, secure: true };
        assert_eq!(raw.status(&secure).await, RSP_EOPNOTSUPP, "the storage finds that out late");
    });
}

#[test]
fn barrier_is_not_passed_and_flush_comes_last() {
    with_slow(Config::default(), async |raw: &mut RawFront, slow: &Slow| {
        for body in [
            pages(raw, Op::Write, 0, 1),
            pages(raw, Op::Barrier, 100, 1),
            pages(raw, Op::Write, 200, 1),
            pages(raw, Op::Read, 0, 1),
            pages(raw, Op::Flush, 0, 0),
            pages(raw, Op::Write, 300, 1),
        ] {
            raw.ask(&body);
        }
        raw.host.moment().await;
        assert_eq!(slow.take_log(), ["+w0+8"]);
        slow.let_go();
        for _ in 0..6 {
            assert_eq!(raw.response().await.status, RSP_OKAY);
        }
        let log = slow.take_log();
        let at = |what: &str| {
            log.iter()
                .position(|entry| entry == what)
                .unwrap_or_else(|| panic!("{what} in {log:?}"))
        };
        // The write before ends, then: flush, data, flush; only then what comes after.
        assert_eq!(log[..7], ["-w0+8", "+f", "-f", "+w100+8", "-w100+8", "+f", "-f"]);
        assert!(at("+w200+8") > 6 && at("+r0+8") > 6);
        let flush = log.iter().rposition(|entry| entry == "+f").unwrap();
        assert!(flush > at("-w200+8") && flush > at("-r0+8"), "{log:?}");
    });
}

#[test]
fn immediate_operation_passes_no_barrier() {
    with_slow(Config::default(), async |raw: &mut RawFront, slow: &Slow| {
        let read = pages(raw, Op::Read, 0, 1);
        raw.ask(&read);
        raw.host.moment().await;
        slow.now.set(true);
        let now = [(Op::Write, 8, 2), (Op::Write, 24, 1), (Op::Read, 8, 1)];
        for body in now.map(|(op, sector, count)| pages(raw, op, sector, count)) {
            raw.front.put(&raw.ring, &xen_blk::protocol::wire::encode(raw.abi, 1, &body));
        }
        raw.show();
        raw.host.moment().await;
        assert_eq!(slow.take_log(), ["+r0+8", "!w8+24", "!r8+8"], "beside what takes time");
        for body in [pages(raw, Op::Barrier, 100, 1), pages(raw, Op::Write, 200, 1)] {
            raw.front.put(&raw.ring, &xen_blk::protocol::wire::encode(raw.abi, 2, &body));
        }
        raw.show();
        raw.host.moment().await;
        let later = pages(raw, Op::Read, 200, 1);
        raw.ask(&later);
        raw.host.moment().await;
        assert_eq!(slow.take_log(), [""; 0], "not before the barrier");
        slow.let_go();
        for _ in 0..7 {
            assert_eq!(raw.response().await.status, RSP_OKAY);
        }
        let log = slow.take_log();
        assert_eq!(log[..7], ["-r0+8", "+f", "-f", "+w100+8", "-w100+8", "+f", "-f"], "{log:?}");
        // What waited has its data in private memory by then.
        assert!(log[7..].iter().all(|entry| !entry.starts_with('!')), "{log:?}");
    });
}

#[test]
fn busy_ends_need_no_events() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let ram = Rc::new(Ram::with_sectors(1024));
        let served = dom0.plug(XVDA, &ram, Config::default()).await;
        let (disk, end) = guest.attach(XVDA, &front::Config::default()).await;
        let mut bytes = [0; 4096];
        for at in 0..100 {
            disk.read(at * 8, &mut bytes).await.unwrap();
        }
        let events = served.handle.stats().events_received;
        assert!(events < 10, "{events} events for 100 reads");
        let answered = disk.stats().events_received;
        assert!(answered < 10, "{answered} events for 100 answers");
        // One that rests is waited for a few times and no more.
        for at in 0..20 {
            guest.moment().await;
            disk.read(at * 8, &mut bytes).await.unwrap();
        }
        let more = served.handle.stats().events_received - events;
        assert!(more >= 19, "{more} events after 20 rests");
        disk.close().await;
        end.join().await;
        served.unplug().await;
    });
}

#[test]
fn requests_taken_are_limited_by_memory() {
    let config = Config::default().with(|config| {
        config.memory = 3 * 11 * PAGE_SIZE;
        config.merge = 0;
    });
    with_slow(config, async |raw: &mut RawFront, slow: &Slow| {
        for number in 0..20 {
            let segments = vec![raw.segment(0, 0, 7); 11];
            raw.ask(&RawRequest::Direct { op: Op::Read, sector: number * 20, segments });
        }
        raw.host.moment().await;
        assert_eq!(slow.take_log().len(), 3);
        slow.let_go();
        for _ in 0..20 {
            assert_eq!(raw.response().await.status, RSP_OKAY);
        }
    });
}

#[test]
fn requests_in_flight_end_before_disk_closes() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let slow = Slow::new(false);
        let served = dom0.plug(XVDA, &slow, Config::default()).await;
        let mut raw = RawFront::connect(&guest, XVDA, Layout::default()).await;
        let write = pages(&raw, Op::Write, 0, 1);
        raw.ask(&write);
        raw.host.moment().await;
        served.handle.force();
        raw.host.moment().await;
        assert_eq!(raw.state_of_backend(), State::CONNECTED, "not before the write is done");
        slow.let_go();
        assert_eq!(raw.response().await.status, RSP_OKAY);
        assert_eq!(served.end().await, End::Forced);
        assert_eq!(slow.take_log(), ["+w0+8", "-w0+8", "+f", "-f"]);
        toolstack::remove(&dom0.store, &device(XVDA)).await.unwrap();
    });
}

#[test]
fn many_requests_need_few_events() {
    with_slow(Config::default(), async |raw: &mut RawFront, slow: &Slow| {
        slow.let_go();
        let world = raw.host.domain.world().clone();
        let before = world.notifies(DOM0);
        for _ in 0..10 {
            for number in 0..32u64 {
                let request = xen_blk::protocol::wire::encode(
                    raw.abi,
                    number,
                    &pages(raw, Op::Read, number * 16, 1),
                );
                raw.front.put(&raw.ring, &request);
            }
            raw.show();
            for _ in 0..32 {
                raw.response().await;
            }
        }
        let sent = world.notifies(DOM0) - before;
        assert!(sent <= 20, "{sent} events for 10 rings full");
    });
}
