//! Builds the emulated host's disk-less image from Debian packages and keeps it
//! in a cache outside the repository.

mod contents;
mod cpio;
mod libs;
mod modules;
mod packages;
mod unpack;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub use cpio::{Node, Tree};

use crate::progress::Progress;
use contents::{DIRECTORIES, FILES, LINKS, XEN_TOOLS};
use unpack::Files;

/// The first program of dom0.
const INIT: &str = include_str!("../dom0/init");

/// Everything that decides what the image holds, beside package versions.
const INPUTS: &[&str] = &[
    INIT,
    include_str!("image.rs"),
    include_str!("image/contents.rs"),
    include_str!("image/libs.rs"),
    include_str!("image/modules.rs"),
];

/// How long an image is kept at least.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The three files that the emulated host boots from.
pub struct Image {
    /// The hypervisor, unpacked.
    pub xen: PathBuf,
    /// dom0's kernel.
    pub kernel: PathBuf,
    /// dom0's root without the project's own programs.
    pub root: PathBuf,
}

impl Image {
    fn at(folder: &Path) -> Image {
        Image { xen: folder.join("xen"), kernel: folder.join("vmlinuz"), root: folder.join("root.cpio") }
    }
}

/// The cache folder: `$RINGSIDE_CACHE`, or `ringside` in the user's cache.
pub fn cache() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("RINGSIDE_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("ringside")))
        .or_else(|| Some(variable("HOME")?.join(".cache/ringside")))
        .context("neither RINGSIDE_CACHE nor HOME is set: set RINGSIDE_CACHE to a folder for downloads")
}

/// The image for the package versions of today, built now if it is not cached.
pub fn ready(progress: &Progress) -> Result<Image> {
    let cache = cache()?;
    let debs = cache.join("debs");
    fs::create_dir_all(&debs).with_context(|| format!("cannot create {}", debs.display()))?;
    let lock = fs::File::create(cache.join("lock"))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;

    progress.stage("resolving package versions");
    let versions = packages::resolve(&cache.join("apt"))?;
    let folder = cache.join(format!("image-{:016x}", key(&versions)));
    let image = Image::at(&folder);
    if image.root.exists() {
        return Ok(image);
    }
    progress.stage("fetching packages");
    let paths = packages::download(&debs, &versions)?;
    progress.stage("building the dom0 image");
    let partial = cache.join("image-partial");
    build(&paths, &partial)?;
    let _ = fs::remove_dir_all(&folder);
    fs::rename(&partial, &folder).context("cannot move the finished image into place")?;
    prune(&cache);
    Ok(image)
}

/// Removes images that were built long ago: a newer one has taken their place.
fn prune(cache: &Path) {
    let old = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
        name.to_string_lossy().starts_with("image-") && age.is_some_and(|age| age > KEPT)
    };
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    entries.filter(old).for_each(|entry| drop(fs::remove_dir_all(entry.path())));
}

fn key(versions: &packages::Versions) -> u64 {
    let mut hasher = DefaultHasher::new();
    (versions, INPUTS).hash(&mut hasher);
    hasher.finish()
}

fn build(debs: &[PathBuf], folder: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    let mut files = Files::new();
    for deb in debs {
        unpack::read(deb, &mut files, wanted)?;
    }
    let image = Image::at(folder);
    let (release, kernel) = newest(&files, "boot/vmlinuz-")?;
    fs::write(&image.kernel, kernel)?;
    let (_, packed) = newest(&files, "boot/xen-")?;
    fs::write(&image.xen, gunzip(folder, packed)?)?;
    fs::write(&image.root, root(&files, &release)?.archive())?;
    Ok(())
}

fn wanted(path: &str) -> bool {
    path.starts_with("boot/vmlinuz-")
        || (path.starts_with("boot/xen-") && path.ends_with(".gz"))
        || modules::is_module(path)
        || libs::is_library(path)
        || unpack::fits("usr/lib/xen-*/bin/*", path)
        || FILES.iter().any(|pattern| unpack::fits(pattern, path))
}

/// The file that starts with `prefix` and the text behind it.
fn newest<'a>(files: &'a Files, prefix: &str) -> Result<(String, &'a [u8])> {
    let mut found: Vec<_> = files.iter().filter(|(path, _)| path.starts_with(prefix)).collect();
    found.sort_by_key(|(path, _)| path.as_str());
    match found.pop() {
        Some((path, Node::File(_, data))) => Ok((path[prefix.len()..].to_string(), data)),
        _ => anyhow::bail!("the packages hold no /{prefix}*: is this Debian or Ubuntu for amd64?"),
    }
}

fn root(files: &Files, release: &str) -> Result<Tree> {
    let mut tree = Tree::default();
    DIRECTORIES.iter().for_each(|path| tree.insert(path, Node::Directory));
    LINKS.iter().for_each(|(path, target)| tree.insert(path, Node::Link(target.to_string())));
    tree.insert("dev/console", Node::Device(5, 1));
    tree.insert("init", Node::File(0o755, INIT.as_bytes().to_vec()));
    for (path, node) in files {
        let tool = path.rsplit('/').next().filter(|_| unpack::fits("usr/lib/xen-*/bin/*", path));
        if let Some(name) = tool.filter(|name| XEN_TOOLS.contains(name)) {
            tree.insert(path, node.clone());
            tree.insert(&format!("usr/sbin/{name}"), Node::Link(format!("/{path}")));
        } else if FILES.iter().any(|pattern| unpack::fits(pattern, path)) {
            tree.insert(path, node.clone());
        }
    }
    libs::add(&mut tree, files)?;
    modules::add(&mut tree, files, release)?;
    Ok(tree)
}

fn gunzip(folder: &Path, packed: &[u8]) -> Result<Vec<u8>> {
    let path = folder.join("packed.gz");
    fs::write(&path, packed)?;
    let mut child = Command::new("gzip").arg("-dc").arg(&path).stdout(std::process::Stdio::piped()).spawn()?;
    let mut data = Vec::new();
    child.stdout.take().context("gzip without output")?.read_to_end(&mut data)?;
    ensure!(child.wait()?.success(), "gzip could not unpack the hypervisor");
    fs::remove_file(&path)?;
    Ok(data)
}
