//! A guest with a disk, in the simulator: the storage, the backend and the frontend together.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;
use tools_common::resolve_domain;
use xen_blk::back::{Config, End, Handle};
use xen_blk::front;
use xen_blk::toolstack;
use xen_disk::disk::{Disk, KIND, Plugged, params, plug, verdict};
use xen_disk::identity::Identity;
use xen_disk::report::Report;
use xen_disk::served::Served;
use xen_disk::stack::{Files, build};
use xen_disk::{Code, DomainArgument, Failure, Vdev, control};
use xen_platform::{Clock, DomId, deadline, sleep};
use xen_sim::xenstore::Xenstored;
use xen_sim::{Domain, Sim, Spawner};
use xen_store::Store;

const DOM0: DomId = DomId(0);
const GUEST: DomId = DomId(1);
const XVDB: Vdev = Vdev(51728);

/// A process in a domain.
#[derive(Clone)]
struct Host {
    domain: Domain,
    store: Store,
    spawner: Spawner,
    said: Rc<RefCell<Vec<String>>>,
}

/// Runs `main` with processes in dom0 and in a guest. xenstore must be at the end as it was.
fn world<F: Future<Output = ()> + 'static>(main: impl FnOnce(Host, Host) -> F) {
    let (mut sim, xs) = (Sim::new(), Xenstored::new());
    xs.introduce(GUEST);
    xs.set("/local/domain/1/device/vbd", "");
    xs.set("/local/domain/1/name", "vm1");
    xs.set("/local/domain/1/vm", "/vm/0b1a5e4c-1111-2222-3333-444455556666");
    xs.set("/local/domain/0/backend", "");
    let before = xs.dump();
    let host = |domid: DomId| {
        let domain = sim.domain(domid.0);
        let (from, to) = xs.connect(domid);
        let (store, driver) = xen_store::connect(from, to);
        sim.spawn(&domain, driver);
        Host { domain, store, spawner: sim.spawner(), said: Rc::default() }
    };
    let main = main(host(DOM0), host(GUEST));
    let clock = sim.domain(0);
    let limit = Some(clock.now() + Duration::from_secs(3600));
    sim.run(async move { deadline(&clock, limit, main).await.expect("it hangs") });
    assert_eq!(xs.dump(), before, "xenstore is not as it was");
}

impl Host {
    async fn plug(
        &self,
        vdev: Option<Vdev>,
        stack: &str,
        served: bool,
    ) -> (toolstack::Device, Plugged) {
        self.try_plug(vdev, &identity(stack), served).await.unwrap()
    }

    async fn try_plug(
        &self,
        vdev: Option<Vdev>,
        identity: &Identity,
        served: bool,
    ) -> Result<(toolstack::Device, Plugged), Failure> {
        plug(&self.store, DOM0, GUEST, vdev, identity, |_| served).await
    }

    /// Serves a disk; the result is its end.
    fn serve(
        &self,
        device: toolstack::Device,
        stack: &str,
        read_only: bool,
    ) -> (Rc<Disk>, xen_sim::Task<End>) {
        let storage = build(stack, &Files::default()).unwrap();
        let said = self.said.clone();
        let served =
            Served::new(storage, None, read_only, move |text| said.borrow_mut().push(text.into()));
        let disk = Rc::new(Disk {
            device,
            stack: stack.into(),
            served,
            handle: Handle::new(),
            store: self.store.clone(),
        });
        let (host, served) = (self.clone(), disk.clone());
        let task = self.spawner.spawn(&self.domain, async move {
            served.serve(&host.domain, &host.store, &Config::default()).await.unwrap()
        });
        (disk, task)
    }

    /// Attaches the disk, as the guest.
    async fn attach(&self, vdev: Vdev) -> front::Disk<Domain> {
        let (disk, driver) =
            front::attach(&self.domain, &self.store, vdev.0, &front::Config::default())
                .await
                .unwrap();
        self.spawner.spawn(&self.domain, async move { driver.await.map(drop).unwrap() });
        disk
    }
}

/// The identity of the disk that a stack opens.
fn identity(stack: &str) -> Identity {
    Identity::of(&*build(stack, &Files::default()).unwrap(), stack, false)
}

#[test]
fn a_disk_is_used_and_unplugged() {
    world(|dom0, guest| async move {
        let (device, plugged) = dom0.plug(None, "verify/ram:size=1M", false).await;
        assert_eq!((device.vdev, plugged), (51712, Plugged::New));
        let (served, task) = dom0.serve(device.clone(), "verify/ram:size=1M", false);
        let disk = guest.attach(Vdev(51712)).await;
        let info = disk.info();
        assert_eq!(
            (info.sectors, info.flush, info.discard.is_some(), info.read_only),
            (2048, true, true, false)
        );
        let bytes: Vec<u8> = (0..70_000 / 512 * 512).map(|n| (n / 3) as u8).collect();
        disk.write(7, &bytes).await.unwrap();
        disk.flush().await.unwrap();
        disk.discard(0, 7, false).await.unwrap();
        let mut back = vec![0; bytes.len()];
        disk.read(7, &mut back).await.unwrap();
        assert!(back == bytes);

        served.served.resize(2 << 20).await.unwrap();
        sleep(&guest.domain, Duration::from_secs(1)).await;
        assert_eq!(disk.info().sectors, 4096);
        disk.write(4095, &[1; 512]).await.unwrap();

        let report = Report::of(&served, 2.0);
        assert_eq!((report.writes.bytes, report.flushes.ok), (bytes.len() as u64 + 512, 1));
        assert_eq!((&*report.state, &*report.disk, report.bytes), ("Connected", "xvda", 2 << 20));
        served.handle.stop();
        let end = task.join().await;
        assert!(verdict("it", end).is_ok(), "{end:?}");
        assert!(dom0.said.borrow().is_empty());
    });
}

/// Asks as another process does, and returns the answer.
async fn ask(disk: &Disk, question: &str) -> String {
    let mut answer = [0; 4096];
    let mut rest = &mut answer[..];
    control::attend(disk, 1.0, question.as_bytes(), &mut rest).await;
    let left = rest.len();
    String::from_utf8(answer[..4096 - left].to_vec()).unwrap()
}

#[test]
fn a_disk_becomes_shorter_only_if_that_is_said() {
    world(|dom0, guest| async move {
        let (device, _) = dom0.plug(Some(XVDB), "ram:size=1M", false).await;
        let (served, task) = dom0.serve(device, "ram:size=1M", false);
        let disk = guest.attach(XVDB).await;
        for (question, answer, sectors) in [
            (r#"{"resize":{"bytes":2097152,"shrink":false}}"#, "\"done\"\n", 4096),
            (r#"{"resize":{"bytes":1048576,"shrink":false}}"#, "--shrink makes it shorter", 4096),
            (r#"{"resize":{"bytes":1048576,"shrink":true}}"#, "\"done\"\n", 2048),
            (r#"{"resize":{"bytes":1048577,"shrink":true}}"#, "not one or more sectors", 2048),
            (r#"{"resize":{"bytes":0,"shrink":true}}"#, "not one or more sectors", 2048),
            (r#"{"resize":{}}"#, "that is no question", 2048),
            (r#""stats""#, "\"bytes\":1048576", 2048),
        ] {
            let said = ask(&served, &format!("{question}\n")).await;
            assert!(said.contains(answer), "{question}: {said}");
            sleep(&guest.domain, Duration::from_secs(1)).await;
            assert_eq!(disk.info().sectors, sectors, "{question}");
        }
        assert_eq!(ask(&served, "\"stop\"\n").await, "\"done\"\n");
        assert!(verdict("it", task.join().await).is_ok());
    });
}

#[test]
fn what_is_read_only_is_so_for_the_guest() {
    world(|dom0, guest| async move {
        let (device, _) = dom0.plug(Some(XVDB), "ram:size=1M", false).await;
        let (served, task) = dom0.serve(device, "ram:size=1M", true);
        let disk = guest.attach(XVDB).await;
        assert!(disk.info().read_only && disk.write(0, &[1; 512]).await.is_err());
        served.handle.stop();
        task.join().await;
    });
}

#[test]
fn a_storage_that_fails_is_told_of_and_the_disk_lives() {
    world(|dom0, guest| async move {
        let stack = "fault:every=2,op=write/ram:size=1M";
        let (device, _) = dom0.plug(Some(XVDB), stack, false).await;
        let (served, task) = dom0.serve(device, stack, false);
        let disk = guest.attach(XVDB).await;
        assert!(disk.write(8, &[1; 512]).await.is_ok() && disk.write(8, &[2; 512]).await.is_err());
        let mut bytes = [0; 512];
        disk.read(8, &mut bytes).await.unwrap();
        assert_eq!(bytes, [1; 512]);
        assert!(dom0.said.borrow()[0].starts_with("write at sector 8: "), "{:?}", dom0.said);
        served.handle.stop();
        task.join().await;
    });
}

#[test]
fn disk_of_a_killed_server_is_taken_over_by_the_same_disk_only() {
    let folder = std::env::temp_dir().join(format!("xen-disk-takeover-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let file = |name: &str| format!("file:\"{}\"", folder.join(name).display());
    for (name, bytes) in [("a", 1 << 20), ("b", 1 << 20)] {
        std::fs::File::create(folder.join(name)).unwrap().set_len(bytes).unwrap();
    }
    std::os::unix::fs::symlink(folder.join("a"), folder.join("link")).unwrap();
    let (a, b, link) = (file("a"), file("b"), file("link"));
    let path = folder.join("a");
    world(|dom0, _| async move {
        let (device, _) = dom0.plug(Some(XVDB), &a, false).await;
        assert_eq!(params(&dom0.store, &device).await.unwrap(), Some(a.clone()));
        let taken = (device.clone(), Plugged::TakenOver);
        let again = dom0.try_plug(Some(XVDB), &identity(&a), true).await.unwrap_err();
        assert_eq!(again.code, Code::Usage, "it is served");
        // By its number, or found by its storage; its name does not matter, nor do layers.
        assert_eq!(dom0.plug(Some(XVDB), &a, false).await, taken);
        assert_eq!(dom0.plug(None, &link, false).await, taken);
        assert_eq!(dom0.plug(None, &format!("delay:1ms/{a}"), false).await, taken);
        // Another file, another format, another mode, other sectors, another length.
        let same = identity(&a);
        let refused = |wrong: Identity, words: &'static str| {
            let dom0 = dom0.clone();
            async move {
                let failure = dom0.try_plug(Some(XVDB), &wrong, false).await.unwrap_err();
                assert_eq!(failure.code, Code::Usage);
                for part in [words, &wrong.stack, "file:", "xen-disk disconnect 1 xvdb"] {
                    assert!(failure.text.contains(part), "{part}: {failure}");
                }
            }
        };
        refused(identity(&b), "another storage").await;
        refused(identity("discard:size=1M"), "another storage").await;
        refused(Identity { read_only: true, ..same.clone() }, "read-only and not writable").await;
        refused(Identity { sector_size: 4096, ..same.clone() }, "sectors of 4096").await;
        std::fs::File::options().write(true).open(&path).unwrap().set_len(2 << 20).unwrap();
        refused(identity(&a), "2097152 bytes and not 1048576").await;
        // The same name is another file now.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        std::fs::File::create(path.with_extension("keeps-the-inode")).unwrap();
        let other = Identity { storage: Some("raw inode 1 on 1".into()), ..same };
        refused(other, "another storage").await;
        toolstack::remove(&dom0.store, &device).await.unwrap();
    });
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn disk_that_another_process_serves_is_left_alone() {
    world(|dom0, _| async move {
        let (device, _) = dom0.plug(Some(XVDB), "discard", false).await;
        let key = format!("{}/{}", device.back_path(), xen_disk::identity::SERVER);
        let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", other.id())).unwrap();
        let started = stat.split(' ').nth(21).unwrap();
        // It has no socket here.
        let value = format!("{} {started}", other.id());
        dom0.store.write(&key, value.as_bytes()).await.unwrap();
        let failure = dom0.try_plug(Some(XVDB), &identity("discard"), false).await.unwrap_err();
        assert_eq!(failure.code, Code::Usage);
        // Another process with its number is not the one.
        let value = format!("{} {started}1", other.id());
        dom0.store.write(&key, value.as_bytes()).await.unwrap();
        assert_eq!(dom0.plug(Some(XVDB), "discard", false).await.1, Plugged::TakenOver);
        let value = format!("{} {started}", other.id());
        dom0.store.write(&key, value.as_bytes()).await.unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(dom0.plug(Some(XVDB), "discard", false).await.1, Plugged::TakenOver);
        toolstack::remove(&dom0.store, &device).await.unwrap();
    });
}

#[test]
fn disk_in_memory_is_not_taken_over() {
    world(|dom0, _| async move {
        let (device, _) = dom0.plug(Some(XVDB), "ram:size=1M", false).await;
        let failure = dom0.try_plug(Some(XVDB), &identity("ram:size=1M"), false).await.unwrap_err();
        assert_eq!(failure.code, Code::Storage);
        assert!(failure.text.contains("is gone with the killed server"), "{failure}");
        let (other, plugged) = dom0.plug(None, "discard", false).await;
        assert!(other != device && plugged == Plugged::New);
        for device in [device, other] {
            toolstack::remove(&dom0.store, &device).await.unwrap();
        }
    });
}

#[test]
fn disk_that_was_resized_is_taken_over_with_its_new_length() {
    let path = std::env::temp_dir().join(format!("xen-disk-resized-{}", std::process::id()));
    std::fs::write(&path, vec![0; 1 << 20]).unwrap();
    let stack = format!("file:\"{}\"", path.display());
    world(|dom0, _| async move {
        let (device, _) = dom0.plug(Some(XVDB), &stack, false).await;
        let served = {
            let storage = build(&stack, &Files::default()).unwrap();
            let served = Served::new(storage, None, false, |_| ());
            let (device, stack, store) = (device.clone(), stack.clone(), dom0.store.clone());
            Disk { device, stack, served, handle: Handle::new(), store }
        };
        served.resize(2 << 20).await.unwrap();
        drop(served);
        assert_eq!(dom0.plug(None, &stack, false).await, (device.clone(), Plugged::TakenOver));
        toolstack::remove(&dom0.store, &device).await.unwrap();
    });
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn sockets_of_disks_that_are_gone_are_swept() {
    world(|dom0, _| async move {
        let folder = std::env::temp_dir().join(format!("xen-disk-sockets-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (device, _) = dom0.plug(Some(XVDB), "ram", false).await;
        for name in ["1-xvdb.sock", "1-xvdc.sock", "7-xvdb.sock", "notes"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        control::sweep(&folder, async || toolstack::list(&dom0.store, DOM0, KIND).await)
            .await
            .unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["1-xvdb.sock", "notes"]);
        std::fs::remove_dir_all(&folder).unwrap();
        toolstack::remove(&dom0.store, &device).await.unwrap();
    });
}

#[test]
fn domains_are_found_by_each_of_their_names() {
    world(|dom0, _| async move {
        for name in ["1", "vm1", "0B1A5E4C-1111-2222-3333-444455556666"] {
            let Ok::<DomainArgument, _>(name) = name.parse();
            assert_eq!(resolve_domain(&dom0.store, &name).await, Ok(GUEST));
        }
        let Ok::<DomainArgument, _>(other) = "vm2".parse();
        let failure = resolve_domain(&dom0.store, &other).await.unwrap_err();
        assert_eq!(
            (failure.code, &*failure.text),
            (Code::Missing, "there is no domain vm2: see xl list")
        );
    });
}

#[test]
fn killed_server_s_disk_is_claimed_by_one_process() {
    world(|dom0, _| async move {
        let (device, _) = dom0.plug(Some(XVDB), "discard", false).await;
        let key = format!("{}/{}", device.back_path(), xen_disk::identity::SERVER);
        let claim = async || xen_disk::identity::claim(&dom0.store, &device).await.unwrap();
        assert!(claim().await, "this process has it already");
        // Another process was faster.
        let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", other.id())).unwrap();
        let value = format!("{} {}", other.id(), stat.split(' ').nth(21).unwrap());
        dom0.store.write(&key, value.as_bytes()).await.unwrap();
        assert!(!claim().await);
        assert_eq!(dom0.store.read(&key).await.unwrap(), value.as_bytes());
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(claim().await);
        toolstack::remove(&dom0.store, &device).await.unwrap();
    });
}
