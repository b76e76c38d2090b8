//! Disks that xl makes, in the simulator: libxl's keys, `xen-disk serve`'s answer, the server that
//! adopts the disk, and the frontend.

use std::future::Future;
use std::process::{Child, Command};
use std::rc::Rc;
use std::time::Duration;
use xen_blk::back::{Config, End, Handle};
use xen_blk::front;
use xen_blk::toolstack::{self, Device};
use xen_disk::adopt::{self, PHY, TAP, adopt, parse_device, welcome};
use xen_disk::disk::{Disk, Plugged};
use xen_disk::identity::{self as id, Identity};
use xen_disk::served::Served;
use xen_disk::stack::{Files, build};
use xen_disk::{Code, Vdev};
use xen_platform::{Clock, DomId, deadline, sleep};
use xen_sim::xenstore::Xenstored;
use xen_sim::{Domain, Sim, Spawner};
use xen_store::Store;

const DOM0: DomId = DomId(0);
const GUEST: DomId = DomId(1);
/// A driver domain.
const DRIVER: DomId = DomId(2);

/// A process in a domain.
#[derive(Clone)]
struct Host {
    domain: Domain,
    store: Store,
    spawner: Spawner,
}

/// Runs `main` with processes in dom0 and in a guest.
fn world<F: Future<Output = ()> + 'static>(main: impl FnOnce(Host, Host, Xenstored) -> F) {
    world_with_driver(|dom0, _, guest, xs| main(dom0, guest, xs))
}

/// The same with a process in a driver domain.
fn world_with_driver<F: Future<Output = ()> + 'static>(
    main: impl FnOnce(Host, Host, Host, Xenstored) -> F,
) {
    let (mut sim, xs) = (Sim::new(), Xenstored::new());
    xs.introduce(GUEST);
    xs.introduce(DRIVER);
    xs.set("/local/domain/1/device/vbd", "");
    xs.set("/local/domain/0/backend", "");
    xs.set("/local/domain/2/backend", "");
    let host = |domid: DomId| {
        let domain = sim.domain(domid.0);
        let (from, to) = xs.connect(domid);
        let (store, driver) = xen_store::connect(from, to);
        sim.spawn(&domain, driver);
        Host { domain, store, spawner: sim.spawner() }
    };
    let main = main(host(DOM0), host(DRIVER), host(GUEST), xs.clone());
    let clock = sim.domain(0);
    let limit = Some(clock.now() + Duration::from_secs(3600));
    sim.run(async move { deadline(&clock, limit, main).await.expect("it hangs") });
}

/// Makes the folders of a disk of dom0 as libxl does.
async fn libxl_adds(store: &Store, kind: &str, params: &str) -> Device {
    libxl_adds_for(store, DOM0, kind, params).await
}

/// The same for a disk of the domain `by`.
async fn libxl_adds_for(store: &Store, by: DomId, kind: &str, params: &str) -> Device {
    let device = parse_device(&format!("backend/{kind}/1/51712"), by).unwrap();
    let back_id = by.to_string();
    let (front, back) = (device.front_path(), device.back_path());
    for (folder, other, keys) in [
        (
            &front,
            &back,
            [("backend-id", &*back_id), ("virtual-device", "51712"), ("state", "1")].as_slice(),
        ),
        (
            &back,
            &front,
            &[
                ("frontend-id", "1"),
                ("params", params),
                ("script", "/etc/xen/scripts/block-ringside"),
                ("online", "1"),
                ("mode", "w"),
                ("discard-enable", "1"),
                ("state", "1"),
            ],
        ),
    ] {
        store.mkdir(folder).await.unwrap();
        let (owner, reader) = if folder == &front { (GUEST, by) } else { (by, GUEST) };
        let permissions =
            xen_store::Permissions::shared_with(owner, reader, xen_store::Access::Read);
        store.set_permissions(folder, &permissions).await.unwrap();
        let link = if folder == &front { "backend" } else { "frontend" };
        store.write(&format!("{folder}/{link}"), other.as_bytes()).await.unwrap();
        for (key, value) in keys {
            store.write(&format!("{folder}/{key}"), value.as_bytes()).await.unwrap();
        }
    }
    device
}

/// Removes a disk as libxl does: with `force`, its frontend first.
async fn libxl_removes(host: &Host, device: &Device, force: bool) {
    let key = |name: &str| format!("{}/{name}", device.back_path());
    let removal = host.store.transaction(async |tx| {
        if force {
            tx.rm(&device.front_path()).await?;
        }
        tx.write(&key("online"), b"0").await?;
        tx.write(&key("state"), b"5").await
    });
    removal.await.unwrap();
    while host.store.read(&key("state")).await.unwrap() != b"6" {
        sleep(&host.domain, Duration::from_millis(50)).await;
    }
    for folder in [device.front_path(), device.back_path()] {
        let _ = host.store.rm(&folder).await;
    }
}

/// Adopts and serves `device`, and returns its end.
async fn serve(host: &Host, device: &Device) -> xen_sim::Task<End> {
    let source = adopt::source(&host.store, device).await.unwrap();
    let stack = source.stack().unwrap();
    let storage = build(&stack, &Files::default()).unwrap();
    let identity = Identity::of(&*storage, &stack, source.readonly);
    let plugged = adopt(&host.store, device, &identity, |_| false).await.unwrap();
    assert_eq!(plugged, Plugged::New);
    let config = adopt::configure(&host.store, device, Config::default()).await.unwrap();
    let served = Served::new(storage, None, source.readonly, |_| ());
    let (device, handle, store) = (device.clone(), Handle::new(), host.store.clone());
    let disk = Rc::new(Disk { device, stack, served, handle, store });
    let host = host.clone();
    host.clone().spawner.spawn(&host.domain.clone(), async move {
        disk.serve(&host.domain, &host.store, &config).await.unwrap()
    })
}

/// Attaches the disk, as the guest, and writes to it.
async fn use_it(guest: &Host) -> front::Disk<Domain> {
    let config = front::Config::default();
    let (disk, driver) = front::attach(&guest.domain, &guest.store, 51712, &config).await.unwrap();
    guest.spawner.spawn(&guest.domain, async move { drop(driver.await) });
    disk.write(0, &[7; 4096]).await.unwrap();
    disk
}

/// Another process that lives until it is dropped, and the value of the key `server` for it.
struct Other(Child);

impl Other {
    fn new() -> Self {
        Other(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn key(&self) -> String {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        format!("{} {}", self.0.id(), stat.split(' ').nth(21).unwrap())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn disk_of_each_kind_is_served_until_xl_takes_it_away() {
    for (kind, params) in [(TAP, "aio:ram:size=1M"), (PHY, "ram:size=1M")] {
        for force in [false, true] {
            world(move |dom0, guest, _| async move {
                let device = libxl_adds(&dom0.store, kind, params).await;
                let end = serve(&dom0, &device).await;
                let known = adopt::list(&dom0.store, DOM0).await.unwrap();
                assert_eq!(known, std::slice::from_ref(&device));
                let found = adopt::find(&dom0.store, DOM0, GUEST, Vdev(51712)).await.unwrap();
                assert_eq!(found, device);
                let disk = use_it(&guest).await;
                libxl_removes(&dom0, &device, force).await;
                let end = end.join().await;
                assert_eq!(end, if force { End::Gone } else { End::Stopped });
                assert!(disk.write(0, &[7; 512]).await.is_err());
            });
        }
    }
}

#[test]
fn folders_stay_when_the_domain_ends_before_xl_comes() {
    world(|dom0, guest, xs| async move {
        let device = libxl_adds(&dom0.store, TAP, "aio:ram:size=1M").await;
        let end = serve(&dom0, &device).await;
        let _disk = use_it(&guest).await;
        xs.set(&format!("{}/state", device.front_path()), "");
        dom0.store.rm(&device.front_path()).await.unwrap();
        xs.release(GUEST);
        assert_eq!(end.join().await, End::Gone);
        let state = dom0.store.read(&format!("{}/state", device.back_path())).await.unwrap();
        assert_eq!(state, b"6");
    });
}

#[test]
fn disk_waits_for_its_script_in_init_wait() {
    world(|dom0, guest, xs| async move {
        let told = Rc::new(std::cell::Cell::new(0));
        let (host, count) = (dom0.clone(), told.clone());
        dom0.spawner.spawn(&dom0.domain, async move {
            welcome(&host.store, DOM0, |_| count.set(count.get() + 1)).await.unwrap();
        });
        let pause = async || sleep(&dom0.domain, Duration::from_secs(1)).await;
        pause().await;
        // A disk with another script is another program's.
        let device = parse_device(&format!("backend/{TAP}/1/51728"), DOM0).unwrap();
        for (key, value) in [("script", "/etc/xen/scripts/block-tap"), ("state", "1")] {
            xs.set(&format!("{}/{key}", device.back_path()), value);
        }
        let device = libxl_adds(&dom0.store, TAP, "aio:ram:size=1M").await;
        pause().await;
        let key = |name: &str| format!("{}/{name}", device.back_path());
        assert_eq!((told.get(), xs.get(&key("state"))), (1, Some(b"2".to_vec())));
        assert_eq!(xs.get(&key("multi-queue-max-queues")), Some(b"1".to_vec()));
        assert_eq!(xs.get("/local/domain/0/backend/vbd3/1/51728/state"), Some(b"1".to_vec()));
        // The guest can publish before the server is there.
        let config = front::Config::default();
        let (host, waiting) = (guest.clone(), guest.spawner.clone());
        let attaching = waiting.spawn(&guest.domain, async move {
            front::attach(&host.domain, &host.store, 51712, &config).await.unwrap()
        });
        pause().await;
        assert_eq!(xs.get(&format!("{}/state", device.front_path())), Some(b"3".to_vec()));
        let end = serve(&dom0, &device).await;
        let (disk, driver) = attaching.join().await;
        guest.spawner.spawn(&guest.domain, async move { drop(driver.await) });
        disk.write(0, &[7; 512]).await.unwrap();
        libxl_removes(&dom0, &device, false).await;
        assert_eq!(end.join().await, End::Stopped);
    });
}

#[test]
fn disk_is_adopted_by_one_server_and_again_after_it_was_killed() {
    let path = std::env::temp_dir().join(format!("xen-disk-adopt-{}", std::process::id()));
    std::fs::write(&path, vec![0; 1 << 20]).unwrap();
    let params = path.display().to_string();
    world(|dom0, _, _| async move {
        let device = libxl_adds(&dom0.store, PHY, &params).await;
        let stack = adopt::source(&dom0.store, &device).await.unwrap().stack().unwrap();
        let identity = Identity::of(&*build(&stack, &Files::default()).unwrap(), &stack, false);
        let server = format!("{}/{}", device.back_path(), id::SERVER);
        let adopted = async || adopt(&dom0.store, &device, &identity, |_| false).await;
        assert_eq!(adopted().await, Ok(Plugged::New));
        let other = Other::new();
        dom0.store.write(&server, other.key().as_bytes()).await.unwrap();
        let refused = adopted().await.unwrap_err();
        assert_eq!(refused.code, Code::Usage);
        assert!(refused.text.contains("is served already, by process"), "{refused}");
        drop(other);
        assert_eq!(adopted().await, Ok(Plugged::TakenOver));
        // Another disk is not put under the guest, and the cure is xl's.
        let wrong = Identity { storage: Some("another".into()), ..identity.clone() };
        let refused = adopt(&dom0.store, &device, &wrong, |_| false).await.unwrap_err();
        assert!(refused.text.contains("xl block-detach 1 xvda"), "{refused}");
        dom0.store.write(&format!("{}/state", device.back_path()), b"5").await.unwrap();
        assert_eq!(adopted().await.unwrap_err().code, Code::Gone);
    });
    std::fs::remove_file(&path).unwrap();
}

/// In a driver domain, libxl runs no script: it must find the state `InitWait`, and the server that
/// was killed leaves its disk to the next.
#[test]
fn disk_of_a_driver_domain_is_served_and_gone_on_with() {
    let path = std::env::temp_dir().join(format!("xen-disk-driver-{}", std::process::id()));
    std::fs::write(&path, vec![0; 1 << 20]).unwrap();
    let params = path.display().to_string();
    world_with_driver(|dom0, driver, guest, xs| async move {
        let device = libxl_adds_for(&dom0.store, DRIVER, PHY, &params).await;
        assert!(adopt::is_ours(&driver.store, &device).await.unwrap());
        let config = adopt::configure(&driver.store, &device, Config::default()).await.unwrap();
        assert_eq!((config.offer_time, config.leave_folders), (adopt::SEEN, true));
        let end = serve(&driver, &device).await;
        let disk = use_it(&guest).await;
        assert!(adopt::is_abandoned(&driver.store, &device).await.unwrap());
        // The frontend of a server that was killed is connected, and needs no offer.
        let config = adopt::configure(&driver.store, &device, Config::default()).await.unwrap();
        assert_eq!(config.offer_time, Duration::ZERO);
        adopt::refuse(&driver.store, &device, "its image is in use").await.unwrap();
        disk.write(0, &[8; 512]).await.unwrap();
        let key = |name: &str| format!("{}/{name}", device.back_path());
        xs.set(&key("online"), "0");
        xs.set(&key("state"), "5");
        assert_eq!(end.join().await, End::Stopped);
        assert!(toolstack::withdraw(&driver.store, &device).await.unwrap());
        assert!(!adopt::is_abandoned(&driver.store, &device).await.unwrap());
        assert_eq!(xs.get(&key("state")), None);
    });
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn new_disk_of_a_driver_domain_is_refused_with_the_reason() {
    world_with_driver(|dom0, driver, _, xs| async move {
        let device = libxl_adds_for(&dom0.store, DRIVER, PHY, "/nowhere").await;
        adopt::refuse(&driver.store, &device, "there is no /nowhere").await.unwrap();
        let key = |name: &str| xs.get(&format!("{}/{name}", device.back_path()));
        assert_eq!(key("state"), Some(b"6".to_vec()));
        assert_eq!(key("hotplug-error"), Some(b"there is no /nowhere".to_vec()));
        assert!(toolstack::withdraw(&driver.store, &device).await.unwrap());
    });
}
