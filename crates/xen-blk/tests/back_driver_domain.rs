//! Disks that a domain other than dom0 serves: xenstore hides from it most of what dom0 is told,
//! and the toolstack in dom0 makes the folders.

mod back_common;

use back_common::{GUEST, Host, XVDA, XVDB, pattern};
use std::rc::Rc;
use std::time::Duration;
use xen_abi::xenbus::State;
use xen_blk::back::{self, Config, End, Finder, Handle, Ram};
use xen_blk::front::{self, Disk};
use xen_blk::toolstack::{self, Attributes, Device, VBD};
use xen_platform::{Clock, DomId, deadline, sleep};
use xen_sim::{Domain, Sim, Task};

const DOM0: DomId = DomId(0);
/// The domain that serves.
const DRIVER: DomId = DomId(2);

fn device(vdev: u32) -> Device {
    Device { front: GUEST, back: DRIVER, vdev, kind: VBD.into() }
}

/// A world with a toolstack, a domain that serves and one that is served.
struct World {
    bench: xen_sim::Bench,
    toolstack: Host,
    driver: Host,
    guest: Host,
}

impl World {
    fn new() -> World {
        let bench = xen_sim::Bench::new(Sim::new(), |xs| {
            for guest in [GUEST, DRIVER] {
                xs.introduce(guest);
                xs.set(&format!("/local/domain/{guest}/device/vbd"), "");
            }
            // The folders above a backend's are dom0's, even with driver_domain=1.
            xs.set("/local/domain/2/backend", "");
        });
        let host = |domid| Host::new(&bench.sim, &bench.xs, domid);
        let (toolstack, driver, guest) = (host(DOM0), host(DRIVER), host(GUEST));
        World { bench, toolstack, driver, guest }
    }
}

/// Serves a disk of 1024 sectors.
fn serve(driver: &Host, device: Device, config: Config) -> Task<Result<End, back::Error>> {
    let host = driver.clone();
    driver.spawner().spawn(&driver.domain, async move {
        let (ram, handle) = (Rc::new(Ram::with_sectors(1024)), Handle::new());
        back::serve(&host.domain, &host.store, &device, &*ram, &config, &handle).await
    })
}

fn config() -> Config {
    Config::default().with(|config| config.leave_folders = true)
}

async fn works(disk: &Disk<Domain>) {
    let (bytes, mut got) = (pattern(8192, 3), vec![0; 8192]);
    disk.write(16, &bytes).await.unwrap();
    disk.read(16, &mut got).await.unwrap();
    assert_eq!(got, bytes);
}

/// Has the toolstack ask for the end of a disk, as libxl does.
fn detach(toolstack: &Host, device: &Device) {
    let path = device.back_path();
    toolstack.xs.set(&format!("{path}/online"), "0");
    if state(toolstack, &path).as_deref() != Some("6") {
        toolstack.xs.set(&format!("{path}/state"), State::CLOSING.0.to_string());
    }
}

async fn create(toolstack: &Host, device: &Device) {
    toolstack::create(&toolstack.store, device, &Attributes::default()).await.unwrap();
}

fn state(host: &Host, folder: &str) -> Option<String> {
    host.xs.get(&format!("{folder}/state")).map(|state| String::from_utf8(state).unwrap())
}

#[test]
fn disk_of_a_driver_domain_is_found_served_and_withdrawn() {
    let World { mut bench, toolstack, driver, guest } = World::new();
    bench.run(async move {
        let mut finder = Finder::new(&driver.domain, &driver.store, DRIVER, VBD).await.unwrap();
        for vdev in [XVDA, XVDB, XVDA] {
            let device = device(vdev);
            create(&toolstack, &device).await;
            assert_eq!(finder.next().await.unwrap(), device);
            let serving = serve(&driver, device.clone(), config());
            let (disk, end) = guest.attach(vdev, &front::Config::default()).await;
            works(&disk).await;
            detach(&toolstack, &device);
            assert_eq!(serving.join().await, Ok(End::Stopped));
            end.join().await;
            assert_eq!(state(&driver, &device.back_path()).as_deref(), Some("6"));
            assert!(toolstack::withdraw(&driver.store, &device).await.unwrap());
            assert_eq!(driver.xs.get(&device.back_path()), None);
            finder.forget(&device);
            toolstack::remove(&toolstack.store, &device).await.unwrap();
        }
    });
}

#[test]
fn finder_reports_a_disk_once_until_it_is_forgotten() {
    let World { mut bench, toolstack, driver, .. } = World::new();
    bench.run(async move {
        let (device, other) = (device(XVDA), device(XVDB));
        create(&toolstack, &device).await;
        let mut finder = Finder::new(&driver.domain, &driver.store, DRIVER, VBD).await.unwrap();
        assert_eq!(finder.next().await.unwrap(), device);
        let until = Some(driver.domain.now() + Duration::from_secs(1));
        assert!(deadline(&driver.domain, until, finder.next()).await.is_err());
        // A folder that has had its backend is none of a new disk.
        create(&toolstack, &other).await;
        driver.xs.set(&format!("{}/state", other.back_path()), State::CLOSED.0.to_string());
        let until = Some(driver.domain.now() + Duration::from_secs(1));
        assert!(deadline(&driver.domain, until, finder.next()).await.is_err());
        finder.forget(&device);
        assert_eq!(finder.next().await.unwrap(), device);
        // One whose backend was killed is for those alone that ask for such disks.
        driver.xs.set(&format!("{}/state", other.back_path()), State::CONNECTED.0.to_string());
        let until = Some(driver.domain.now() + Duration::from_secs(1));
        assert!(deadline(&driver.domain, until, finder.next()).await.is_err());
        let mut finder = finder.with_abandoned();
        assert_eq!(finder.next().await.unwrap(), other);
        for device in [device, other] {
            toolstack::remove(&toolstack.store, &device).await.unwrap();
        }
    });
}

#[test]
fn finder_ignores_names_that_are_no_disks() {
    let World { mut bench, toolstack, driver, .. } = World::new();
    bench.run(async move {
        for name in ["x/1", "1/x", "70000/1", "1/99999999999", "1"] {
            driver.xs.set(&format!("/local/domain/2/backend/vbd/{name}/state"), "1");
        }
        let mut finder = Finder::new(&driver.domain, &driver.store, DRIVER, VBD).await.unwrap();
        create(&toolstack, &device(XVDA)).await;
        assert_eq!(finder.next().await.unwrap(), device(XVDA));
        toolstack::remove(&toolstack.store, &device(XVDA)).await.unwrap();
        driver.xs.remove("/local/domain/2/backend/vbd");
    });
}

/// No guest may watch `@releaseDomain` or ask for domains.
#[test]
fn destroyed_frontend_of_a_driver_domain_is_noticed() {
    let World { mut bench, toolstack, driver, guest } = World::new();
    let world = bench.sim.world().clone();
    bench.run(async move {
        let device = device(XVDA);
        create(&toolstack, &device).await;
        let serving = serve(&driver, device.clone(), config());
        let (disk, _) = guest.attach(XVDA, &front::Config::default()).await;
        works(&disk).await;
        drop((disk, guest));
        world.destroy(GUEST);
        assert_eq!(serving.join().await, Ok(End::Gone));
        assert!(toolstack::withdraw(&driver.store, &device).await.unwrap());
        toolstack::remove(&toolstack.store, &device).await.unwrap();
    });
}

/// The frontend's folder is the frontend's: it may hide what is in it.
#[test]
fn frontend_that_hides_its_keys_ends_its_connection_alone() {
    let World { mut bench, toolstack, driver, guest } = World::new();
    bench.run(async move {
        let device = device(XVDA);
        create(&toolstack, &device).await;
        let serving = serve(&driver, device.clone(), config());
        let (front, back) = (device.front_path(), device.back_path());
        guest.xs.set(&format!("{front}/event-channel"), "5");
        guest.xs.set_permissions(&format!("{front}/event-channel"), "n1");
        guest.xs.set(&format!("{front}/state"), State::INITIALISED.0.to_string());
        while state(&driver, &back).as_deref() != Some("5") {
            driver.moment().await;
        }
        let error = String::from_utf8(driver.xs.get(&format!("{back}/error")).unwrap()).unwrap();
        assert!(error.contains("event-channel"), "{error}");
        guest.xs.remove(&format!("{front}/event-channel"));
        guest.xs.set(&format!("{front}/state"), State::CLOSED.0.to_string());
        while state(&driver, &back).as_deref() != Some("6") {
            driver.moment().await;
        }
        guest.xs.set(&format!("{front}/state"), State::INITIALISING.0.to_string());
        let (disk, _) = guest.attach(XVDA, &front::Config::default()).await;
        works(&disk).await;
        disk.close().await;
        // Hidden as a whole it is as good as gone.
        guest.xs.set_permissions(&format!("{front}/state"), "n1");
        assert_eq!(serving.join().await, Ok(End::Gone));
        assert!(toolstack::withdraw(&driver.store, &device).await.unwrap());
        toolstack::remove(&toolstack.store, &device).await.unwrap();
    });
}

/// libxl waits for the state `InitWait`, and never ends if it only finds later ones.
#[test]
fn offer_stands_as_long_as_it_is_to() {
    let World { mut bench, toolstack, driver, guest } = World::new();
    bench.run(async move {
        let device = device(XVDA);
        create(&toolstack, &device).await;
        let begun = driver.domain.now();
        let offer_time = Duration::from_millis(400);
        let config = config().with(|config| config.offer_time = offer_time);
        let serving = serve(&driver, device.clone(), config);
        let attaching = guest.clone();
        let attached = guest.spawner().spawn(&guest.domain, async move {
            attaching.attach(XVDA, &front::Config::default()).await
        });
        for _ in 0..38 {
            driver.moment().await;
            assert_eq!(state(&driver, &device.back_path()).as_deref(), Some("2"));
        }
        let (disk, _) = attached.join().await;
        assert!(driver.domain.now() >= begun + offer_time);
        works(&disk).await;
        // Later connections are made at once.
        disk.close().await;
        sleep(&driver.domain, Duration::from_millis(50)).await;
        let begun = driver.domain.now();
        let (disk, _) = guest.attach(XVDA, &front::Config::default()).await;
        assert!(driver.domain.now() < begun + offer_time);
        detach(&toolstack, &device);
        assert_eq!(serving.join().await, Ok(End::Stopped));
        drop(disk);
        toolstack::remove(&toolstack.store, &device).await.unwrap();
    });
}

/// libxl leaves the state of a backend that is closed as it is.
#[test]
fn disk_whose_frontend_has_closed_is_detached() {
    let World { mut bench, toolstack, driver, guest } = World::new();
    bench.run(async move {
        let device = device(XVDA);
        create(&toolstack, &device).await;
        let serving = serve(&driver, device.clone(), config());
        let (disk, _) = guest.attach(XVDA, &front::Config::default()).await;
        disk.close().await;
        let front = format!("{}/state", device.front_path());
        guest.xs.set(&front, State::CLOSED.0.to_string());
        while state(&driver, &device.back_path()).as_deref() != Some("6") {
            driver.moment().await;
        }
        detach(&toolstack, &device);
        assert_eq!(serving.join().await, Ok(End::Closed));
        toolstack::remove(&toolstack.store, &device).await.unwrap();
    });
}

/// A frontend that does not wait for an offer does not keep it from being made.
#[test]
fn offer_is_made_to_a_frontend_that_does_not_wait_for_it() {
    let World { mut bench, toolstack, driver, guest } = World::new();
    bench.run(async move {
        let device = device(XVDA);
        create(&toolstack, &device).await;
        guest.xs.set(&format!("{}/state", device.front_path()), State::INITIALISED.0.to_string());
        let config = config().with(|config| config.offer_time = Duration::from_millis(100));
        let serving = serve(&driver, device.clone(), config);
        for _ in 0..8 {
            driver.moment().await;
            assert_eq!(state(&driver, &device.back_path()).as_deref(), Some("2"));
        }
        toolstack::remove(&toolstack.store, &device).await.unwrap();
        assert_eq!(serving.join().await, Ok(End::Removed));
    });
}

#[test]
fn withdraw_leaves_a_disk_that_was_made_anew() {
    let World { mut bench, toolstack, driver, .. } = World::new();
    bench.run(async move {
        let device = device(XVDA);
        create(&toolstack, &device).await;
        assert!(!toolstack::withdraw(&driver.store, &device).await.unwrap());
        assert_eq!(state(&driver, &device.back_path()).as_deref(), Some("1"));
        toolstack::remove(&toolstack.store, &device).await.unwrap();
        assert!(!toolstack::withdraw(&driver.store, &device).await.unwrap());
    });
}

#[test]
fn ram_that_there_is_no_memory_for_is_refused() {
    assert!(Ram::try_with_sectors(u64::MAX / 512).is_err());
    assert!(Ram::try_with_sectors(1 << 53).is_err());
    let ram = Ram::try_with_sectors(8).unwrap();
    let mut got = [1; 4096];
    ram.peek(0, &mut got);
    assert_eq!(got, [0; 4096]);
}
