//! Writes the "newc" cpio archives that Linux unpacks as its first root.
//!
//! An archive is a sorted map from path to [`Node`]; every file belongs to
//! root, no matter which user builds it. Archives can be put one behind the other: Linux
//! unpacks them in turn and the later one wins.

use std::collections::BTreeMap;

/// Thing that stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory, mode 0755.
    Directory,
    /// A file with its permission bits.
    File(u32, Vec<u8>),
    /// A symbolic link with its target.
    Link(String),
    /// A character device with its major and minor number, mode 0600.
    Device(u32, u32),
}

/// A tree of files by path, without leading slash.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// Puts `node` at `path`, with the directories above it.
    pub fn insert(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            self.nodes.entry(path[..at].to_string()).or_insert(Node::Directory);
        }
        self.nodes.insert(path.to_string(), node);
    }

    /// All nodes in the order of their paths, a directory before its contents.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// The archive, padded to 512 bytes.
    pub fn archive(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (path, node)) in self.iter().enumerate() {
            entry(&mut out, number as u32 + 1, path, node);
        }
        header(&mut out, 0, 0, 1, 0, (0, 0), "TRAILER!!!");
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }
}

fn entry(out: &mut Vec<u8>, inode: u32, path: &str, node: &Node) {
    let (mode, links, device, data): (u32, u32, (u32, u32), &[u8]) = match node {
        Node::Directory => (0o040_755, 2, (0, 0), &[]),
        Node::File(mode, data) => (0o100_000 | (mode & 0o7777), 1, (0, 0), data),
        Node::Link(target) => (0o120_777, 1, (0, 0), target.as_bytes()),
        Node::Device(major, minor) => (0o020_600, 1, (*major, *minor), &[]),
    };
    header(out, inode, mode, links, data.len() as u32, device, path);
    out.extend_from_slice(data);
    pad(out);
}

fn header(
    out: &mut Vec<u8>,
    inode: u32,
    mode: u32,
    links: u32,
    size: u32,
    device: (u32, u32),
    path: &str,
) {
    // Fields in order: inode, mode, uid, gid, links, mtime, size, device and
    // special device (major, minor each), length of the name with its zero, sum.
    let name = path.len() as u32 + 1;
    let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(archive: &[u8], number: usize) -> u32 {
        let at = 6 + number * 8;
        u32::from_str_radix(std::str::from_utf8(&archive[at..at + 8]).unwrap(), 16).unwrap()
    }

    #[test]
    fn parents_come_first() {
        let mut tree = Tree::default();
        tree.insert("/a/b/c", Node::Link("x".into()));
        let paths: Vec<_> = tree.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(paths, ["a", "a/b", "a/b/c"]);
    }

    #[test]
    fn a_file_has_mode_size_and_root_as_owner() {
        let mut tree = Tree::default();
        tree.insert("file", Node::File(0o755, b"hello".to_vec()));
        let archive = tree.archive();
        assert_eq!(&archive[..6], b"070701");
        assert_eq!(field(&archive, 1), 0o100_755);
        assert_eq!((field(&archive, 2), field(&archive, 3)), (0, 0));
        assert_eq!(field(&archive, 6), 5);
        assert_eq!(field(&archive, 11), 5);
        assert_eq!(&archive[110..115], b"file\0");
        assert_eq!(&archive[116..121], b"hello");
    }

    #[test]
    fn archives_can_follow_each_other() {
        let archive = Tree::default().archive();
        assert_eq!(archive.len() % 512, 0);
        assert!(archive.windows(10).any(|bytes| bytes == b"TRAILER!!!"));
    }
}
