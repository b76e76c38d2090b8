//! Files that the project puts into the host: the kernel, the tools, this program.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::image::linux::Linux;
use crate::image::suite::Suite;
use crate::image::{Node, Tree};
use crate::peers;

/// Folder of our libxenvchan in the Linux guest, which `drop_in=1` has its programs use.
const LIBXENVCHAN: &str = "usr/lib/ringside/libxenvchan";

/// The repository's root: the nearest folder upwards that holds `testbed/`.
pub fn root() -> Result<PathBuf> {
    let here = std::env::current_dir()?;
    let found = here.ancestors().find(|folder| folder.join("testbed/Cargo.toml").exists());
    Ok(found.context("run this from within the repository")?.to_path_buf())
}

/// Makes sure that what a guest and its client need has been built.
pub fn require() -> Result<()> {
    let root = root()?;
    for file in ["out/ringside.elf", "out/vchan", "xl/echo.xl"] {
        ensure!(root.join(file).exists(), "{file} is missing: run make first");
    }
    Ok(())
}

/// An empty folder for this run's logs; `latest` beside it leads there.
pub fn logs() -> Result<PathBuf> {
    let all = root()?.join("target/testbed");
    let name = std::process::id().to_string();
    let logs = all.join(&name);
    let _ = fs::remove_dir_all(&logs);
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let _ = fs::remove_file(all.join("latest"));
    let _ = std::os::unix::fs::symlink(&name, all.join("latest"));
    Ok(logs)
}

/// Returns the folder of the C programs, up to date, compiled for `suite` with the headers and
/// libraries below `sysroot`, or with this machine's.
pub fn peers(suite: Suite, sysroot: Option<&Path>) -> Result<PathBuf> {
    let root = root()?;
    let built = root.join("target/testbed").join(format!("peers-{}", suite.name()));
    peers::build(&root.join("testbed/peers"), &built, sysroot)?;
    Ok(built)
}

/// Everything of ours for the image: `out/` and `xl/` under `top`, beside them
/// what is in the folder `peers`.
pub fn tree(top: &str, peers: Option<&Path>) -> Result<Tree> {
    let root = root()?;
    let mut tree = Tree::default();
    let own = fs::read("/proc/self/exe").context("cannot read this program")?;
    ensure!(
        is_static(&own),
        "this program is not statically linked and cannot run in dom0: build it with \
         RUSTFLAGS='-C target-feature=+crt-static' and --target x86_64-unknown-linux-gnu"
    );
    tree.insert("usr/bin/testbed", Node::File(0o755, own));
    tree.insert("usr/bin/vchan", Node::Link(format!("{top}/out/vchan")));
    tree.insert("usr/bin/xen-disk", Node::Link(format!("{top}/out/xen-disk")));
    tree.insert(top, Node::Directory);
    add(&mut tree, &root.join("out"), &format!("{top}/out"))?;
    add(&mut tree, &root.join("out/libxenvchan"), &format!("{top}/out/libxenvchan"))?;
    add(&mut tree, &root.join("out/dist"), &format!("{top}/out/dist"))?;
    add(&mut tree, &root.join("xl"), &format!("{top}/xl"))?;
    add(&mut tree, &root.join("packaging"), &format!("{top}/packaging"))?;
    add(&mut tree, &root.join("examples/python"), &format!("{top}/examples/python"))?;
    if let Some(peers) = peers {
        add(&mut tree, peers, &format!("{top}/peers"))?;
    }
    Ok(tree)
}

/// The two files that the Linux guest boots from, by name, with our programs
/// and those of the folder `peers` in its root, and what is in the archive `part`.
pub fn linux(
    guest: &Linux,
    peers: &Path,
    part: Option<&Path>,
) -> Result<[(&'static str, Vec<u8>); 2]> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut tree = Tree::default();
    tree.insert("usr/bin/vchan", Node::File(0o755, read(&root()?.join("out/vchan"))?));
    add(&mut tree, peers, "usr/bin")?;
    add(&mut tree, &root()?.join("out/libxenvchan"), LIBXENVCHAN)?;
    let mut root = read(&guest.root)?;
    if let Some(part) = part {
        root.extend(read(part)?);
    }
    root.extend(tree.archive());
    Ok([("vmlinuz", read(&guest.kernel)?), ("root.cpio", root)])
}

/// Returns true for a file that is of use in dom0: not this program again, no debug information, no
/// tarball.
fn useful(name: &str) -> bool {
    name != "testbed" && !name.ends_with(".debug") && !name.ends_with(".tar.gz")
}

/// Adds the plain files of `folder`, and its links to what lies beside them.
fn add(tree: &mut Tree, folder: &Path, at: &str) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_file() && useful(&name) {
            let data = fs::read(entry.path())
                .with_context(|| format!("cannot read {}", entry.path().display()))?;
            tree.insert(&format!("{at}/{name}"), Node::File(0o755, data));
        } else if entry.file_type()?.is_symlink() {
            let target = fs::read_link(entry.path())?.display().to_string();
            tree.insert(&format!("{at}/{name}"), Node::Link(target));
        }
    }
    Ok(())
}

fn is_static(program: &[u8]) -> bool {
    goblin::elf::Elf::parse(program).is_ok_and(|elf| elf.interpreter.is_none())
}
