//! A storage that does not answer: other disks of the same process, and questions about this one,
//! wait for nothing of it.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use xen_blk::back::{Config, Handle};
use xen_blk::front;
use xen_disk::control::{self, Answer, Question};
use xen_disk::disk::{Disk, KIND};
use xen_disk::pool::Pool;
use xen_disk::served::Served;
use xen_disk::storage::{Discard, Info, Ram, Storage};
use xen_platform::{Clock, DomId, deadline, sleep};
use xen_sim::xenstore::Xenstored;
use xen_sim::{Domain, Sim, Spawner};
use xen_store::Store;

/// Real time after which a test that hangs goes on, to fail.
const BOUND: Duration = Duration::from_secs(30);

/// A disk whose calls wait while it is stalled, and which holds a lock of its own meanwhile, also
/// one that [`Storage::info`] needs.
struct Stalls {
    disk: Ram,
    length: RwLock<()>,
    stalled: Mutex<bool>,
    released: Condvar,
    /// The thread that serves, which must not wait here.
    serving: ThreadId,
}

impl Stalls {
    fn new() -> Arc<Self> {
        Arc::new(Stalls {
            disk: Ram::new(1 << 20, 512),
            length: RwLock::new(()),
            stalled: Mutex::new(false),
            released: Condvar::new(),
            serving: thread::current().id(),
        })
    }

    fn stall(&self, stalled: bool) {
        *self.stalled.lock().unwrap() = stalled;
        self.released.notify_all();
    }

    fn slow(&self) {
        assert_ne!(thread::current().id(), self.serving, "a slow call on the thread that serves");
        let mut stalled = self.stalled.lock().unwrap();
        let start = Instant::now();
        while *stalled && start.elapsed() < BOUND {
            stalled = self.released.wait_timeout(stalled, BOUND).unwrap().0;
        }
    }
}

impl Storage for Stalls {
    fn info(&self) -> Info {
        let _held = self.length.read().unwrap();
        let discard = Some(Discard { granularity: 512, secure: false });
        Info { discard, ..self.disk.info() }
    }
    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.slow();
        self.disk.read(at, to)
    }
    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        self.slow();
        self.disk.write(at, from)
    }
    fn flush(&self) -> io::Result<()> {
        self.slow();
        Ok(())
    }
    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        let _held = self.length.write().unwrap();
        self.slow();
        self.disk.discard(at, len, secure)
    }
    fn resize(&self, bytes: u64) -> io::Result<()> {
        let _held = self.length.write().unwrap();
        self.slow();
        self.disk.resize(bytes)
    }
}

/// A domain with its processes.
#[derive(Clone)]
struct Host {
    domain: Domain,
    store: Store,
    spawner: Spawner,
}

impl Host {
    fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        self.spawner.spawn(&self.domain, work);
    }

    /// Serves `storage`, and attaches it as `guest`.
    async fn plug(
        &self,
        guest: &Host,
        vdev: u32,
        storage: Arc<dyn Storage>,
    ) -> (Rc<Disk>, Rc<front::Disk<Domain>>) {
        let device =
            xen_blk::toolstack::Device { front: DomId(1), back: DomId(0), vdev, kind: KIND.into() };
        xen_blk::toolstack::create(&self.store, &device, &Default::default()).await.unwrap();
        let served = Served::new(storage, Some(Pool::new(8, || ())), false, |_| ());
        let (handle, store, stack) = (Handle::new(), self.store.clone(), "own".into());
        let disk = Rc::new(Disk { device, stack, served, handle, store });
        let (host, serving) = (self.clone(), disk.clone());
        self.spawn(async move {
            let config =
                Config::default().with(|config| config.drain_timeout = Duration::from_secs(3));
            // A disk whose storage is stalled ends with an error.
            let _ = serving.serve(&host.domain, &host.store, &config).await;
        });
        let config = front::Config::default();
        let (attached, driver) =
            front::attach(&guest.domain, &guest.store, vdev, &config).await.unwrap();
        guest.spawn(async move { drop(driver.await) });
        (disk, Rc::new(attached))
    }
}

/// Runs `main` with a process in dom0 and one in a guest.
fn world<F: Future<Output = ()> + 'static>(main: impl FnOnce(Host, Host) -> F) {
    let (mut sim, xs) = (Sim::new(), Xenstored::new());
    xs.introduce(DomId(1));
    xs.set("/local/domain/1/device/vbd", "");
    xs.set("/local/domain/0/backend", "");
    let host = |domid: u16| {
        let domain = sim.domain(domid);
        let (from, to) = xs.connect(DomId(domid));
        let (store, driver) = xen_store::connect(from, to);
        sim.spawn(&domain, driver);
        Host { domain, store, spawner: sim.spawner() }
    };
    let main = main(host(0), host(1));
    let clock = sim.domain(0);
    let limit = Some(clock.now() + Duration::from_secs(3600));
    sim.run(async move { deadline(&clock, limit, main).await.expect("it hangs") });
}

/// Asks about `disk`, as a command does at its socket.
async fn ask(disk: &Disk, question: Question) -> Answer {
    let question = serde_json::to_vec(&question).unwrap();
    let (question, mut answer) = ([&question[..], b"\n"].concat(), vec![0; 1 << 16]);
    let mut rest = &mut answer[..];
    control::attend(disk, 1.0, &question[..], &mut rest).await;
    let left = rest.len();
    answer.truncate(answer.len() - left);
    serde_json::from_slice(&answer).unwrap()
}

/// Lets real time go by until `done`, while the simulator goes on.
async fn until(host: &Host, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < BOUND, "it did not end");
        thread::sleep(Duration::from_millis(1));
        sleep(&host.domain, Duration::from_micros(1)).await;
    }
}

/// Stalls a disk by the request that `stall` makes, and uses another one of the same process.
fn stalled_by<F: Future<Output = ()> + 'static>(
    stall: impl Fn(Rc<Disk>, Rc<front::Disk<Domain>>) -> F + 'static,
) {
    let start = Instant::now();
    world(|dom0, guest| async move {
        let stalls = Stalls::new();
        let (stalled, seen) = dom0.plug(&guest, 51728, stalls.clone()).await;
        let (_, live) = dom0.plug(&guest, 51744, Stalls::new()).await;
        stalls.stall(true);
        let ended = Rc::new(Cell::new(false));
        let (request, end) = (stall(stalled.clone(), seen.clone()), ended.clone());
        guest.spawn(async move {
            request.await;
            end.set(true);
        });
        sleep(&guest.domain, Duration::from_millis(1)).await;

        let used = Rc::new(Cell::new(false));
        let (user, done) = (live.clone(), used.clone());
        guest.spawn(async move {
            user.write(0, &[7; 4096]).await.unwrap();
            user.flush().await.unwrap();
            let mut bytes = [0; 4096];
            user.read(0, &mut bytes).await.unwrap();
            done.set(bytes == [7; 4096]);
        });
        until(&dom0, || used.get()).await;
        let Answer::Stats(report) = ask(&stalled, Question::Stats).await else {
            panic!("no counts")
        };
        assert_eq!((report.bytes, report.state.as_str()), (1 << 20, "Connected"));
        assert!(!ended.get() && stalled.served.storage_info().bytes == 1 << 20);

        // It can be taken away, and the other one stays.
        assert_eq!(ask(&stalled, Question::Force).await, Answer::Done);
        sleep(&dom0.domain, Duration::from_secs(200)).await;
        stalls.stall(false);
        let mut bytes = [0; 512];
        let (read, done) = (live.clone(), Rc::new(Cell::new(false)));
        let end = done.clone();
        guest.spawn(async move {
            read.read(0, &mut bytes).await.unwrap();
            end.set(bytes == [7; 512]);
        });
        until(&dom0, || done.get()).await;
    });
    assert!(start.elapsed() < BOUND, "it waited for the disk that is stalled");
}

#[test]
fn stalled_read_stops_no_other_disk_and_no_question() {
    stalled_by(|_, guest| async move { drop(guest.read(0, &mut [0; 512]).await) });
}

#[test]
fn stalled_write_stops_no_other_disk_and_no_question() {
    stalled_by(|_, guest| async move { drop(guest.write(0, &[1; 512]).await) });
}

#[test]
fn stalled_flush_stops_no_other_disk_and_no_question() {
    stalled_by(|_, guest| async move { drop(guest.flush().await) });
}

#[test]
fn stalled_discard_stops_no_other_disk_and_no_question() {
    stalled_by(|_, guest| async move { drop(guest.discard(0, 8, false).await) });
}

#[test]
fn stalled_resize_stops_no_other_disk_and_no_question() {
    stalled_by(|disk, _| async move {
        ask(&disk, Question::Resize { bytes: 2 << 20, shrink: false }).await;
    });
}

#[test]
fn server_that_hangs_is_not_waited_for() {
    let path = std::env::temp_dir().join(format!("xen-disk-hangs-{}", std::process::id()));
    // It accepts nothing, and in the end no more can wait for that.
    let listener = UnixListener::bind(&path).unwrap();
    let start = Instant::now();
    // More than may wait: SOMAXCONN.
    for _ in 0..5000 {
        assert!(control::is_served(&path), "one that hangs serves as well");
    }
    let failure = control::ask(&path, Question::Stats, Duration::from_millis(10)).unwrap_err();
    assert!(failure.text.contains("does not answer"), "{failure}");
    assert!(start.elapsed() < BOUND);
    drop(listener);
    assert!(!control::is_served(&path));
    std::fs::remove_file(&path).unwrap();
}
