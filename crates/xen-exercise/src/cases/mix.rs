//! A mixed workload on all disks of the plan at once, checked on the way and at the end.

use super::{Context, Outcome, stream};
use crate::area::{Area, InFlight, Ledger, Span};
use crate::environment::{Device, Direction, Error, Io};
use crate::latency::{Latencies, Micros};
use crate::log::Json;
use crate::random::Random;
use crate::stamp::{SECTOR, Stamps};
use crate::tasks::{Boxed, try_join_all};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;
use xen_blk::front::{Config, Info};
use xen_blk::protocol::vdev;
use xen_platform::Time;

/// Time between two lines that tell how it goes.
const BEAT: Duration = Duration::from_secs(5);

/// Runs on all disks of the plan at the first one's turn.
pub async fn mix(cx: &mut Context<'_>) -> Outcome {
    let mut names = cx.plan.disks.clone();
    if names.is_empty() {
        names = cx.env.disks().await.into_iter().map(vdev::name).collect();
    }
    if names.first().is_some_and(|first| first != cx.name) {
        return Ok(format!("in the run of {}", names[0]));
    }
    cx.close().await?;
    let mut disks: Vec<(String, Rc<dyn Device>, Area)> = Vec::new();
    let config = Config::default().with(|config| config.queues = 4);
    for name in names {
        let disk = cx.env.attach(vdev::parse(&name).unwrap_or(0), &config).await?;
        let area = cx.area(&*disk)?;
        disks.push((name, disk, area));
    }
    let until = cx.env.now() + Duration::from_secs(cx.plan.mix.seconds);
    let load = |(name, disk, area)| Load::new(cx, name, disk, area, until);
    let loads: Vec<Load<'_, '_>> = disks.iter().map(|(n, d, a)| load((n, d, a))).collect();
    try_join_all(loads.iter().map(|load| Box::pin(load.run()) as Boxed<'_, _>).collect()).await?;
    let mut counts = Vec::new();
    for load in &loads {
        load.check_all().await?;
        cx.check_events(&**load.disk);
        load.disk.close().await?;
        counts.push(load.done.get());
    }
    let (least, most) = (counts.iter().min(), counts.iter().max());
    let (all, disks) = (counts.iter().sum::<u64>(), counts.len());
    let share = least.zip(most).map_or(100, |(least, most)| least * 100 / most.max(&1));
    Ok(format!("{all} requests on {disks} disks, the least busy had {share} % of the busiest's"))
}

/// The work on one disk.
struct Load<'a, 'b> {
    cx: &'a Context<'b>,
    name: &'a str,
    disk: &'a Rc<dyn Device>,
    info: Box<Info>,
    area: &'a Area,
    until: Time,
    stamps: Stamps,
    writes: bool,
    ledger: Ledger<'a>,
    flights: InFlight,
    random: RefCell<Random>,
    /// Latencies since the last line.
    latencies: RefCell<Latencies>,
    /// Requests and bytes so far.
    done: Cell<u64>,
    bytes: Cell<u64>,
    next_at: Cell<Time>,
}

impl<'a, 'b> Load<'a, 'b> {
    fn new(
        cx: &'a Context<'b>,
        name: &'a str,
        disk: &'a Rc<dyn Device>,
        area: &'a Area,
        until: Time,
    ) -> Self {
        // Each disk has stamps of its own, so that one's data on another is found.
        let seed = cx.plan.seed ^ u64::from(vdev::parse(name).unwrap_or(0)) << 32;
        Load {
            cx,
            name,
            disk,
            info: disk.info(),
            area,
            until,
            stamps: Stamps::new(seed),
            writes: cx.plan.may_destroy(name),
            ledger: Ledger::new(area),
            flights: InFlight::default(),
            random: RefCell::new(Random::new(seed)),
            latencies: RefCell::default(),
            done: Cell::new(0),
            bytes: Cell::new(0),
            next_at: Cell::new(cx.env.now()),
        }
    }

    async fn run(&self) -> Result<(), Error> {
        // With few sectors there must be room left for everybody.
        let room = self.area.sectors() * SECTOR as u64 / (4 * self.cx.plan.mix.most);
        let depth = self.cx.plan.mix.depth.min(room).max(1);
        let mut works: Vec<Boxed<'_, _>> = vec![Box::pin(self.beats())];
        works.extend((0..depth).map(|_| Box::pin(self.worker()) as Boxed<'_, _>));
        try_join_all(works).await
    }

    /// Tells every few seconds how it goes.
    async fn beats(&self) -> Result<(), Error> {
        let begun = self.cx.env.now();
        let mut before = (begun, 0, 0);
        while before.0 < self.until {
            self.cx.env.sleep(BEAT.min(self.until.since(before.0))).await;
            let now = (self.cx.env.now(), self.done.get(), self.bytes.get());
            let ms = (now.0.since(before.0).as_millis() as u64).max(1);
            let latencies = self.latencies.take();
            self.cx.env.print(format_args!(
                "# {{\"beat\":{{\"disk\":{},\"s\":{},\"iops\":{},\"kib_per_s\":{},\"p50_us\":{},\
                 \"p99_us\":{},\"bins\":\"{}\"}}}}\n",
                Json(self.name),
                now.0.since(begun).as_secs(),
                (now.1 - before.1) * 1000 / ms,
                (now.2 - before.2) * 1000 / 1024 / ms,
                Micros(latencies.per_mille(500)),
                Micros(latencies.per_mille(990)),
                latencies.bins(),
            ));
            self.cx.env.flushed().await;
            before = now;
        }
        Ok(())
    }

    /// Chooses a run that no other request in flight uses.
    fn choose(&self) -> Span {
        let mix = &self.cx.plan.mix;
        let random = &mut *self.random.borrow_mut();
        loop {
            let bytes = mix.least + random.below(mix.most - mix.least + 1);
            let mut span = self.area.any(bytes.div_ceil(SECTOR as u64), random);
            // Nine of ten go to the hot part, which is at the beginning.
            let hot = self.area.sectors() * mix.hot / 100;
            if random.below(10) > 0 && span.first >= hot {
                let unit = u64::from(self.info.sector_size) / SECTOR as u64;
                let first = random.below(hot.saturating_sub(span.count).max(1)) / unit * unit;
                if self.area.contains(Span { first, count: span.count }) {
                    span.first = first;
                }
            }
            if self.flights.take(span) {
                return span;
            }
        }
    }

    async fn worker(&self) -> Result<(), Error> {
        let (cx, mix) = (self.cx, &self.cx.plan.mix);
        let mut buffer = vec![0; (mix.most as usize).next_multiple_of(4096)];
        while cx.env.now() < self.until {
            if let Some(apart) = 1_000_000_000u64.checked_div(mix.iops) {
                let at = self.next_at.get().max(cx.env.now());
                self.next_at.set(at + Duration::from_nanos(apart));
                cx.env.sleep(at.since(cx.env.now())).await;
            }
            let span = self.choose();
            let mut share = self.random.borrow_mut().below(mix.shares.iter().sum());
            let mut kind = 0;
            while share >= mix.shares[kind] {
                share -= mix.shares[kind];
                kind += 1;
            }
            let bytes = &mut buffer[..span.count as usize * SECTOR];
            let begun = cx.env.now();
            let moved = self.one(kind, span, bytes).await?;
            self.latencies.borrow_mut().add(cx.env.now().since(begun));
            self.flights.give(span);
            self.done.set(self.done.get() + 1);
            self.bytes.set(self.bytes.get() + moved);
        }
        Ok(())
    }

    /// Carries one request out; returns the number of bytes that it moved.
    async fn one(&self, kind: usize, span: Span, bytes: &mut [u8]) -> Result<u64, Error> {
        let (first, count) = (span.first, span.count);
        match kind {
            1 if self.writes => {
                let generation = self.ledger.get(first) % (u32::MAX - 1) + 1;
                self.fill(span, generation, bytes);
                self.disk.io(Io::Write(first, bytes)).await?;
                self.ledger.set(span, generation);
            }
            2 if self.writes && self.info.discard.is_some() => {
                self.disk.io(Io::Discard { sector: first, count, secure: false }).await?;
                self.ledger.set(span, 0);
                return Ok(0);
            }
            3 if self.info.flush => {
                self.disk.io(Io::Flush).await?;
                return Ok(0);
            }
            _ => {
                self.disk.io(Io::Read(first, bytes)).await?;
                self.look(span, bytes);
            }
        }
        Ok(bytes.len() as u64)
    }

    fn fill(&self, span: Span, generation: u32, bytes: &mut [u8]) {
        self.stamps.fill(span.first, self.cx.generation + u64::from(generation), bytes);
    }

    /// Checks what was read; sectors of generation 0 may hold anything.
    fn look(&self, span: Span, bytes: &[u8]) {
        for (number, sector) in (span.first..).zip(bytes.as_chunks::<SECTOR>().0) {
            let wanted = self.ledger.get(number);
            if wanted != 0 {
                let generation = self.cx.generation + u64::from(wanted);
                self.cx.judge(number, generation, self.stamps.check(number, generation, sector));
            }
        }
    }

    /// Reads all of it at the end.
    async fn check_all(&self) -> Result<(), Error> {
        let look = |span: Span, bytes: &mut [u8]| self.look(span, bytes);
        stream(&**self.disk, &self.area.pieces(256), Direction::Read, &look).await
    }
}
