//! Builds the emulated host's disk-less image from Debian packages and keeps it
//! in a cache outside the repository.

mod apt;
mod contents;
mod cpio;
mod libs;
pub mod linux;
mod modules;
mod packages;
pub mod python;
pub mod qemu;
pub mod ssh;
pub mod suite;
pub mod sysroot;
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
use apt::Apt;
use contents::{DIRECTORIES, FILES, LINKS, MODULES, PACKAGES, XEN_TOOLS};
use packages::Alternatives;
use suite::Suite;
use unpack::Files;

/// The first program of dom0.
const INIT: &str = include_str!("../dom0/init");

/// A quick hotplug script for disks.
const BLOCK_QUICK: &str = include_str!("../dom0/block-quick");

/// Its path in dom0.
pub const BLOCK_QUICK_PATH: &str = "/etc/xen/scripts/block-quick";

/// The way from packages to an image.
struct Recipe {
    /// The name of the image in messages.
    about: &'static str,
    /// Start of its folder's name in the cache.
    name: &'static str,
    /// Packages to start from.
    packages: &'static [Alternatives],
    /// Everything that decides what the image holds, beside package versions.
    inputs: &'static [&'static str],
    /// Which files of the packages are needed, by path.
    wanted: fn(&str) -> bool,
    /// Makes the image's files in a folder.
    build: fn(&Files, &Path) -> Result<()>,
}

/// The image of dom0.
const DOM0: Recipe = Recipe {
    about: "the dom0 image",
    name: "image-dom0",
    packages: PACKAGES,
    inputs: &[
        INIT,
        BLOCK_QUICK,
        include_str!("image.rs"),
        include_str!("image/contents.rs"),
        include_str!("image/libs.rs"),
        include_str!("image/modules.rs"),
    ],
    wanted,
    build,
};

/// Shortest time for which an image is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The files that the emulated host boots from.
pub struct Image {
    /// The hypervisor, unpacked.
    pub xen: PathBuf,
    /// dom0's kernel.
    pub kernel: PathBuf,
    /// dom0's root without the project's own programs.
    pub root: PathBuf,
    /// More archives for the root, in their order.
    pub parts: Vec<PathBuf>,
}

impl Image {
    fn at(folder: &Path) -> Image {
        Image {
            xen: folder.join("xen"),
            kernel: folder.join("vmlinuz"),
            root: folder.join("root.cpio"),
            parts: Vec::new(),
        }
    }
}

/// The cache folder: `$RINGSIDE_CACHE`, or `ringside` in the user's cache.
pub fn cache() -> Result<PathBuf> {
    let variable =
        |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("RINGSIDE_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("ringside")))
        .or_else(|| Some(variable("HOME")?.join(".cache/ringside")))
        .context(
            "neither RINGSIDE_CACHE nor HOME is set: set RINGSIDE_CACHE to a folder for downloads",
        )
}

/// Returns the image of dom0 made of `suite`, built now if it is not cached.
pub fn ready(suite: Suite, progress: &Progress) -> Result<Image> {
    Ok(Image::at(&cached(&DOM0, suite, progress)?))
}

/// Returns the folder of what `recipe` makes of `suite`, made now if it is not cached.
fn cached(recipe: &Recipe, suite: Suite, progress: &Progress) -> Result<PathBuf> {
    let cache = cache()?;
    let debs = cache.join("debs");
    fs::create_dir_all(&debs).with_context(|| format!("cannot create {}", debs.display()))?;
    let lock = fs::File::create(cache.join("lock"))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;

    progress.stage(&format!("resolving package versions ({})", suite.name()));
    let mirror = if suite == Suite::Machine { None } else { suite::mirror()? };
    let apt = Apt::open(&cache.join("apt").join(suite.name()), suite, mirror.as_ref())?;
    let place =
        |versions: &_| cache.join(format!("{}-{:016x}", recipe.name, key(versions, recipe.inputs)));
    let found = packages::obtain(&apt, &debs, recipe.packages, |versions| {
        let built = place(versions).exists();
        if !built {
            progress.stage("fetching packages");
        }
        built
    })?;
    let folder = place(&found.versions);
    if folder.exists() {
        return Ok(folder);
    }
    progress.stage(&format!("building {}", recipe.about));
    let mut files = Files::new();
    for deb in &found.paths {
        unpack::read(deb, &mut files, recipe.wanted)?;
    }
    let partial = cache.join("image-partial");
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial)?;
    (recipe.build)(&files, &partial)?;
    fs::rename(&partial, &folder).context("cannot move the finished image into place")?;
    prune(&cache, recipe.name);
    Ok(folder)
}

/// Removes images called `name` that were built long ago: a newer one has taken their place.
fn prune(cache: &Path, name: &str) {
    let old = |entry: &fs::DirEntry| {
        let image = entry.file_name().to_string_lossy().starts_with(name);
        let age = entry
            .metadata()
            .and_then(|data| data.modified())
            .ok()
            .and_then(|time| time.elapsed().ok());
        image && age.is_some_and(|age| age > KEPT)
    };
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    entries.filter(old).for_each(|entry| drop(fs::remove_dir_all(entry.path())));
}

fn key(versions: &packages::Versions, inputs: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (versions, inputs).hash(&mut hasher);
    hasher.finish()
}

fn build(files: &Files, folder: &Path) -> Result<()> {
    let image = Image::at(folder);
    let (release, data) = kernel(files)?;
    fs::write(&image.kernel, data)?;
    let (_, packed) = newest(files, "boot/xen-")?;
    fs::write(&image.xen, gunzip(folder, packed)?)?;
    fs::write(&image.root, root(files, &release)?.archive())?;
    Ok(())
}

fn wanted(path: &str) -> bool {
    is_kernel(path)
        || (path.starts_with("boot/xen-") && path.ends_with(".gz"))
        || modules::is_wanted(path)
        || libs::is_library(path)
        || unpack::fits("usr/lib/xen-*/bin/*", path)
        || FILES.iter().any(|pattern| unpack::fits(pattern, path))
}

/// Returns true if `path` is that of a kernel: below `boot`, or in newer releases beside its
/// modules.
fn is_kernel(path: &str) -> bool {
    path.starts_with("boot/vmlinuz-") || unpack::fits("usr/lib/modules/*/vmlinuz", path)
}

/// Returns a kernel with its release.
fn kernel(files: &Files) -> Result<(String, &[u8])> {
    let beside = files.iter().find_map(|(path, node)| {
        let release = path.strip_prefix("usr/lib/modules/")?.strip_suffix("/vmlinuz")?;
        let Node::File(_, data) = node else { return None };
        Some((release.to_string(), data.as_slice()))
    });
    beside.map_or_else(|| newest(files, "boot/vmlinuz-"), Ok)
}

/// Returns the file that starts with `prefix` and the text behind it.
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
    tree.insert(BLOCK_QUICK_PATH, Node::File(0o755, BLOCK_QUICK.as_bytes().to_vec()));
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
    modules::add(&mut tree, files, release, MODULES)?;
    Ok(tree)
}

fn gunzip(folder: &Path, packed: &[u8]) -> Result<Vec<u8>> {
    let path = folder.join("packed.gz");
    fs::write(&path, packed)?;
    let mut child =
        Command::new("gzip").arg("-dc").arg(&path).stdout(std::process::Stdio::piped()).spawn()?;
    let mut data = Vec::new();
    child.stdout.take().context("gzip without output")?.read_to_end(&mut data)?;
    ensure!(child.wait()?.success(), "gzip could not unpack the hypervisor");
    fs::remove_file(&path)?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_of_oxenstored_are_in_the_root() {
        let path = "usr/lib/xen-4.20/ocaml/xsd_glue/xenctrl_plugin/domain_getinfo_v1.cmxs";
        assert!(wanted(path));
        let module = "usr/lib/modules/6/modules.builtin";
        let list = MODULES.iter().map(|name| format!("kernel/{name}.ko\n")).collect::<String>();
        let files = Files::from([
            (path.to_string(), Node::File(0o644, b"plugin".to_vec())),
            (module.to_string(), Node::File(0o644, list.into_bytes())),
        ]);
        let tree = root(&files, "6").unwrap();
        assert!(tree.iter().any(|(at, _)| at == path));
    }
}
