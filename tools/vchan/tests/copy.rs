//! `vchan cp` between two domains: what arrives, what is left out, and what an interruption costs.

mod common;

use common::{Bench, DOM0, GUEST};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tools_common::Progress;
use vchan::{Code, CopyArguments, Failure, FileServer, RingSizes, Session, Stop};
use xen_platform::{Clock, deadline, sleep};

/// The folders `here` and `there`, which go with the test.
struct Folders(PathBuf);

impl Folders {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vchan-cp-{name}-{}", std::process::id()));
        for side in ["here", "there"] {
            fs::create_dir_all(path.join(side)).unwrap();
        }
        Folders(path)
    }

    fn here(&self, path: &str) -> PathBuf {
        self.0.join("here").join(path)
    }

    fn there(&self, path: &str) -> PathBuf {
        self.0.join("there").join(path)
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Counts the files of which data went over the channel.
#[derive(Default)]
struct Counted(u32);

impl Progress for Counted {
    fn begin(&mut self, _: &str, _: u64) {}
    fn done(&mut self, _: u64) {}
    fn end(&mut self) {
        self.0 += 1;
    }
}

/// The end of a copy.
struct Copied {
    result: Result<(), Failure>,
    said: Vec<String>,
    /// Number of files that were received.
    files: u32,
}

/// Copies in dom0 from or to a server in the guest. With `cut`, its domain dies after a moment.
fn copy_cut(folders: &Folders, first: &str, second: &str, cut: Option<Duration>) -> Copied {
    let mut bench = Bench::new();
    let ((guest, guest_store), (dom0, store)) = (bench.host(GUEST), bench.host(DOM0));
    let sizes = RingSizes { left: 4096, right: 4096 };
    let files = FileServer::open(&folders.there(""), false, 4, sizes, false).unwrap();
    bench.sim.spawn(&guest.clone(), async move {
        let stop = Stop::new();
        let place = args("0", None).server_place().unwrap();
        let _ =
            vchan::serve_files(common::quiet(&guest, &guest_store, &stop), &place, &files).await;
    });
    if let Some(after) = cut {
        let (clock, world) = (dom0.clone(), dom0.world().clone());
        bench.sim.spawn(&bench.sim.domain(0), async move {
            sleep(&clock, after).await;
            world.destroy(GUEST);
        });
    }
    let args = args(first, Some(second));
    bench.sim.run(async move {
        let (stop, said) = (Stop::new(), std::cell::RefCell::new(Vec::new()));
        let report = |text: &str| said.borrow_mut().push(text.to_string());
        let session = Session {
            platform: &dom0,
            store: &store,
            stop: &stop,
            report: &report,
            offered: &|| (),
        };
        let mut progress = Counted::default();
        let work = vchan::copy(session, &args, &mut progress);
        let until = Some(dom0.now() + Duration::from_secs(3600));
        let result = deadline(&dom0, until, work).await.expect("it hangs");
        Copied { result, said: said.into_inner(), files: progress.0 }
    })
}

fn copy(folders: &Folders, first: &str, second: &str) -> Copied {
    copy_cut(folders, first, second, None)
}

fn args(first: &str, second: Option<&str>) -> CopyArguments {
    CopyArguments {
        first: first.into(),
        second: second.map(Into::into),
        serve: second.is_none().then(PathBuf::new),
        read_only: false,
        port: "cp".into(),
        timeout: 10,
        verbose: false,
    }
}

/// Asserts that two trees are the same.
fn assert_same(one: &Path, other: &Path) {
    let output = Command::new("diff").arg("-r").arg(one).arg(other).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn tree_arrives_whole_in_either_direction() {
    let folders = Folders::new("tree");
    fs::create_dir_all(folders.here("tree/sub/empty")).unwrap();
    fs::write(folders.here("tree/none"), "").unwrap();
    fs::write(folders.here("tree/sub/large"), common::letters(700_000)).unwrap();
    fs::write(folders.here("tree/run me"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(folders.here("tree/run me"), Permissions::from_mode(0o751)).unwrap();
    let put = copy(&folders, folders.here("tree").to_str().unwrap(), "1:");
    assert_eq!((put.result, put.said), (Ok(()), vec![]));
    assert_same(&folders.here("tree"), &folders.there("tree"));
    let got = copy(&folders, "1:tree/", folders.here("back").to_str().unwrap());
    assert_eq!((got.result, got.files), (Ok(()), 3));
    assert_same(&folders.here("tree"), &folders.here("back"));
    let mode = fs::metadata(folders.here("back/run me")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o751);
    // All of it is there already.
    let again = copy(&folders, "1:tree", folders.here("").to_str().unwrap());
    // The empty one is made anew, without any data.
    assert_eq!((again.result, again.files), (Ok(()), 1));
}

#[test]
fn file_gets_the_name_that_is_given() {
    let folders = Folders::new("name");
    fs::write(folders.here("a"), "text").unwrap();
    fs::create_dir(folders.there("dir")).unwrap();
    let a = folders.here("a").to_str().unwrap().to_string();
    for (target, path) in [("1:", "a"), ("1:b", "b"), ("1:dir", "dir/a"), ("1:dir/c", "dir/c")] {
        assert_eq!(copy(&folders, &a, target).result, Ok(()), "{target}");
        assert_eq!(fs::read(folders.there(path)).unwrap(), b"text", "{target}");
    }
    let got = copy(&folders, "1:dir/c", folders.here("").to_str().unwrap());
    assert_eq!(got.result, Ok(()));
    assert_eq!(fs::read(folders.here("c")).unwrap(), b"text");
}

#[test]
fn interrupted_copy_goes_on_where_it_stood() {
    let folders = Folders::new("resume");
    let data = common::letters(900_000);
    fs::write(folders.here("file"), &data).unwrap();
    let part = folders.there(".file.vchan-part");
    fs::write(&part, &data[..600_000]).unwrap();
    let from = folders.here("file").to_str().unwrap().to_string();
    assert_eq!(copy(&folders, &from, "1:").result, Ok(()));
    assert!(fs::read(folders.there("file")).unwrap() == data && !part.exists());
    // A part of another file is no use.
    fs::remove_file(folders.there("file")).unwrap();
    fs::write(&part, "something else").unwrap();
    assert_eq!(copy(&folders, &from, "1:").result, Ok(()));
    assert!(fs::read(folders.there("file")).unwrap() == data && !part.exists());
    // Nor is an old file of the same length.
    fs::write(folders.there("file"), &common::letters(900_001)[1..]).unwrap();
    assert_eq!(copy(&folders, &from, "1:").result, Ok(()));
    assert!(fs::read(folders.there("file")).unwrap() == data);
}

/// The file has no name before it is whole, and the next copy makes it whole.
#[test]
fn copy_that_is_cut_off_leaves_only_a_part() {
    let folders = Folders::new("cut");
    let data = common::letters(3_000_000);
    fs::write(folders.there("file"), &data).unwrap();
    let target = folders.here("").to_str().unwrap().to_string();
    let cut = copy_cut(&folders, "1:file", &target, Some(Duration::from_micros(50)));
    if cut.result.is_err() {
        assert!(!folders.here("file").exists());
    }
    assert_eq!(copy(&folders, "1:file", &target).result, Ok(()));
    assert!(fs::read(folders.here("file")).unwrap() == data);
}

#[test]
fn link_is_left_out_and_named() {
    let folders = Folders::new("link");
    fs::create_dir(folders.here("tree")).unwrap();
    symlink("/etc/passwd", folders.here("tree/link")).unwrap();
    let put = copy(&folders, folders.here("tree").to_str().unwrap(), "1:");
    assert_eq!(put.result, Ok(()));
    assert_eq!(put.said, ["left out, since it is neither file nor folder: link"]);
    assert!(fs::symlink_metadata(folders.there("tree/link")).is_err());
}

#[test]
fn failure_of_the_server_is_told_to_its_client() {
    let folders = Folders::new("failures");
    fs::write(folders.here("file"), "text").unwrap();
    fs::create_dir_all(folders.there("file/sub")).unwrap();
    symlink("/etc", folders.there("out")).unwrap();
    let here = folders.here("").to_str().unwrap().to_string();
    let file = folders.here("file").to_str().unwrap().to_string();
    for (first, second, part) in [
        ("1:none", &*here, "cannot read none: "),
        ("1:out/passwd", &here, "cannot read out/passwd: "),
        (&file, "1:no/such/folder", "cannot write no/such/"),
        (&file, "1:out/new", "cannot use out/new: "),
    ] {
        let failure = copy(&folders, first, second).result.unwrap_err();
        let text = format!("the other side says: {part}");
        assert!(failure.text.starts_with(&text), "{first} {second}: {failure}");
        assert_eq!(failure.code, Code::Other);
    }
    let usage = copy(&folders, "1:../x", &here).result.unwrap_err();
    assert_eq!(usage.code, Code::Usage);
}
