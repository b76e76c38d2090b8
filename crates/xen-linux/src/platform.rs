//! The platform: the handle that opens devices and runs tasks.

use crate::reactor::Reactor;
use crate::sys::{self, Mapping};
use crate::{Error, LinuxChannel, LinuxGrant, LinuxMap, error};
use rustix::fd::OwnedFd;
use std::cell::{Cell, OnceCell};
use std::fs::OpenOptions;
use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Context, Poll};
use xen_exec::{Executor, Spawner, Turn};
use xen_platform::{
    Access, Channel, Clock, CopySegment, DomId, EventCounter, GrantRef, PAGE_SIZE, Platform, Port,
    Time,
};

/// The Linux domain that the program runs in. Clones are the same domain; devices are opened when
/// first needed.
#[derive(Clone)]
pub struct Linux(Rc<Inner>);

struct Inner {
    reactor: Reactor,
    devices: PathBuf,
    domid: Cell<Option<DomId>>,
    gntdev: OnceCell<Rc<OwnedFd>>,
    gntalloc: OnceCell<Rc<OwnedFd>>,
    privcmd: OnceCell<Option<OwnedFd>>,
    /// Memory for the arguments of hypercalls; `None` where there is no such device.
    hypercall_page: OnceCell<Option<Mapping>>,
    yields: EventCounter,
    resumes: EventCounter,
    fixed_yield: OnceCell<sys::FixedYield>,
}

impl Default for Linux {
    fn default() -> Self {
        Self::new()
    }
}

impl Linux {
    /// The domain, with its devices in `/dev/xen`.
    pub fn new() -> Self {
        Self::with_devices(Path::new("/dev/xen"))
    }

    fn with_devices(devices: &Path) -> Self {
        Linux(Rc::new(Inner {
            reactor: Reactor::new(),
            devices: devices.to_path_buf(),
            domid: Cell::new(None),
            gntdev: OnceCell::new(),
            gntalloc: OnceCell::new(),
            privcmd: OnceCell::new(),
            hypercall_page: OnceCell::new(),
            yields: EventCounter::new(),
            resumes: EventCounter::new(),
            fixed_yield: OnceCell::new(),
        }))
    }

    /// Runs the future that `main` makes until it ends, beside whatever it spawns; tasks left over
    /// are dropped then.
    ///
    /// # Panics
    /// If every task waits, and none for a descriptor or a time: nothing could ever end that.
    pub fn run<F: Future<Output: 'static> + 'static>(
        &self,
        main: impl FnOnce(Spawner) -> F,
    ) -> F::Output {
        let mut executor = Executor::new();
        let main = main(executor.spawner());
        executor.run(main, |turn| self.turn(turn))
    }

    /// The turn of an [`Executor`]: hands out what has happened; if no task can move, yields or
    /// waits first. For programs that keep the executor themselves.
    ///
    /// # Panics
    /// If no task can move, and none waits for a descriptor or a time.
    pub fn turn(&self, turn: Turn) {
        let yields = &self.0.yields;
        if turn == Turn::Busy || !yields.is_awaited() {
            return self.0.reactor.turn(turn);
        }
        self.yield_processor();
        self.0.reactor.turn(Turn::Busy);
    }

    /// Returns one descriptor for a program with an event loop of its own: readable while
    /// [`Linux::dispatch`] has something to do. It stays the same.
    ///
    /// Not for use beside [`Linux::run`], which waits for everything itself. The platform and all
    /// that is made with it stay on one thread: none of it is [`Send`].
    pub fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        self.0.reactor.descriptor()
    }

    /// Wakes the tasks whose descriptors are ready or whose time has come, without waiting. To be
    /// called when [`Linux::descriptor`] is readable.
    pub fn dispatch(&self) {
        if self.0.yields.is_awaited() {
            self.yield_processor();
        }
        self.0.reactor.dispatch();
    }

    /// Lets others have the processor, and wakes the tasks that wait for that.
    pub fn yield_processor(&self) {
        match (self.privcmd(), self.0.fixed_yield.get()) {
            (Some(privcmd), Some(fixed)) => fixed.yield_processor(privcmd),
            (Some(privcmd), None) => sys::yield_processor(privcmd),
            // Only to other programs of this domain.
            (None, _) => std::thread::yield_now(),
        }
        self.0.yields.signal();
    }

    /// Prepares yields for a program that is about to give up its system calls: the request of
    /// ioctl(2) by which it lets others have the processor, and the request's argument, an address
    /// at which nothing can be written. A filter that permits this request with this argument
    /// alone, and no call that maps, moves or unmaps anything at or below that address, permits no
    /// other hypercall. `None` if that cannot be; then yields are for other programs of this
    /// domain.
    pub fn prepare_yields(&self) -> Option<(u32, usize)> {
        self.privcmd()?;
        if self.0.fixed_yield.get().is_none() {
            // Not of use to the caller, which can do nothing about it.
            let _ = self.0.fixed_yield.set(sys::FixedYield::new().ok()?);
        }
        self.0.fixed_yield.get().map(sys::FixedYield::request)
    }

    /// The device that passes hypercalls on, if this program may.
    fn privcmd(&self) -> Option<&OwnedFd> {
        self.0.privcmd.get_or_init(|| self.open("privcmd", "xen-privcmd").ok()).as_ref()
    }

    /// Returns whether `port` is bound to another domain's; `None` if this program may not ask Xen.
    pub(crate) fn is_interdomain(&self, port: Port) -> Option<bool> {
        let privcmd = self.privcmd()?;
        let page = self.0.hypercall_page.get_or_init(|| {
            let device = self.open("hypercall", "xen-privcmd").ok()?;
            Mapping::new(device, 0, PAGE_SIZE, Access::ReadWrite).ok()
        });
        sys::is_interdomain(privcmd, page.as_ref()?, port).ok()
    }

    pub(crate) fn reactor(&self) -> &Reactor {
        &self.0.reactor
    }

    pub(crate) fn set_domid(&self, domid: DomId) {
        self.0.domid.set(Some(domid));
    }

    /// Opens a device of this program's own, so that its mode concerns nobody else.
    pub(crate) fn open(&self, name: &str, module: &str) -> Result<OwnedFd, Error> {
        let path = self.0.devices.join(name);
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let fd = sys::owned(opened.map_err(|reason| error::open(&path, module, reason))?);
        rustix::io::ioctl_fionbio(&fd, true)
            .map_err(|errno| error::open(&path, module, crate::reactor::os_error(errno)))?;
        Ok(fd)
    }

    pub(crate) fn gntdev(&self) -> Result<Rc<OwnedFd>, Error> {
        self.open_once(&self.0.gntdev, "gntdev", "xen-gntdev")
    }

    pub(crate) fn gntalloc(&self) -> Result<Rc<OwnedFd>, Error> {
        self.open_once(&self.0.gntalloc, "gntalloc", "xen-gntalloc")
    }

    fn open_once(
        &self,
        device: &OnceCell<Rc<OwnedFd>>,
        name: &str,
        module: &str,
    ) -> Result<Rc<OwnedFd>, Error> {
        if let Some(fd) = device.get() {
            return Ok(fd.clone());
        }
        let fd = Rc::new(self.open(name, module)?);
        Ok(device.get_or_init(|| fd).clone())
    }
}

impl Clock for Linux {
    fn now(&self) -> Time {
        self.0.reactor.now()
    }

    fn poll_until(&self, at: Time, cx: &mut Context<'_>) -> Poll<()> {
        self.0.reactor.poll_until(at, cx)
    }
}

impl Platform for Linux {
    type Grant = LinuxGrant;
    type Map = LinuxMap;
    type Channel = LinuxChannel;
    type Error = Error;

    fn yields(&self) -> &EventCounter {
        // A task is about to wait for one, perhaps while the event loop of the program sleeps.
        self.0.reactor.kick();
        &self.0.yields
    }

    /// Never signalled: Linux does not tell its programs that their domain was restored.
    fn resumes(&self) -> &EventCounter {
        &self.0.resumes
    }

    fn is_local(error: &Error) -> bool {
        error.is_local()
    }

    /// Known once [`open_store`](crate::open_store) has read it there.
    fn domid(&self) -> Option<DomId> {
        self.0.domid.get()
    }

    fn share(&self, peer: DomId, pages: usize) -> Result<LinuxGrant, Error> {
        LinuxGrant::share(self, peer, pages, Access::ReadWrite)
    }

    fn share_read_only(&self, peer: DomId, pages: usize) -> Result<LinuxGrant, Error> {
        LinuxGrant::share(self, peer, pages, Access::ReadOnly)
    }

    fn map(&self, peer: DomId, refs: &[GrantRef], access: Access) -> Result<LinuxMap, Error> {
        LinuxMap::map(self, peer, refs, access)
    }

    fn copy(&self, peer: DomId, pieces: &mut [CopySegment<'_>]) -> Result<(), Error> {
        let gntdev = self.gntdev()?;
        sys::copy_segments(&*gntdev, peer, pieces)
            .map_err(|reason| error::copy(pieces.len(), peer, reason))
    }

    fn listen(&self, peer: DomId) -> Result<LinuxChannel, Error> {
        LinuxChannel::listen(self, peer)
    }

    fn connect(&self, peer: DomId, port: Port) -> Result<LinuxChannel, Error> {
        LinuxChannel::connect(self, peer, port)
    }

    fn clear_grant_on_death(
        &self,
        grant: &LinuxGrant,
        at: usize,
        channel: &LinuxChannel,
    ) -> Result<(), Error> {
        grant.clear_on_death(at, channel.port())
    }

    fn clear_map_on_death(
        &self,
        map: &LinuxMap,
        at: usize,
        channel: &LinuxChannel,
    ) -> Result<(), Error> {
        map.clear_on_death(at, channel.port())?;
        channel.depends_on(map.first());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_platform::yield_now;

    #[test]
    fn a_missing_device_is_named_with_its_module() {
        let linux = Linux::with_devices(Path::new("/nowhere"));
        let says = |error: Option<Error>, device: &str| {
            let text = error.unwrap().to_string();
            if !error::is_domain() {
                return assert!(text.starts_with("this is no Xen domain"), "{text}");
            }
            assert!(
                text.starts_with(&format!("cannot open /nowhere/{device}: No such file")),
                "{text}"
            );
            assert!(text.ends_with(&format!("load the module: modprobe xen-{device}")), "{text}");
        };
        says(linux.connect(DomId(2), Port(4)).err(), "evtchn");
        says(linux.listen(DomId(2)).err(), "evtchn");
        says(linux.map(DomId(2), &[GrantRef(8)], Access::ReadOnly).err(), "gntdev");
        says(
            linux.copy(DomId(2), &mut [CopySegment::to_peer(GrantRef(8), 0, b"x")]).err(),
            "gntdev",
        );
        says(linux.share(DomId(2), 1).err(), "gntalloc");
    }

    #[test]
    fn a_yield_ends_without_the_device_and_lets_other_tasks_go_first() {
        let linux = Linux::with_devices(Path::new("/nowhere"));
        let moved = linux.run(|spawner| {
            let linux = linux.clone();
            async move {
                let moved = Rc::new(Cell::new(0));
                let other = moved.clone();
                spawner.spawn(async move {
                    for _ in 0..3 {
                        xen_exec::yield_now().await;
                        other.set(other.get() + 1);
                    }
                });
                yield_now(&linux).await;
                moved.get()
            }
        });
        assert_eq!(moved, 3);
    }

    #[test]
    fn a_device_that_is_something_else_is_refused_with_a_reason() {
        let devices =
            std::env::temp_dir().join(format!("xen-linux-devices-{}", std::process::id()));
        std::fs::create_dir_all(&devices).unwrap();
        for name in ["evtchn", "gntdev", "gntalloc"] {
            std::fs::write(devices.join(name), "").unwrap();
        }
        let linux = Linux::with_devices(&devices);
        let connect = linux.connect(DomId(2), Port(4)).err().unwrap().to_string();
        let map = linux
            .map(DomId(2), &[GrantRef(8), GrantRef(9)], Access::ReadWrite)
            .err()
            .unwrap()
            .to_string();
        let share = linux.share(DomId(2), 3).err().unwrap().to_string();
        std::fs::remove_dir_all(&devices).unwrap();
        assert!(connect.starts_with("cannot bind to event channel 4 of domain 2: "), "{connect}");
        assert!(map.starts_with("cannot map 2 grants (8 to 9) of domain 2: "), "{map}");
        assert!(share.starts_with("cannot share 3 pages with domain 2: "), "{share}");
    }
}
