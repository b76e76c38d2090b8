//! One disk of a process: its storage is opened, and served until its end.

use super::entry::Entry;
use super::{Host, Reach, Sockets, first, privileges, run_dir, say};
use crate::disk::{Disk, Plugged, plug, verdict};
use crate::identity::Identity;
use crate::pool::Pool;
use crate::report::Report;
use crate::served::Served;
use crate::storage::{Pace, Storage};
use crate::{Failure, Vdev, adopt, control, stack};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use xen_blk::back::{Config, End, Handle};
use xen_blk::protocol::Units;
use xen_blk::toolstack;
use xen_linux::{Doorbell, LocalListener, SocketAccess, Streams};
use xen_platform::{Clock, DomId, deadline};

/// Most threads of a disk.
const THREADS: usize = 32;
/// Time for a program at a socket to ask its question.
pub(super) const QUESTION: Duration = Duration::from_secs(10);

impl Host {
    /// Serves a disk in the domain `front` until its end.
    pub(super) async fn serve_in(&self, entry: &Entry, front: DomId) -> Result<(), Failure> {
        let Some((storage, identity)) = self.open(entry).await? else { return Ok(()) };
        let spec = &entry.spec;
        let stack = identity.stack.clone();
        say(&format!("Operating on VM domain id: {front}"));
        let is_served =
            |device: &toolstack::Device| control::is_served(&control::socket(&run_dir(), device));
        let (device, plugged) =
            plug(&self.store, self.own(), front, spec.vdev, &identity, is_served).await?;
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
        self.serve_opened(entry, storage, stack, device, listener).await
    }

    /// Makes a disk's socket, and gives up privileges: before the disk's threads are made, and
    /// after all that needs them.
    pub(super) fn listen(
        &self,
        device: &toolstack::Device,
        stack: &str,
    ) -> Result<LocalListener, Failure> {
        let path = control::socket(&run_dir(), device);
        let listener = LocalListener::unix(&self.linux, &path, &SocketAccess::default());
        let listener = listener
            .map_err(|error| Failure::other(format!("cannot make the disk's socket: {error}")))?;
        self.give_up(stack, device.front).map(|()| listener)
    }

    /// Serves a disk whose storage is open and whose folders exist, until its end.
    pub(super) async fn serve_opened(
        &self,
        entry: &Entry,
        storage: Arc<dyn Storage>,
        stack: String,
        device: toolstack::Device,
        listener: LocalListener,
    ) -> Result<(), Failure> {
        let source = &entry.spec.source;
        let served = self.served(storage, source.readonly).on_enospc(source.on_enospc);
        let (handle, store) = (Handle::new(), self.store.clone());
        let disk = Rc::new(Disk { device, stack, served, handle, store });
        entry.ending.begin(disk.clone(), self.linux.now());
        let config =
            Config::default().with(|config| config.units = source.units.unwrap_or(Units::HEADER));
        let config = adopt::configure(&self.store, &disk.device, config).await?;
        let end = self.serve_disk(&disk, &config, listener).await;
        entry.ending.forget();
        verdict(&disk.name(), end?)
    }

    /// Opens the storage of a disk, and finds out which one it is: beside other disks on a thread
    /// of its own, since a store may not answer. `None` if the user ends that.
    pub(super) async fn open(
        &self,
        entry: &Entry,
    ) -> Result<Option<(Arc<dyn Storage>, Identity)>, Failure> {
        let source = entry.spec.source.clone();
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
            entry.ending.asked().await;
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
            let reads = Vec::new();
            privileges::restrict(&Reach {
                files,
                reads,
                run_dir,
                makes_sockets,
                network,
                servers,
            })?;
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
