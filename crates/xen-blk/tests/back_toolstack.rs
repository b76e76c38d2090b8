//! A toolstack's part: the folders, their readers, numbers for disks, and the remains of dead ones.

mod back_common;

use back_common::*;
use xen_blk::protocol::vdev;
use xen_blk::toolstack::{self, Attributes, Device};
use xen_platform::DomId;
use xen_store::ErrorKind;

#[test]
fn folders_are_readable_by_both_ends_only() {
    let mut bench = Bench::new();
    let (dom0, guest, other) = (bench.host(DOM0), bench.host(GUEST), bench.host(DomId(2)));
    let xs = bench.xs.clone();
    bench.run(async move {
        let device = device(XVDB);
        let attributes = Attributes {
            cdrom: true,
            read_only: true,
            params: "disk.raw".into(),
            ..Attributes::default()
        };
        toolstack::create(&dom0.store, &device, &attributes).await.unwrap();
        let (front, back) = (device.front_path(), device.back_path());
        for (folder, permissions) in [(&front, "n1 r0"), (&back, "n0 r1")] {
            for key in dom0.store.directory(folder).await.unwrap() {
                assert_eq!(
                    xs.permissions(&format!("{folder}/{key}")).unwrap(),
                    permissions,
                    "{folder}/{key}"
                );
            }
            assert_eq!(xs.permissions(folder).unwrap(), permissions);
        }
        let of = |folder: &str, key: &str| {
            String::from_utf8(xs.get(&format!("{folder}/{key}")).unwrap()).unwrap()
        };
        assert_eq!((of(&front, "backend"), of(&back, "frontend")), (back.clone(), front.clone()));
        assert_eq!(
            (of(&front, "virtual-device"), of(&back, "dev")),
            ("51728".into(), "xvdb".into())
        );
        assert_eq!(
            (of(&back, "mode"), of(&back, "device-type"), of(&front, "state")),
            ("r".into(), "cdrom".into(), "1".into())
        );
        // The guest can publish, and sees what it is offered; nobody else sees either.
        guest.store.write(&format!("{front}/ring-ref"), b"8").await.unwrap();
        guest.store.read(&format!("{back}/dev")).await.unwrap();
        assert_eq!(
            guest.store.write(&format!("{back}/mode"), b"w").await.unwrap_err().kind,
            ErrorKind::Access
        );
        for path in [format!("{front}/ring-ref"), format!("{back}/dev")] {
            assert_eq!(
                other.store.read(&path).await.unwrap_err().kind,
                ErrorKind::Access,
                "{path}"
            );
        }
        toolstack::remove(&dom0.store, &device).await.unwrap();
        // Once more is no error.
        toolstack::remove(&dom0.store, &device).await.unwrap();
    });
}

#[test]
fn libxl_entry_of_its_domains_is_written() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let xs = bench.xs.clone();
    bench.run(async move {
        let device = device(XVDB);
        let attributes = Attributes { params: "file:disk.raw".into(), ..Attributes::default() };
        toolstack::create(&dom0.store, &device, &attributes).await.unwrap();
        assert!(xs.get("/libxl/1/device/vbd/51728").is_none(), "nobody has told of such a domain");
        toolstack::remove(&dom0.store, &device).await.unwrap();

        dom0.store.write("/libxl/1/type", b"pvh").await.unwrap();
        toolstack::create(&dom0.store, &device, &attributes).await.unwrap();
        let entry = |key: &str| {
            String::from_utf8(xs.get(&format!("/libxl/1/device/vbd/51728/{key}")).unwrap()).unwrap()
        };
        for (key, value) in [
            ("backend", &*device.back_path()),
            ("frontend", &*device.front_path()),
            ("type", &*device.kind),
            ("params", "file:disk.raw"),
            ("dev", "xvdb"),
            ("mode", "w"),
            ("removable", "0"),
            ("device-type", "disk"),
        ] {
            assert_eq!(entry(key), value, "{key}");
        }
        assert!(guest.store.read("/libxl/1/device/vbd/51728/params").await.is_err());
        toolstack::remove(&dom0.store, &device).await.unwrap();
        assert!(xs.get("/libxl/1/device/vbd/51728").is_none());
        dom0.store.rm("/libxl").await.unwrap();
    });
}

#[test]
fn disk_is_created_once_for_existing_domain() {
    let mut bench = Bench::new();
    let dom0 = bench.host(DOM0);
    bench.run(async move {
        let create = async |device: &Device| {
            toolstack::create(&dom0.store, device, &Attributes::default()).await
        };
        create(&device(XVDA)).await.unwrap();
        // The guest has a disk of that number, of another backend.
        let same = Device { kind: toolstack::VBD.into(), ..device(XVDA) };
        assert_eq!(create(&same).await.unwrap_err().kind, ErrorKind::Exists);
        let nobody = Device { front: DomId(9), ..device(XVDA) };
        assert_eq!(create(&nobody).await.unwrap_err().kind, ErrorKind::NoEntry);
        toolstack::remove(&dom0.store, &device(XVDA)).await.unwrap();
    });
}

#[test]
fn new_disk_number_follows_the_last() {
    let mut bench = Bench::new();
    let dom0 = bench.host(DOM0);
    bench.run(async move {
        let free = async || toolstack::free_vdev(&dom0.store, GUEST).await.unwrap().map(vdev::name);
        let named = |name: &str| device(vdev::parse(name).unwrap());
        assert_eq!(free().await.as_deref(), Some("xvda"));
        for (there, next) in [
            ("xvdc", "xvdd"),
            ("xvda1", "xvdd"),
            ("xvdo", "xvdp"),
            ("xvdp", "xvdq"),
            ("xvdz", "xvdaa"),
        ] {
            toolstack::create(&dom0.store, &named(there), &Attributes::default()).await.unwrap();
            assert_eq!(free().await.as_deref(), Some(next), "after {there}");
        }
        let last = Device { vdev: (1 << 28) | 0x0fff_ff00, ..device(0) };
        toolstack::create(&dom0.store, &last, &Attributes::default()).await.unwrap();
        assert_eq!(free().await, None);
        for device in toolstack::list(&dom0.store, DOM0, "xen-disk").await.unwrap() {
            toolstack::remove(&dom0.store, &device).await.unwrap();
        }
    });
}

#[test]
fn sweep_removes_only_remains_of_dead_domains() {
    let mut bench = Bench::new();
    let dom0 = bench.host(DOM0);
    let (world, second) = (bench.sim.world().clone(), bench.sim.domain(2));
    bench.run(async move {
        let of_second = Device { front: DomId(2), ..device(XVDA) };
        for device in [&device(XVDA), &of_second, &device(XVDB)] {
            toolstack::create(&dom0.store, device, &Attributes::default()).await.unwrap();
        }
        world.destroy(second.id());
        dom0.xs.remove(&device(XVDB).front_path());
        let swept = toolstack::sweep(&dom0.store, DOM0, "xen-disk").await.unwrap();
        assert_eq!(swept, [device(XVDB), of_second]);
        assert_eq!(toolstack::list(&dom0.store, DOM0, "xen-disk").await.unwrap(), [device(XVDA)]);
        toolstack::remove(&dom0.store, &device(XVDA)).await.unwrap();
        assert_eq!(toolstack::list(&dom0.store, DOM0, "xen-disk").await.unwrap(), []);
    });
}
