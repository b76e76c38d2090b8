//! `connect` and `serve`: disks, signals and sockets around them.

pub(super) mod adopted;

use super::ask::sweep_sockets;
use super::privileges::{self, Reach, Sockets};
use super::{run_dir, say};
use crate::config::Spec;
use crate::disk::{Disk, KIND, Plugged, plug, verdict};
use crate::identity::Identity;
use crate::pool::Pool;
use crate::report::Report;
use crate::served::Served;
use crate::storage::{Pace, Storage};
use crate::{Code, DiskSource, Failure, Vdev, adopt, control, stack};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tools_common::{find_domain, resolve_domain};
use xen_blk::back::{Config, End, Handle};
use xen_blk::protocol::Units;
use xen_blk::toolstack;
use xen_exec::Spawner;
use xen_linux::{Doorbell, EventFd, Linux, LocalListener, Signals, SocketAccess, Streams};
use xen_platform::{Clock, DomId, EventCounter, deadline};
use xen_store::Store;

/// Most threads of a disk.
const THREADS: usize = 32;
/// Time for a program at a socket to ask its question.
const QUESTION: Duration = Duration::from_secs(10);
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

/// The parts that all disks of this process share.
struct Host {
    linux: Linux,
    store: Store,
    spawner: Spawner,
    event_fd: EventFd,
    mode: Mode,
    /// Number of times that the user asked to end.
    asked: Cell<u32>,
    asking: EventCounter,
    /// Those of the disks that are served, by domain and number.
    handles: RefCell<BTreeMap<(DomId, u32), Handle>>,
    /// Threads on which storages are opened while others are served.
    openers: Pool,
}

/// Serves all of `specs` until they end, or the user ends them.
pub(super) fn run(specs: Vec<Spec>, mode: Mode) -> Result<(), Failure> {
    // A mistake in the arguments is found before anything is looked up.
    for spec in &specs {
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
    on_host(mode, specs.len(), move |host| host.serve_all(specs))
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
                asked: Cell::new(0),
                asking: EventCounter::new(),
                handles: RefCell::default(),
                openers: Pool::new(openers, move || doorbell.ring()),
            };
            work(Rc::new(host)).await
        }
    })
}

impl Host {
    async fn serve_all(self: Rc<Self>, specs: Vec<Spec>) -> Result<(), Failure> {
        make_run_dir(&run_dir())?;
        for device in toolstack::sweep(&self.store, DomId(0), KIND).await? {
            say(&format!(
                "removed what was left of disk {} of domain {}",
                Vdev(device.vdev),
                device.front
            ));
        }
        sweep_sockets(&self.store).await?;
        let signals = Signals::catch(&self.linux).map_err(Failure::other)?;
        let (mut network, mut servers) = (false, Vec::new());
        for spec in &specs {
            let stack = spec.source.stack()?;
            network |= stack::needs(&stack)?.network;
            servers.extend(stack::sockets(&stack)?);
        }
        let local = !servers.is_empty();
        // What opens the storages needs no more, nor do the threads that some of them make.
        privileges::keep_files()?;
        if self.mode.wait || network {
            privileges::restrict(&Reach {
                files: files_of(&specs)?,
                run_dir: run_dir(),
                makes_sockets: true,
                network,
                servers,
            })?;
        }
        if self.mode.wait {
            privileges::become_own(SERVER)?;
            privileges::keep_files_only()?;
            privileges::confine(&self.linux, Sockets { listens: true, network, local })?;
        }
        let listening = self.clone();
        self.spawner.spawn(async move { listening.obey(signals).await });
        if self.mode.wait {
            let host = self.clone();
            self.spawner.spawn(async move { host.welcome().await });
        }
        if specs.is_empty() {
            say("Waiting for disks of xl's");
            poll_fn(|cx| self.asking.poll_after(&mut 0, cx)).await;
        }
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

    /// Answers the disks that xl makes: their servers are processes of their own.
    async fn welcome(&self) {
        let report = |device: &toolstack::Device| {
            say(&format!("xl makes disk {} of domain {}", Vdev(device.vdev), device.front));
        };
        let Err(error) = adopt::welcome(&self.store, DomId(0), report).await;
        say(&format!("xen-disk: disks of xl's are not noticed any more: {error}"));
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
                false => resolve_domain(&self.store, &spec.domain).await?,
                true => match self.until_there(spec).await? {
                    Some(front) => front,
                    None => return Ok(()),
                },
            };
            match self.serve_in(spec, front).await {
                Err(failure)
                    if failure.code == Code::Gone && self.mode.wait && self.asked.get() == 0 =>
                {
                    say(&failure.to_string());
                }
                // The cause may go: a file that is in use, a store that is out of reach.
                Err(failure) if self.mode.wait && self.asked.get() == 0 => {
                    let seconds = RETRY.as_secs();
                    say(&format!("xen-disk: {failure}; tried again in {seconds} s"));
                    let at = self.linux.now() + RETRY;
                    let asked = poll_fn(|cx| self.asking.poll_after(&mut 0, cx));
                    if deadline(&self.linux, Some(at), asked).await.is_ok() {
                        return Err(failure);
                    }
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
            if let Some(front) = find_domain(&self.store, &spec.domain).await? {
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
        let Some((storage, identity)) = self.open(spec).await? else { return Ok(()) };
        let stack = identity.stack.clone();
        say(&format!("Operating on VM domain id: {front}"));
        let is_served =
            |device: &toolstack::Device| control::is_served(&control::socket(&run_dir(), device));
        let (device, plugged) =
            plug(&self.store, DomId(0), front, spec.vdev, &identity, is_served).await?;
        let name = Vdev(device.vdev);
        match plugged {
            Plugged::New => {
                say(&format!("Creating device {} (linux device /dev/{name})", device.vdev))
            }
            Plugged::TakenOver => {
                say(&format!("Going on with device {} (linux device /dev/{name})", device.vdev))
            }
        }
        let listener = match self.listen(&device, &stack) {
            Ok(listener) => listener,
            Err(failure) => {
                // A disk that its guest may be using stays.
                if plugged == Plugged::New {
                    toolstack::remove(&self.store, &device).await?;
                }
                return Err(failure);
            }
        };
        say("Press Control+C to disconnect device.");
        self.serve_opened(&spec.source, storage, stack, device, listener).await
    }

    /// Makes a disk's socket, and gives up privileges: before the disk's threads are made, and
    /// after all that needs them.
    fn listen(&self, device: &toolstack::Device, stack: &str) -> Result<LocalListener, Failure> {
        let path = control::socket(&run_dir(), device);
        let listener = LocalListener::unix(&self.linux, &path, &SocketAccess::default());
        let listener = listener
            .map_err(|error| Failure::other(format!("cannot make the disk's socket: {error}")))?;
        self.give_up(stack, device.front).map(|()| listener)
    }

    /// Serves a disk whose storage is open and whose folders exist, until its end.
    async fn serve_opened(
        &self,
        source: &DiskSource,
        storage: Arc<dyn Storage>,
        stack: String,
        device: toolstack::Device,
        listener: LocalListener,
    ) -> Result<(), Failure> {
        let served = self.served(storage, source.readonly).on_enospc(source.on_enospc);
        let (handle, store) = (Handle::new(), self.store.clone());
        let disk = Rc::new(Disk { device, stack, served, handle, store });
        let key = (disk.device.front, disk.device.vdev);
        self.handles.borrow_mut().insert(key, disk.handle.clone());
        if self.asked.get() > 0 {
            disk.handle.stop();
        }
        let config =
            Config::default().with(|config| config.units = source.units.unwrap_or(Units::HEADER));
        let config = adopt::configure(&self.store, &disk.device, config).await?;
        let end = self.serve_disk(&disk, &config, listener).await;
        self.handles.borrow_mut().remove(&key);
        verdict(&disk.name(), end?)
    }

    /// Opens the storage of a disk, and finds out which one it is: beside other disks on a thread
    /// of its own, since a store may not answer. `None` if the user ends that.
    async fn open(&self, spec: &Spec) -> Result<Option<(Arc<dyn Storage>, Identity)>, Failure> {
        let source = spec.source.clone();
        let open = move || {
            let (storage, stack) = (source.open()?, source.stack()?);
            let identity = Identity::of(&*storage, &stack, source.readonly);
            Ok((storage, identity))
        };
        if !self.mode.wait {
            return open().map(Some);
        }
        let opening = async { self.openers.run(open).await.map(Some) };
        let asked = async {
            poll_fn(|cx| self.asking.poll_after(&mut 0, cx)).await;
            self.openers.abandon();
            Ok(None)
        };
        first(opening, asked).await
    }

    /// Gives up what a single disk does not need, once it is open; those of a configuration are yet
    /// to come.
    fn give_up(&self, stack: &str, front: DomId) -> Result<(), Failure> {
        if self.mode.wait {
            return Ok(());
        }
        let needs = stack::needs(stack)?;
        if !needs.network {
            let files = if needs.files { stack::files(stack)? } else { Some(Vec::new()) };
            let (run_dir, makes_sockets, network) = (run_dir(), false, false);
            let servers = stack::sockets(stack)?;
            privileges::restrict(&Reach { files, run_dir, makes_sockets, network, servers })?;
        }
        privileges::become_own(front.0.into())?;
        match needs.files {
            true => privileges::keep_files_only()?,
            false => privileges::give_up()?,
        }
        let (network, local) = (needs.network, needs.sockets);
        let sockets = Sockets { listens: false, network, local };
        privileges::confine(&self.linux, sockets)
    }

    fn served(&self, storage: Arc<dyn Storage>, read_only: bool) -> Served {
        let doorbell: Doorbell = self.event_fd.doorbell();
        let pool =
            (storage.pace() != Pace::Quick).then(|| Pool::new(THREADS, move || doorbell.ring()));
        Served::new(storage, pool, read_only, say)
    }

    async fn serve_disk(
        &self,
        disk: &Rc<Disk>,
        config: &Config,
        listener: LocalListener,
    ) -> Result<End, Failure> {
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
            let _ =
                deadline(&linux, Some(at), control::attend(&disk, since.as_secs_f64(), from, to))
                    .await;
        });
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

/// Returns the files of all disks; `None` if some can be anywhere.
fn files_of(specs: &[Spec]) -> Result<Option<Vec<PathBuf>>, Failure> {
    let mut all = Vec::new();
    for spec in specs {
        match stack::files(&spec.source.stack()?)? {
            Some(files) => all.extend(files),
            None => return Ok(None),
        }
    }
    Ok(Some(all))
}

/// Only root may speak to the processes.
fn make_run_dir(dir: &Path) -> Result<(), Failure> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| {
        Failure::other(format!("cannot make the folder {}: {error}", dir.display()))
    })
}
