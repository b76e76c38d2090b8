//! `connect` and `serve`: disks, signals and sockets around them.

pub(super) mod adopted;
mod driver;
mod entry;
mod manage;
mod opened;
mod reload;

use self::entry::{Ending, Entry};
use self::reload::Granted;
use super::ask::sweep_sockets;
use super::privileges::{self, Reach, Sockets};
use super::service::Service;
use super::{own_domain, run_dir, say};
use crate::config::Configuration;
use crate::disk::KIND;
use crate::pool::Pool;
use crate::{Code, Failure, Vdev, adopt};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tools_common::{find_domain, resolve_domain};
use xen_blk::toolstack;
use xen_exec::Spawner;
use xen_linux::{Doorbell, EventFd, Linux, Signal, Signals};
use xen_platform::{Clock, DomId, deadline};
use xen_store::Store;

/// Least number of threads that open storages, for disks that a configuration gets later.
const OPENERS: usize = 4;
/// Time after which the name of a domain that has come is looked for again: it is written a moment
/// later.
const NAMED: Duration = Duration::from_secs(2);

/// Time after which a disk of a configuration that could not be served is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// The user of a server of many domains: the numbers below are those of one domain each.
const SERVER: u32 = 0xffff;

/// Way in which disks are served.
#[derive(Clone, Copy)]
pub(super) struct Mode {
    /// Waits for domains that are not there, also once they have ended.
    pub wait: bool,
    /// Tells more.
    pub verbose: bool,
}

/// A disk that is served, or waits for its domain.
type Task = xen_exec::Handle<Result<(), Failure>>;

/// The parts that all disks of this process share.
struct Host {
    linux: Linux,
    store: Store,
    spawner: Spawner,
    event_fd: EventFd,
    mode: Mode,
    /// The wish to end all.
    ending: Ending,
    /// The disks that are to be served.
    entries: RefCell<Vec<Rc<Entry>>>,
    /// Their tasks, and those of earlier ones that have not ended.
    tasks: RefCell<Vec<Task>>,
    /// Threads on which storages are opened while others are served.
    openers: Pool,
}

/// Serves all disks of `configuration` until they end, or the user ends them.
pub(super) fn run(configuration: Configuration, mode: Mode) -> Result<(), Failure> {
    // A mistake in the arguments is found before anything is looked up.
    for spec in &configuration.specs {
        match spec.source.check() {
            // The image of a domain that is yet to come may come with it.
            Err(failure) if mode.wait && failure.code != Code::Usage => {
                say(&format!("xen-disk: disk of {}: {failure}", spec.domain));
            }
            checked => checked?,
        }
        // An image that cannot be served is no reason to wait for xenstore.
        if !mode.wait {
            drop(spec.source.open()?);
        }
    }
    let openers = configuration.specs.len().max(OPENERS);
    on_host(mode, openers, move |host| host.serve_all(configuration))
}

/// Runs `work` with what the disks of this process share. `openers` is the number of threads on
/// which storages are opened.
fn on_host<F: Future<Output = Result<(), Failure>>>(
    mode: Mode,
    openers: usize,
    work: impl FnOnce(Rc<Host>) -> F + 'static,
) -> Result<(), Failure> {
    let linux = Linux::new();
    linux.run({
        let linux = linux.clone();
        move |spawner| async move {
            let store = xen_linux::open_store(&linux, &spawner).await.map_err(Failure::other)?;
            let event_fd = EventFd::new(&linux).map_err(Failure::other)?;
            let doorbell: Doorbell = event_fd.doorbell();
            let host = Host {
                linux,
                store,
                spawner,
                event_fd,
                mode,
                ending: Ending::default(),
                entries: RefCell::default(),
                tasks: RefCell::default(),
                openers: Pool::new(openers, move || doorbell.ring()),
            };
            work(Rc::new(host)).await
        }
    })
}

impl Host {
    async fn serve_all(self: Rc<Self>, configuration: Configuration) -> Result<(), Failure> {
        make_run_dir(&run_dir())?;
        self.sweep().await?;
        let signals = Signals::catch(&self.linux).map_err(Failure::other)?;
        let granted = Granted::of(&configuration)?;
        let service = Rc::new(Service::connect());
        let orders = if self.mode.wait { self.listen_for_orders() } else { None };
        self.give_up_for_all(&granted)?;
        for spec in configuration.specs {
            self.begin(Entry::new(spec));
        }
        if self.mode.wait {
            service.ready();
        }
        if let Some(listener) = orders {
            let orders = self.clone().take_orders(listener, granted.clone(), service.clone());
            self.spawner.spawn(orders);
        }
        let listening = self.clone();
        let kept = granted.clone();
        self.spawner.spawn(async move { listening.obey(signals, kept, service).await });
        if self.mode.wait {
            let (host, granted) = (self.clone(), granted.clone());
            if self.own() == DomId(0) {
                self.spawner.spawn(async move { host.welcome().await });
            } else {
                let task = self.spawner.spawn(async move { host.drive(&granted).await });
                self.tasks.borrow_mut().push(task);
            }
            say("Waiting for disks of xl's");
            self.ending.asked().await;
        }
        self.join_all().await
    }

    /// Returns the number of the domain that this process runs in.
    fn own(&self) -> DomId {
        own_domain(&self.linux)
    }

    /// Removes what killed servers have left of disks whose domains are gone. Another domain than
    /// dom0 has made none.
    async fn sweep(&self) -> Result<(), Failure> {
        let own = self.own();
        let swept = match own {
            DomId(0) => toolstack::sweep(&self.store, own, KIND).await?,
            _ => Vec::new(),
        };
        for device in swept {
            say(&format!(
                "removed what was left of disk {} of domain {}",
                Vdev(device.vdev),
                device.front
            ));
        }
        sweep_sockets(&self.store, own).await
    }

    /// Gives up what disks with these needs do not need.
    fn give_up_for_all(&self, granted: &Granted) -> Result<(), Failure> {
        // What opens the storages needs no more, nor do the threads that some of them make.
        privileges::keep_files()?;
        if self.mode.wait || granted.network {
            privileges::restrict(&granted.reach())?;
        }
        if self.mode.wait {
            let (network, local) = (granted.network, !granted.servers.is_empty());
            privileges::become_own(SERVER)?;
            privileges::keep_files_only()?;
            privileges::confine(&self.linux, Sockets { listens: true, network, local })?;
        }
        Ok(())
    }

    /// Serves a disk from now on.
    fn begin(self: &Rc<Self>, entry: Rc<Entry>) {
        self.entries.borrow_mut().push(entry.clone());
        let host = self.clone();
        let task = self.spawner.spawn(async move { host.serve(&entry).await });
        self.tasks.borrow_mut().push(task);
    }

    /// Waits until all disks have ended, and returns the first failure.
    async fn join_all(&self) -> Result<(), Failure> {
        let mut outcome = Ok(());
        let several = self.tasks.borrow().len() > 1;
        loop {
            let tasks = self.tasks.take();
            if tasks.is_empty() {
                return outcome;
            }
            for task in tasks {
                let done = task.join().await;
                if let (true, Err(failure)) = (several, &done) {
                    say(&format!("xen-disk: {failure}"));
                }
                outcome = outcome.and(done);
            }
        }
    }

    /// Answers the disks that xl makes: their servers are processes of their own.
    async fn welcome(&self) {
        let report = |device: &toolstack::Device| {
            say(&format!("xl makes disk {} of domain {}", Vdev(device.vdev), device.front));
        };
        let Err(error) = adopt::welcome(&self.store, self.own(), report).await;
        say(&format!("xen-disk: disks of xl's are not noticed any more: {error}"));
    }

    /// Does what signals ask for: ends all disks, the first time in good order, the second time at
    /// once; SIGHUP has a configuration read again.
    async fn obey(self: Rc<Self>, signals: Signals, granted: Granted, service: Rc<Service>) {
        let mut times = 0;
        loop {
            if signals.next().await == Signal::Hangup && self.mode.wait {
                service.reloading();
                self.reload(&granted, &service);
                service.ready();
                continue;
            }
            times += 1;
            match times {
                1 => {
                    service.stopping();
                    say("Received signal, requesting hot-unplug.");
                }
                2 => say("Received signal again, tearing down the backend."),
                _ => {}
            }
            self.entries.borrow().iter().for_each(|entry| entry.ending.ask());
            self.ending.ask();
        }
    }

    /// Serves one disk; with `wait`, again and again as its domain comes and goes.
    async fn serve(&self, entry: &Entry) -> Result<(), Failure> {
        let spec = &entry.spec;
        loop {
            let front = match self.mode.wait {
                false => resolve_domain(&self.store, &spec.domain).await?,
                true => match self.until_there(entry).await? {
                    Some(front) => front,
                    None => return Ok(()),
                },
            };
            match self.serve_in(entry, front).await {
                Err(failure)
                    if failure.code == Code::Gone && self.mode.wait && !entry.ending.is_asked() =>
                {
                    say(&failure.to_string());
                }
                // The cause may go: a file that is in use, a store that is out of reach.
                Err(failure) if self.mode.wait && !entry.ending.is_asked() => {
                    let seconds = RETRY.as_secs();
                    say(&format!("xen-disk: {failure}; tried again in {seconds} s"));
                    let at = self.linux.now() + RETRY;
                    if deadline(&self.linux, Some(at), entry.ending.asked()).await.is_ok() {
                        return Err(failure);
                    }
                }
                done => return done,
            }
        }
    }

    /// Waits for the domain; `None` if the user ends that.
    async fn until_there(&self, entry: &Entry) -> Result<Option<DomId>, Failure> {
        let spec = &entry.spec;
        let mut watch = self.store.watch("@introduceDomain").await?;
        let mut told = false;
        loop {
            if entry.ending.is_asked() {
                return Ok(None);
            }
            if let Some(front) = find_domain(&self.store, &spec.domain).await? {
                return Ok(Some(front));
            }
            if !told {
                say(&format!("Waiting for domain {}", spec.domain));
                told = true;
            }
            let look_again = self.linux.now() + NAMED;
            let waiting = first(async { watch.next().await.map(drop) }, async {
                entry.ending.asked().await;
                Ok(())
            });
            // Its name may come later than the domain, and says nothing then.
            if let Ok(done) = deadline(&self.linux, Some(look_again), waiting).await {
                done?;
            }
        }
    }
}

/// Returns the result of the one that ends first.
async fn first<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(done),
        Poll::Pending => other.as_mut().poll(cx),
    })
    .await
}

/// Only root may speak to the processes.
fn make_run_dir(dir: &Path) -> Result<(), Failure> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| {
        Failure::other(format!("cannot make the folder {}: {error}", dir.display()))
    })
}
