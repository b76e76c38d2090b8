use super::*;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::time::Instant;

struct Steps(Vec<u64>);

impl Progress for Steps {
    fn begin(&mut self, _what: &str, bytes: u64) {
        self.0.push(bytes)
    }
    fn done(&mut self, bytes: u64) {
        self.0.push(bytes)
    }
    fn end(&mut self) {}
}

/// A folder of a test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xen-disk-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn stack(&self, kind: &str, name: &str) -> String {
        format!("{kind}:{}", self.path(name).display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn run(source: &str, destination: &str) -> Result<Copied, Failure> {
    let args = ConvertArguments { source: source.into(), destination: destination.into() };
    convert(&args, &mut Steps(Vec::new()))
}

#[test]
fn copy_is_the_same_and_writes_only_data() {
    let folder = Folder::new("copy");
    let mut bytes = vec![0; 3 * PIECE as usize + 512];
    bytes[PIECE as usize + 7] = 1;
    *bytes.last_mut().unwrap() = 2;
    fs::write(folder.path("source"), &bytes).unwrap();
    let (source, copy) = (folder.stack("cow", "source"), folder.stack("file", "copy"));
    let copied = run(&source, &copy).unwrap();
    assert_eq!(copied, Copied { bytes: bytes.len() as u64, written: UNIT as u64 + 512 });
    assert_eq!(fs::read(folder.path("copy")).unwrap(), bytes);
    // By way of another format, which is made as well.
    let vhd = folder.stack("vhd", "vhd");
    assert_eq!(run(&source, &vhd).unwrap().written, UNIT as u64 + 512);
    run(&vhd, &folder.stack("file", "back")).unwrap();
    assert_eq!(fs::read(folder.path("back")).unwrap(), bytes);
    // One that is there is written in full.
    fs::write(folder.path("copy"), vec![9; bytes.len()]).unwrap();
    assert_eq!(run(&source, &copy).unwrap().written, bytes.len() as u64);
    assert_eq!(fs::read(folder.path("copy")).unwrap(), bytes);
    assert_eq!(run(&source, "ram:size=1M").unwrap_err().code, Code::Usage);
}

#[test]
fn sparse_file_is_copied_without_its_holes() {
    let folder = Folder::new("sparse");
    let file = fs::File::create(folder.path("source")).unwrap();
    file.set_len(64 << 30).unwrap();
    file.write_all_at(&[7], 40 << 30).unwrap();
    let started = Instant::now();
    let copied = run(&folder.stack("file", "source"), &folder.stack("file", "copy")).unwrap();
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    assert_eq!(copied, Copied { bytes: 64 << 30, written: UNIT as u64 });
    assert!(fs::metadata(folder.path("copy")).unwrap().blocks() * 512 < 1 << 20);
    let mut byte = [0];
    fs::File::open(folder.path("copy")).unwrap().read_exact_at(&mut byte, 40 << 30).unwrap();
    assert_eq!(byte, [7]);
}

#[test]
fn copy_that_cannot_begin_leaves_nothing_behind() {
    let folder = Folder::new("nothing");
    fs::write(folder.path("source"), [1; 4096]).unwrap();
    fs::File::create(folder.path("long")).unwrap().set_len(3 << 40).unwrap();
    let source = folder.stack("file", "source");
    for (source, destination) in [
        (folder.stack("file", "missing"), folder.stack("file", "new")),
        (folder.stack("vhd", "source"), folder.stack("file", "new")),
        (folder.stack("file", "long"), folder.stack("vhd", "new")),
        (source.clone(), folder.stack("file", "new") + ",ro"),
        (source, folder.stack("file", "new") + ",colour"),
    ] {
        assert!(run(&source, &destination).is_err(), "{source} {destination}");
        assert!(!folder.path("new").exists(), "{source} {destination}");
    }
}
