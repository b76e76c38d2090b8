//! Which files a process that serves can reach: those of its disks, and the devices of Xen.

use crate::Failure;
use landlock::{
    ABI, Access, AccessFs, BitFlags, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope, path_beneath_rules,
};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The rights that are asked for; a kernel that knows fewer restricts what it knows.
const KNOWN: ABI = ABI::V9;
/// Folder of the devices of Xen, which are opened whenever a guest connects.
const DEVICES: &str = "/dev/xen";
/// Read by every server: where processes are told apart, and the run of the machine.
const STATE: &str = "/proc";
/// Read to find a store in the network by its name, and to trust it.
const NETWORK: [&str; 5] = ["/etc", "/usr", "/lib", "/lib64", "/run/systemd/resolve"];

/// The files that are left to a process.
pub(crate) struct Reach {
    /// Files and folders of its disks; `None` if these can be anywhere.
    pub files: Option<Vec<PathBuf>>,
    /// Files and folders that are only read.
    pub reads: Vec<PathBuf>,
    /// Folder of its sockets.
    pub run_dir: PathBuf,
    /// More sockets are made there.
    pub makes_sockets: bool,
    /// Some storage is reached through a network.
    pub network: bool,
    /// Sockets of servers of this machine.
    pub servers: Vec<PathBuf>,
}

impl Reach {
    /// Returns true if the file of a disk is among those that are left.
    pub fn covers(&self, file: &Path) -> bool {
        let wanted = root(file);
        match &self.files {
            None => true,
            Some(files) => files.iter().any(|left| wanted.starts_with(root(left))),
        }
    }
}

/// Takes all files but those of `reach` away from this thread and those that it makes, and the way
/// to abstract sockets and to other processes. Returns false if the kernel cannot.
pub(crate) fn restrict(reach: &Reach) -> Result<bool, Failure> {
    try_to_restrict(reach)
        .map_err(|error| Failure::other(format!("cannot restrict files (Landlock): {error}")))
}

fn try_to_restrict(reach: &Reach) -> Result<bool, RulesetError> {
    let all = AccessFs::from_all(KNOWN);
    let rules = match reach.files {
        // Nothing is asked of the file system then, and the rest is restricted all the same.
        None => Ruleset::default(),
        Some(_) => Ruleset::default().handle_access(all)?,
    };
    let mut rules = rules.scope(Scope::from_all(KNOWN))?.create()?;
    if let Some(files) = &reach.files {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let network = reach.network.then_some(NETWORK).into_iter().flatten();
        let mut sockets = BitFlags::from(AccessFs::RemoveFile);
        if reach.makes_sockets {
            // Beside each socket is a lock.
            sockets |= read | AccessFs::MakeSock | AccessFs::MakeReg | AccessFs::WriteFile;
        }
        rules = rules
            .add_rules(path_beneath_rules(
                [DEVICES],
                read | AccessFs::WriteFile | AccessFs::IoctlDev,
            ))?
            .add_rules(path_beneath_rules([STATE], read))?
            .add_rules(path_beneath_rules(&reach.reads, read))?
            .add_rules(path_beneath_rules(network, read))?
            .add_rules(path_beneath_rules([&reach.run_dir], sockets))?
            .add_rules(path_beneath_rules(
                reach.servers.iter().map(|p| root(p)),
                AccessFs::ResolveUnix,
            ))?
            .add_rules(path_beneath_rules(files.iter().map(|path| root(path)), contents()))?;
    }
    let status = rules.restrict_self()?;
    Ok(matches!(status.landlock, LandlockStatus::Available { .. }))
}

/// Returns the rights that images and chunks take.
fn contents() -> BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::IoctlDev
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::Refer
}

/// Returns what has to be left for a file that may be replaced, or be made later: its folder. A
/// device stands for itself, since its folder has those of all others.
fn root(path: &Path) -> PathBuf {
    let found = fs::canonicalize(path);
    let kind = found.as_ref().ok().and_then(|path| fs::metadata(path).ok()).map(|m| m.file_type());
    let target = found.unwrap_or_else(|_| std::path::absolute(path).unwrap_or(path.into()));
    if kind.is_some_and(|kind| kind.is_dir() || kind.is_block_device() || kind.is_char_device()) {
        return target;
    }
    let folder = target.ancestors().skip(1).find(|folder| folder.is_dir());
    match folder {
        // That would be everything.
        Some(folder) if folder != Path::new("/") => folder.into(),
        _ => target,
    }
}
