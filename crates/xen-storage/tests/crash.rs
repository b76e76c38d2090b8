//! Storages in a program that is killed after every write: what `outlives()` promises holds for
//! each.
//!
//! The program is this one, started again with a stack and a range of steps in its environment. It
//! does them, and kills itself as `kill -9` does.

mod common;

use common::{Folder, pattern};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::env;
use std::ops::Range;
use std::process::Command;
use std::sync::LazyLock;
use xen_storage::stack::{Entry, Files, OpenError, build, create, help, register};
use xen_storage::storage::Storage;

/// Length of the disk: a little more than a block of a VHD.
const BYTES: u64 = (2 << 20) + 24 * 512;
const STACK: &str = "XEN_DISK_TEST_STACK";
const FIRST: &str = "XEN_DISK_TEST_FIRST";
const END: &str = "XEN_DISK_TEST_END";

/// One step of the script.
enum Step {
    Write { at: u64, len: u64 },
    Flush,
}

/// Writes that begin and end within and between clusters and blocks, new and known ones.
const SCRIPT: &[Step] = &[
    Step::Write { at: 0, len: 512 },
    Step::Write { at: 65536 - 512, len: 1024 },
    Step::Write { at: 131072, len: 65536 },
    Step::Write { at: 131072 + 4096, len: 512 },
    Step::Flush,
    Step::Write { at: 131072 + 8192, len: 512 },
    Step::Write { at: (2 << 20) - 512, len: 1024 },
    Step::Write { at: BYTES - 512, len: 512 },
    Step::Write { at: 512, len: 512 },
    Step::Write { at: 1 << 20, len: 100 * 1024 },
    Step::Flush,
    Step::Write { at: (2 << 20) + 4096, len: 4096 },
    Step::Write { at: 0, len: 4096 },
    Step::Write { at: (2 << 20) - 2048, len: 4096 },
];

/// Byte of a sector that a step wrote.
fn byte(step: usize, at: u64) -> u8 {
    (step as u64 * 37 + at / 512 * 3 + 1) as u8
}

fn contents(step: usize, at: u64, len: u64) -> Vec<u8> {
    (at / 512..(at + len) / 512).flat_map(|n| [byte(step, n * 512); 512]).collect()
}

fn run(disk: &dyn Storage, steps: Range<usize>) {
    for number in steps {
        match SCRIPT[number] {
            Step::Write { at, len } => disk.write(at, &contents(number, at, len)).unwrap(),
            Step::Flush => disk.flush().unwrap(),
        }
    }
}

/// Registers a layer of a program's own.
fn own() {
    fn open(_: &xen_storage::stack::Args, below: std::sync::Arc<dyn Storage>) -> Opened {
        Ok(below)
    }
    type Opened = Result<std::sync::Arc<dyn Storage>, OpenError>;
    // Another test may have been faster.
    let _ = register(Entry::layer("own", "does nothing", open));
}

/// The program that is killed; when it runs as a test among others, it has nothing to do.
#[test]
fn child() {
    let Ok(stack) = env::var(STACK) else { return };
    own();
    let number = |name| env::var(name).unwrap().parse().unwrap();
    let disk = build(&stack, &Files::default()).unwrap();
    run(&*disk, number(FIRST)..number(END));
    kill(Pid::this(), Signal::SIGKILL).unwrap();
}

/// Does these steps in a program that is killed after them.
fn killed_after(stack: &str, steps: Range<usize>) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    command.env(STACK, stack);
    command.env(FIRST, steps.start.to_string()).env(END, steps.end.to_string());
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code().is_none(), "{stack}: {}: {said}", done.status);
}

/// Returns the contents after the first `steps` over a disk of `before`.
fn expected(before: &[u8], steps: usize) -> Vec<u8> {
    let mut bytes = before.to_vec();
    for (number, step) in SCRIPT.iter().enumerate().take(steps) {
        if let Step::Write { at, len } = *step {
            let written = contents(number, at, len);
            bytes[at as usize..(at + len) as usize].copy_from_slice(&written);
        }
    }
    bytes
}

fn read(disk: &dyn Storage) -> Vec<u8> {
    let mut bytes = vec![0; BYTES as usize];
    disk.read(0, &mut bytes).unwrap();
    bytes
}

/// Makes the files that `stack` names in `folder`, and returns it with their paths.
fn prepare(folder: &Folder, stack: &str) -> String {
    static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(BYTES));
    std::fs::write(folder.path("raw"), &*PATTERN).unwrap();
    std::fs::write(folder.path("below"), &*PATTERN).unwrap();
    let stack = stack.replace("DIR", folder.path("").to_str().unwrap().trim_end_matches('/'));
    let last = stack
        .rsplit_once('/')
        .map_or(0, |_| stack.find("vhd:").or(stack.find("qcow2:")).unwrap_or(0));
    create(&stack[last..], BYTES).unwrap();
    if stack.contains("fixed.vhd") {
        let _ = std::fs::remove_file(folder.path("fixed.vhd"));
        make_fixed(folder);
    }
    stack
}

/// Makes a fixed VHD of a dynamic one's footer.
fn make_fixed(folder: &Folder) {
    use std::os::unix::fs::FileExt;
    let path = folder.path("dynamic.vhd");
    create(&format!("vhd:{}", path.display()), BYTES).unwrap();
    let mut footer = [0; 512];
    std::fs::File::open(&path).unwrap().read_exact_at(&mut footer, 0).unwrap();
    footer[63] = 2;
    let sum = u32::from_be_bytes(footer[64..68].try_into().unwrap()) + 1;
    footer[64..68].copy_from_slice(&sum.to_be_bytes());
    let bytes = [&vec![0; BYTES as usize][..], &footer].concat();
    std::fs::write(folder.path("fixed.vhd"), bytes).unwrap();
}

/// Kills a program after each step, of a new disk and of one that the last program left.
fn nothing_is_lost(stack: &str) {
    let chain = Folder::new();
    let chained = prepare(&chain, stack);
    let before = read(&*build(&chained, &Files::default()).unwrap());
    for steps in 1..=SCRIPT.len() {
        let fresh = Folder::new();
        let alone = prepare(&fresh, stack);
        assert!(build(&alone, &Files::default()).unwrap().outlives(), "{stack}");
        killed_after(&alone, 0..steps);
        killed_after(&chained, steps - 1..steps);
        for (name, stack) in [("one program", &alone), ("one for each step", &chained)] {
            let disk = build(stack, &Files::default()).unwrap();
            // The guest's next flush is answered: all that it was told of is to be kept.
            disk.flush().unwrap();
            let (found, want) = (read(&*disk), expected(&before, steps));
            let wrong = (found != want)
                .then(|| found.chunks(512).zip(want.chunks(512)).position(|(f, w)| f != w));
            assert_eq!(wrong, None, "{stack}, {name}, after {steps} steps: a sector is lost");
        }
    }
}

/// Stacks that promise that each write outlasts the program, by the name that they are of.
const LASTING: &[(&str, &str)] = &[
    ("discard", ""),
    ("file", "file:DIR/raw"),
    ("mmap", "mmap:DIR/raw"),
    ("vhd", "vhd:DIR/new.vhd"),
    ("vhd", "vhd:DIR/fixed.vhd"),
    #[cfg(feature = "formats")]
    ("qcow2", "qcow2:DIR/new.qcow2"),
    ("overlay", "overlay:\"DIR/over\"/file:DIR/below"),
    ("overlay", "overlay:\"DIR/over\"/mmap:DIR/below"),
    ("overlay", "overlay:\"DIR/two\"/overlay:\"DIR/one\"/vhd:DIR/below.vhd"),
    ("throttle", "throttle:iops=1000000/file:DIR/raw"),
    ("delay", "delay:1us/file:DIR/raw"),
    ("fault", "fault:op=write,p=0/file:DIR/raw"),
    ("verify", "verify/file:DIR/raw"),
    ("log", "log:\"DIR/log\"/file:DIR/raw"),
    ("own", "own/file:DIR/raw"),
];

/// Stacks that promise nothing, so that no disk of theirs is taken over, or that cannot be written.
const PROMISELESS: &[(&str, &str)] = &[
    ("ram", "ram:size=1M"),
    ("cow", "cow:DIR/raw"),
    ("powercut", "powercut/file:DIR/raw"),
    ("fault", "fault:op=write,silent,every=2/file:DIR/raw"),
    ("throttle", "throttle:iops=1000000/ram:size=1M"),
    ("overlay", "throttle:iops=1000000/powercut/overlay:\"DIR/over\"/file:DIR/below"),
    #[cfg(feature = "object")]
    ("object", "object:DIR/store,size=1M"),
    ("vmdk", ""),
    // Its servers are killed in the tests of `xen-disk`.
    ("nbd", ""),
];

#[test]
fn write_that_was_acknowledged_outlasts_kill_of_files() {
    own();
    let stacks = LASTING.iter().filter(|(name, stack)| !stack.is_empty() && *name != "qcow2");
    stacks.for_each(|(_, stack)| nothing_is_lost(stack));
}

#[cfg(feature = "formats")]
#[test]
fn write_that_was_acknowledged_outlasts_kill_of_qcow2() {
    LASTING.iter().filter(|(name, _)| *name == "qcow2").for_each(|(_, s)| nothing_is_lost(s));
}

#[test]
fn storage_in_memory_promises_nothing() {
    for (_, stack) in PROMISELESS.iter().filter(|(_, stack)| !stack.is_empty()) {
        let folder = Folder::new();
        let stack = prepare(&folder, stack);
        assert!(!build(&stack, &Files::default()).unwrap().outlives(), "{stack}");
    }
    // What keeps nothing has nothing to lose.
    assert!(build("discard", &Files::default()).unwrap().outlives());
}

#[test]
fn storage_or_layer_is_in_one_of_the_tables() {
    own();
    let text = help();
    let (entries, _) = text.split_once("\nExamples").unwrap();
    let lines = entries.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = lines.filter_map(|line| line.trim().split([' ', ':']).next());
    let known = |name: &&str| LASTING.iter().chain(PROMISELESS).any(|(known, _)| known == name);
    let (known, unknown): (Vec<&str>, Vec<&str>) = names.partition(known);
    assert!(known.len() > 12, "{known:?}");
    assert_eq!(unknown, [""; 0], "these have no crash test");
}
