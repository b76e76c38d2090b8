//! The disks: connects those that come, tries what the command line says, and obeys the console.

use super::echo::Hexdump;
use crate::console;
use crate::memory::HEAP;
use crate::options::Options;
use crate::xen::{self, Xen};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt::{Arguments, Write};
use core::str::SplitWhitespace;
use core::time::Duration;
use log::{info, warn};
use xen_abi::sched::Reason;
use xen_blk::front::{Change, Finder, Wishes, name, vdev};
use xen_exec::Spawner;
use xen_exercise::{Boxed, Device, Front, Host, Io, SECTOR, Site, Usage, Verdict, describe, numbers, run};
pub use xen_exercise::{OPTIONS, Plan};
use xen_platform::{Clock, sleep};
use xen_store::Store;

/// The console's commands for disks.
pub const HELP: &str = "\
  blk list                        the disks
  blk info DISK                   all that is known of one
  blk read DISK SECTOR [COUNT]    its bytes
  blk run TESTS DISK [OPTION...]  tries it, for instance: blk run report,rand xvda blk.destroy=xvda
  blk bench DISK [OPTION...]      how quick it is
";

/// How long the console may take to be read.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most sectors that `blk read` shows.
const MAX_SHOWN: u64 = 16;

/// What the tests ask of this kernel.
struct Surroundings {
    xen: Xen,
    spawner: Spawner,
}

impl Host for Surroundings {
    fn print(&self, text: Arguments<'_>) {
        // Writing to the console cannot fail.
        let _ = console::Out.write_fmt(text);
    }

    fn shown(&self) -> Boxed<'_, ()> {
        Box::pin(async {
            let until = self.xen.now() + PATIENCE;
            while !console::is_flushed() && self.xen.now() < until {
                sleep(&self.xen, Duration::from_millis(1)).await;
            }
        })
    }

    fn usage(&self) -> Option<Usage> {
        let grants = xen::grant_usage();
        let still_mapped = grants.still_mapped as u32;
        Some(Usage { grants: grants.used as u32, still_mapped, ports: xen::events::open(), heap: HEAP.usage().0 })
    }

    fn spawn(&self, work: Boxed<'static, ()>) {
        self.spawner.spawn(work);
    }
}

/// A connected disk and its number.
type Known = (u32, Rc<dyn Device>);

/// The disks of this domain.
pub struct Disks {
    site: Rc<dyn Site>,
    store: Store,
    connected: RefCell<Vec<Known>>,
}

impl Disks {
    /// Knows of none yet.
    pub fn new(xen: &Xen, store: &Store, spawner: &Spawner) -> Disks {
        let host = Surroundings { xen: xen.clone(), spawner: spawner.clone() };
        let site = Rc::new(Front::new(xen, store, host));
        Disks { site, store: store.clone(), connected: RefCell::default() }
    }

    /// Does what the command line says. Ends with the tests that it asks for; without any, it connects the disks that
    /// come, for ever.
    pub async fn serve(&self, options: &Options) -> Reason {
        if !options.blk.tests.is_empty() {
            let Verdict { failed, .. } = run(&*self.site, &options.blk).await;
            return if failed == 0 { Reason::Poweroff } else { Reason::Crash };
        }
        match self.watch(&options.blk.disks).await {
            Ok(never) => match never {},
            Err(why) => panic!("xenstore is gone: {why}"),
        }
    }

    /// Connects what comes and forgets what goes: of the disks named, or of all.
    async fn watch(&self, names: &[alloc::string::String]) -> Result<core::convert::Infallible, xen_store::Error> {
        let mut finder = Finder::new(&self.store).await?;
        loop {
            match finder.next().await? {
                Change::Come(disk) if names.is_empty() || names.contains(&name(disk)) => self.connect(disk).await,
                Change::Come(_) => {}
                Change::Gone(disk) => {
                    info!("{} is gone", name(disk));
                    self.connected.borrow_mut().retain(|(other, _)| *other != disk);
                }
            }
        }
    }

    async fn connect(&self, disk: u32) {
        match self.site.attach(disk, &Wishes::default()).await {
            Ok(device) => {
                info!("{}: {}", name(disk), describe(&device.info()));
                self.connected.borrow_mut().push((disk, device));
            }
            Err(why) => warn!("{}: {why}", name(disk)),
        }
    }

    fn find(&self, disk: &str) -> Option<Rc<dyn Device>> {
        let number = vdev(disk)?;
        self.connected.borrow().iter().find(|(other, _)| *other == number).map(|(_, device)| device.clone())
    }

    /// Carries out what follows `blk` on a line of the console; false if it makes no sense.
    pub async fn command(&self, words: &mut SplitWhitespace<'_>) -> bool {
        match (words.next(), words.next()) {
            (Some("list"), None) => {
                for (disk, device) in &*self.connected.borrow() {
                    self.site.print(format_args!("{}: {}\n", name(*disk), describe(&device.info())));
                }
                true
            }
            (Some("info"), Some(disk)) => match self.find(disk) {
                Some(device) => {
                    self.show(&*device);
                    true
                }
                None => false,
            },
            (Some("read"), Some(disk)) => self.read(disk, words).await.is_some(),
            (Some("run"), Some(tests)) => match words.next() {
                Some(disk) => self.run(tests, disk, words).await,
                None => false,
            },
            (Some("bench"), Some(disk)) => self.run("bench", disk, words).await,
            _ => false,
        }
    }

    fn show(&self, device: &dyn Device) {
        let (info, stats) = (device.info(), device.stats());
        self.site.print(format_args!("backend: {}\nlayout: {}\n", info.backend_path, info.abi.name()));
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
        for (name, value) in numbers(&info).into_iter().chain(done) {
            self.site.print(format_args!("{name}: {value}\n"));
        }
        for note in &info.notes {
            self.site.print(format_args!("note: {note}\n"));
        }
    }

    async fn read(&self, disk: &str, words: &mut SplitWhitespace<'_>) -> Option<()> {
        let device = self.find(disk)?;
        let sector: u64 = words.next()?.parse().ok()?;
        let count: u64 = words.next().map_or(Some(1), |count| count.parse().ok())?;
        let unit = u64::from(device.info().sector_size) / SECTOR as u64;
        let mut bytes = vec![0; (count.clamp(1, MAX_SHOWN).next_multiple_of(unit)) as usize * SECTOR];
        match device.io(Io::Read(sector, &mut bytes)).await {
            Ok(()) => self.site.print(format_args!("{}\n", Hexdump(&bytes))),
            Err(why) => self.site.print(format_args!("{why}\n")),
        }
        Some(())
    }

    /// Runs tests on a disk, which is connected again after them.
    async fn run(&self, tests: &str, disk: &str, words: &mut SplitWhitespace<'_>) -> bool {
        let mut plan = Plan::default();
        let options =
            [("blk.run", tests), ("blk.disk", disk)].into_iter().chain(words.filter_map(|w| w.split_once('=')));
        for (name, value) in options {
            match plan.set(name, value) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(why) => {
                    self.site.print(format_args!("{why}\n"));
                    return true;
                }
            }
        }
        let Some(number) = vdev(disk) else { return false };
        if let Some(device) = self.find(disk) {
            self.connected.borrow_mut().retain(|(other, _)| *other != number);
            // If it is gone by now, the tests will say so.
            let _ = device.close().await;
        }
        run(&*self.site, &plan).await;
        self.connect(number).await;
        true
    }
}
