//! `connect` and `serve`: disks, signals and sockets around them.

use super::ask::sweep_sockets;
use super::{privileges, run_dir, say};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use xen_blk::back::{Config, End, Handle};
use xen_blk::front::Units;
use xen_blk::toolstack;
use xen_disk::config::Spec;
use xen_disk::disk::{Disk, KIND, Plugged, plug, verdict};
use xen_disk::pool::Pool;
use xen_disk::report::Report;
use xen_disk::served::Served;
use xen_disk::storage::{Pace, Storage};
use xen_disk::{Code, Failure, Vdev, control, domain, stack};
use xen_exec::Spawner;
use xen_linux::{Bell, Doorbell, Linux, LocalListener, Signals, Streams};
use xen_platform::{Clock, DomId, EventCounter, deadline};
use xen_store::Store;

/// The most threads of a disk.
const THREADS: usize = 32;
/// How long somebody at a socket may take to say what is wanted.
const QUESTION: Duration = Duration::from_secs(10);
/// How long after a domain has come its name is looked for: it is written a moment later.
const NAMED: Duration = Duration::from_secs(2);

/// How disks are served.
#[derive(Clone, Copy)]
pub(super) struct Mode {
    /// Waits for domains that are not there, also once they have ended.
    pub wait: bool,
    /// Tells more.
    pub verbose: bool,
}

/// What all disks of this process share.
struct Host {
    linux: Linux,
    store: Store,
    spawner: Spawner,
    doorbell: Doorbell,
    mode: Mode,
    /// How often the user asked to end.
    asked: Cell<u32>,
    asking: EventCounter,
    /// Those of the disks that are served, by domain and number.
    handles: RefCell<BTreeMap<(DomId, u32), Handle>>,
}

/// Serves all of `specs` until they end, or the user ends them.
pub(super) fn run(specs: Vec<Spec>, mode: Mode) -> Result<(), Failure> {
    // A mistake in what a disk is kept in is found before anything is done.
    for spec in &specs {
        spec.source.stack()?;
    }
    let linux = Linux::new();
    linux.run({
        let linux = linux.clone();
        move |spawner| async move {
            let store = xen_linux::open_store(&linux, &spawner).await.map_err(Failure::other)?;
            let doorbell = Doorbell::new(&linux).map_err(Failure::other)?;
            let (asked, asking, handles) = (Cell::new(0), EventCounter::new(), RefCell::default());
            let host = Rc::new(Host { linux, store, spawner, doorbell, mode, asked, asking, handles });
            host.serve_all(specs).await
        }
    })
}

impl Host {
    async fn serve_all(self: Rc<Self>, specs: Vec<Spec>) -> Result<(), Failure> {
        make_run_dir(&run_dir())?;
        for device in toolstack::sweep(&self.store, DomId(0), KIND).await? {
            say(&format!("removed what was left of disk {} of domain {}", Vdev(device.vdev), device.front));
        }
        sweep_sockets(&self.store).await?;
        let signals = Signals::catch(&self.linux).map_err(Failure::other)?;
        // What opens the storages needs no more, nor do the threads that some of them make.
        privileges::keep_files()?;
        if self.mode.wait {
            let mut network = false;
            for spec in &specs {
                network |= stack::needs(&spec.source.stack()?)?.network;
            }
            privileges::confine(&self.linux, network)?;
        }
        let listening = self.clone();
        self.spawner.spawn(async move { listening.obey(signals).await });
        let tasks: Vec<_> = specs
            .into_iter()
            .map(|spec| {
                let host = self.clone();
                self.spawner.spawn(async move { host.serve(&spec).await })
            })
            .collect();
        let mut outcome = Ok(());
        let several = tasks.len() > 1;
        for task in tasks {
            let done = task.join().await;
            if let (true, Err(failure)) = (several, &done) {
                say(&format!("xen-disk: {failure}"));
            }
            outcome = outcome.and(done);
        }
        outcome
    }

    /// Ends all disks: the first signal in good order, the second at once.
    async fn obey(&self, signals: Signals) {
        loop {
            signals.next().await;
            self.asked.set(self.asked.get() + 1);
            match self.asked.get() {
                1 => {
                    say("Received signal, requesting hot-unplug.");
                    self.handles.borrow().values().for_each(Handle::stop);
                }
                2 => {
                    say("Received signal again, tearing down the backend.");
                    self.handles.borrow().values().for_each(Handle::force);
                }
                _ => {}
            }
            self.asking.signal();
        }
    }

    /// Serves one disk; with `wait`, again and again as its domain comes and goes.
    async fn serve(&self, spec: &Spec) -> Result<(), Failure> {
        loop {
            let front = match self.mode.wait {
                false => domain::resolve(&self.store, &spec.domain).await?,
                true => match self.until_there(spec).await? {
                    Some(front) => front,
                    None => return Ok(()),
                },
            };
            match self.serve_in(spec, front).await {
                Err(failure) if failure.code == Code::Gone && self.mode.wait && self.asked.get() == 0 => {
                    say(&failure.to_string());
                }
                done => return done,
            }
        }
    }

    /// Waits for the domain; `None` if the user ends that.
    async fn until_there(&self, spec: &Spec) -> Result<Option<DomId>, Failure> {
        let mut watch = self.store.watch("@introduceDomain").await?;
        let mut told = false;
        loop {
            if self.asked.get() > 0 {
                return Ok(None);
            }
            if let Some(front) = domain::find(&self.store, &spec.domain).await? {
                return Ok(Some(front));
            }
            if !told {
                say(&format!("Waiting for domain {}", spec.domain));
                told = true;
            }
            let look_again = self.linux.now() + NAMED;
            let asked = async { poll_fn(|cx| self.asking.poll_after(&mut 0, cx)).await };
            let waiting = first(async { watch.next().await.map(drop) }, async {
                asked.await;
                Ok(())
            });
            // Its name may come later than the domain, and says nothing then.
            if let Ok(done) = deadline(&self.linux, Some(look_again), waiting).await {
                done?;
            }
        }
    }

    async fn serve_in(&self, spec: &Spec, front: DomId) -> Result<(), Failure> {
        let stack = spec.source.stack()?;
        let storage = spec.source.open()?;
        say(&format!("Operating on VM domain id: {front}"));
        let is_served = |device: &toolstack::Device| control::is_served(&control::socket(&run_dir(), device));
        let read_only = spec.source.readonly;
        let (device, plugged) = plug(&self.store, DomId(0), front, spec.vdev, &stack, read_only, is_served).await?;
        let name = Vdev(device.vdev);
        match plugged {
            Plugged::New => say(&format!("Creating device {} (linux device /dev/{name})", device.vdev)),
            Plugged::TakenOver if !storage.outlives() && !read_only => {
                let text = format!(
                    "what the guest wrote to {name} is gone with who served it: \
                     xen-disk disconnect {front} {name} takes the disk away from it"
                );
                return Err(Failure::new(Code::Storage, text));
            }
            Plugged::TakenOver => say(&format!("Going on with device {} (linux device /dev/{name})", device.vdev)),
        }
        // Privileges are given up before the disk's threads are made, and after all that needs them.
        let listener = LocalListener::unix(&self.linux, &control::socket(&run_dir(), &device));
        let listener = listener.map_err(|error| Failure::other(format!("cannot make the disk's socket: {error}")));
        let ready = listener.and_then(|listener| self.give_up(&stack).map(|()| listener));
        let listener = match ready {
            Ok(listener) => listener,
            Err(failure) => {
                // A disk that its guest may be using stays.
                if plugged == Plugged::New {
                    toolstack::remove(&self.store, &device).await?;
                }
                return Err(failure);
            }
        };
        let served = self.served(storage, read_only);
        let disk = Rc::new(Disk { device, stack, served, handle: Handle::new() });
        let key = (front, disk.device.vdev);
        self.handles.borrow_mut().insert(key, disk.handle.clone());
        if self.asked.get() > 0 {
            disk.handle.stop();
        }
        let config = Config { units: spec.source.units.unwrap_or(Units::HEADER), ..Config::default() };
        say("Press Control+C to disconnect device.");
        let end = self.serve_disk(&disk, &config, listener).await;
        self.handles.borrow_mut().remove(&key);
        verdict(&disk.name(), end?)
    }

    /// Gives up what a single disk does not need, once it is open; those of a configuration are yet to come.
    fn give_up(&self, stack: &str) -> Result<(), Failure> {
        if self.mode.wait {
            return Ok(());
        }
        let needs = stack::needs(stack)?;
        if !needs.files {
            privileges::give_up()?;
        }
        privileges::confine(&self.linux, needs.network)
    }

    fn served(&self, storage: std::sync::Arc<dyn Storage>, read_only: bool) -> Served {
        let bell: Bell = self.doorbell.bell();
        let pool = (storage.pace() != Pace::Quick).then(|| Pool::new(THREADS, move || bell.ring()));
        Served::new(storage, pool, read_only, say)
    }

    async fn serve_disk(&self, disk: &Rc<Disk>, config: &Config, listener: LocalListener) -> Result<End, Failure> {
        let start = self.linux.now();
        let serving = disk.serve(&self.linux, &self.store, config);
        let listening = async {
            loop {
                match listener.accept().await {
                    Ok(streams) => self.attend(disk, self.linux.now().since(start), streams),
                    Err(error) => say(&format!("xen-disk: the socket fails: {error}")),
                }
            }
        };
        let end = first(serving, listening).await;
        if self.mode.verbose {
            let seconds = self.linux.now().since(start).as_secs_f64();
            say(Report::of(disk, seconds).histograms().trim_end());
        }
        if let Some(why) = disk.handle.broken() {
            say(&format!("{}: the guest broke the protocol: {why}", disk.name()));
        }
        end
    }

    /// Answers one question, beside everything else.
    fn attend(&self, disk: &Rc<Disk>, since: Duration, (from, to): Streams) {
        let (disk, linux) = (disk.clone(), self.linux.clone());
        self.spawner.spawn(async move {
            let at = linux.now() + QUESTION;
            let _ = deadline(&linux, Some(at), control::attend(&disk, since.as_secs_f64(), from, to)).await;
        });
    }
}

/// The result of whichever ends first.
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
    made.map_err(|error| Failure::other(format!("cannot make the folder {}: {error}", dir.display())))
}
