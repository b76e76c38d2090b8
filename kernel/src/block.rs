//! The disks: connects those that come, keeps them connected, and obeys the console.

use crate::echo::Hexdump;
use crate::exercise;
pub use crate::exercise::{OPTIONS, Plan};
use crate::options::Options;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt::Write;
use core::future::poll_fn;
use core::str::SplitWhitespace;
use core::time::Duration;
use log::{info, warn};
use xen_blk::front::{self, Change, Config, Disk, Finder};
use xen_blk::protocol::vdev;
use xen_platform::{Clock, EventCounter, deadline};
use xen_rt::xen::Xen;
use xen_rt::{Domain, Reason, console};

/// The console's commands for disks.
pub const HELP: [&str; 2] = [
    "\
  blk list                        the disks
  blk info DISK                   all that is known of one
  blk keys DISK                   what its backend has written into xenstore
  blk read DISK SECTOR [COUNT]    its bytes
",
    exercise::HELP,
];

/// Bytes of a sector, whatever the disk's own have.
const SECTOR: usize = 512;
/// Maximum number of sectors that `blk read` shows.
const MAX_SHOWN: u64 = 16;

/// Prints on the console, which takes everything.
macro_rules! print {
    ($($text:tt)*) => { write!(console::Out, $($text)*).unwrap_or(()) };
}

/// Time between two attempts to connect a disk.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A disk that the toolstack has made, kept connected by a task of its own.
struct Kept {
    disk: u32,
    /// The toolstack has not removed it.
    wanted: bool,
    /// A test has it: its task leaves it alone.
    lent: bool,
    device: Option<Disk<Xen>>,
}

/// The disks with the count of changes of `wanted` and `lent`.
#[derive(Default)]
struct List {
    disks: RefCell<Vec<Kept>>,
    changes: EventCounter,
}

impl List {
    fn with<T>(&self, disk: u32, work: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        self.disks.borrow_mut().iter_mut().find(|kept| kept.disk == disk).map(work)
    }

    /// Notes that a disk is there; returns true if it needs a task.
    fn add(&self, disk: u32) -> bool {
        let is_known = self.with(disk, |kept| kept.wanted = true).is_some();
        if !is_known {
            let kept = Kept { disk, wanted: true, lent: false, device: None };
            self.disks.borrow_mut().push(kept);
        }
        self.changes.signal();
        !is_known
    }

    fn remove(&self, disk: u32) {
        self.with(disk, |kept| (kept.wanted, kept.device) = (false, None));
        self.changes.signal();
    }

    fn lend(&self, disk: u32, lent: bool) -> Option<Disk<Xen>> {
        let device = self.with(disk, |kept| {
            kept.lent = lent;
            kept.device.take()
        });
        self.changes.signal();
        device.flatten()
    }
}

/// The disks of this domain.
pub struct Disks {
    domain: Domain,
    list: Rc<List>,
}

impl Disks {
    /// Creates the list of disks, without any.
    pub fn new(domain: &Domain) -> Disks {
        Disks { domain: domain.clone(), list: Rc::default() }
    }

    /// Obeys the command line. Ends with its tests; without any, it keeps the disks connected for
    /// ever.
    pub async fn serve(&self, options: &Options) -> Reason {
        if let Some(reason) = exercise::at_boot(&self.domain, &options.blk).await {
            return reason;
        }
        match self.watch(&options.blk.disks).await {
            Ok(never) => match never {},
            Err(why) => panic!("xenstore is gone: {why}"),
        }
    }

    /// Follows the disks that are plugged in and out: those named, or all.
    async fn watch(&self, names: &[String]) -> Result<core::convert::Infallible, xen_store::Error> {
        let mut finder = Finder::new(self.domain.xen(), self.domain.store());
        loop {
            match finder.next().await? {
                Change::Added(disk) if names.is_empty() || names.contains(&vdev::name(disk)) => {
                    self.keep(disk)
                }
                Change::Added(_) => {}
                Change::Removed(disk) => {
                    info!("{} is gone", vdev::name(disk));
                    self.list.remove(disk);
                }
            }
        }
    }

    /// Has a task of its own keep a disk connected, so that no disk waits for another.
    fn keep(&self, disk: u32) {
        if self.list.add(disk) {
            let task = keep(self.domain.clone(), self.list.clone(), disk);
            self.domain.spawn(task);
        }
    }

    fn find(&self, disk: &str) -> Option<Disk<Xen>> {
        self.list.with(vdev::parse(disk)?, |kept| kept.device.clone())?
    }

    /// Carries out what follows `blk` on a line of the console; false if it makes no sense.
    pub async fn command(&self, words: &mut SplitWhitespace<'_>) -> bool {
        match (words.next(), words.next()) {
            (Some("list"), None) => {
                for Kept { disk, device, .. } in &*self.list.disks.borrow() {
                    if let Some(device) = device {
                        print!("{}: {}\n", vdev::name(*disk), device.info());
                    }
                }
                true
            }
            (Some("info"), Some(disk)) => self.find(disk).map(|disk| show(&disk)).is_some(),
            (Some("keys"), Some(disk)) => self.keys(disk).await.is_some(),
            (Some("read"), Some(disk)) => self.read(disk, words).await.is_some(),
            (Some("run" | "bench"), _) if !exercise::IS_BUILT => {
                print!("{}\n", exercise::NOT_BUILT);
                true
            }
            (Some("run"), Some(tests)) => match words.next() {
                Some(disk) => self.run(tests, disk, words).await,
                None => false,
            },
            (Some("bench"), Some(disk)) => self.run("bench", disk, words).await,
            _ => false,
        }
    }

    async fn keys(&self, disk: &str) -> Option<()> {
        let number = vdev::parse(disk)?;
        match front::backend_keys(self.domain.store(), number).await {
            Ok(keys) => keys.iter().for_each(|(key, value)| print!("{key} = {value}\n")),
            Err(why) => print!("{why}\n"),
        }
        Some(())
    }

    async fn read(&self, disk: &str, words: &mut SplitWhitespace<'_>) -> Option<()> {
        let device = self.find(disk)?;
        let sector: u64 = words.next()?.parse().ok()?;
        let count: u64 = words.next().map_or(Some(1), |count| count.parse().ok())?;
        let unit = u64::from(device.info().sector_size) / SECTOR as u64;
        let mut bytes =
            vec![0; (count.clamp(1, MAX_SHOWN).next_multiple_of(unit)) as usize * SECTOR];
        match device.read(sector, &mut bytes).await {
            Ok(()) => print!("{}\n", Hexdump(&bytes)),
            Err(why) => print!("{why}\n"),
        }
        Some(())
    }

    /// Runs tests on a disk, which is connected again after them.
    async fn run(&self, tests: &str, disk: &str, words: &mut SplitWhitespace<'_>) -> bool {
        let mut plan = Plan::default();
        let options = [("blk.run", tests), ("blk.disk", disk)]
            .into_iter()
            .chain(words.filter_map(|w| w.split_once('=')));
        for (name, value) in options {
            match plan.set(name, value) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(why) => {
                    print!("{why}\n");
                    return true;
                }
            }
        }
        let Some(number) = vdev::parse(disk) else { return false };
        if let Some(device) = self.list.lend(number, true) {
            device.close().await;
        }
        exercise::run(&self.domain, &plan).await;
        self.list.lend(number, false);
        self.keep(number);
        true
    }
}

/// Prints all that is known of a disk.
fn show(device: &Disk<Xen>) {
    let (info, stats) = (device.info(), device.stats());
    print!("backend: {}\nlayout: {}\n", info.backend_path, info.abi.name());
    let done = [
        ("requests", stats.requests),
        ("failed", stats.failed),
        ("timed_out", stats.timed_out),
        ("bytes_read", stats.bytes_read),
        ("bytes_written", stats.bytes_written),
        ("events_sent", stats.events_sent),
        ("events_received", stats.events_received),
        ("max_in_flight", stats.max_in_flight.into()),
    ];
    for (name, value) in info.numbers().into_iter().chain(done) {
        print!("{name}: {value}\n");
    }
    for note in &info.notes {
        print!("note: {note}\n");
    }
}

/// Keeps a disk connected until the toolstack removes it. A backend that does not answer, or a
/// connection that ends, is tried again.
async fn keep(domain: Domain, list: Rc<List>, disk: u32) {
    let name = vdev::name(disk);
    let mut reported = None;
    while list.with(disk, |kept| kept.wanted) == Some(true) {
        let mut seen = list.changes.count();
        if list.with(disk, |kept| kept.lent) == Some(true) {
            poll_fn(|cx| list.changes.poll_after(&mut seen, cx)).await;
            continue;
        }
        match front::attach(domain.xen(), domain.store(), disk, &Config::default()).await {
            Ok((device, driver)) => {
                info!("{name}: {}", device.info());
                reported = None;
                domain.spawn(async move {
                    if let Err(why) = driver.await {
                        warn!("{}: {why}", vdev::name(disk));
                    }
                });
                match list.with(disk, |kept| kept.lent) == Some(true) {
                    true => device.close().await,
                    false => {
                        list.with(disk, |kept| kept.device = Some(device.clone()));
                        device.ended().await;
                        list.with(disk, |kept| kept.device = None);
                    }
                }
            }
            Err(why) => {
                let text = why.to_string();
                if reported.as_ref() != Some(&text) {
                    warn!("{name}: {text}; will try again");
                    reported = Some(text);
                }
            }
        }
        let until = Some(domain.xen().now() + RETRY_AFTER);
        let mut seen = list.changes.count();
        let changed = poll_fn(|cx| list.changes.poll_after(&mut seen, cx));
        // A disk that was plugged in again is not kept waiting.
        let _ = deadline(domain.xen(), until, changed).await;
    }
    list.disks.borrow_mut().retain(|kept| kept.disk != disk);
}
