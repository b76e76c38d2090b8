//! The nodes, and what a domain may do with them.

use super::Errno;
use std::collections::{BTreeMap, BTreeSet};
use xen_abi::xs_wire::error_name::{EACCES, EINVAL, ENOENT, EPERM};
use xen_platform::DomId;

/// The domain that may do everything.
pub(super) const DOM0: DomId = DomId(0);

/// Right to read a node, as a bit.
pub(super) const READ: u8 = 1;
/// Right to write a node and to create nodes below it, as a bit.
pub(super) const WRITE: u8 = 2;

/// A node's permissions: the first entry is the owner with the rights of all domains that are not
/// listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Permissions(pub Vec<(DomId, u8)>);

impl Permissions {
    /// Reads strings like `n0` and `r5`; there must be one at least.
    pub fn parse(entries: &[&str]) -> Option<Self> {
        let entry = |text: &&str| {
            let letter = "nrwb".find(text.chars().next()?)?;
            let number = &text[1..];
            let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            Some((DomId(number.parse().ok().filter(|_| digits)?), letter as u8))
        };
        let entries = entries.iter().map(entry).collect::<Option<Vec<_>>>()?;
        (!entries.is_empty()).then_some(Permissions(entries))
    }

    pub fn owner(&self) -> DomId {
        self.0[0].0
    }

    /// Each entry as it is written, with its letter and number.
    pub fn entries(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(domain, rights)| {
            format!("{}{domain}", char::from(b"nrwb"[usize::from(*rights)]))
        })
    }

    pub fn allow(&self, by: DomId, rights: u8) -> bool {
        if by == DOM0 || by == self.owner() {
            return true;
        }
        let listed = self.0[1..].iter().find(|(domain, _)| *domain == by);
        let (_, granted) = listed.unwrap_or(&self.0[0]);
        granted & rights == rights
    }
}

/// A node. Its children are the entries of the tree right below its path.
#[derive(Clone)]
pub(super) struct Node {
    pub value: Vec<u8>,
    pub permissions: Permissions,
    /// Differs after every change of the node or of its list of children.
    pub generation: u64,
}

/// A change that watches are to hear of.
#[derive(Clone)]
pub(super) struct Event {
    pub path: String,
    /// Only watches for exactly this path hear of it: it went away with a node above it.
    pub exact: bool,
    /// A domain that could read the node before the change hears of it, too.
    pub before: Option<Permissions>,
}

/// All nodes, with a record of what was looked at and changed since the record was last taken.
#[derive(Clone)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
    generation: u64,
    /// Paths that were read, with the generation that it had then; `None` for what did not exist.
    pub seen: BTreeMap<String, Option<u64>>,
    pub changed: BTreeSet<String>,
    pub events: Vec<Event>,
}

impl Tree {
    /// A tree with nothing but its root, which is dom0's.
    pub fn new() -> Self {
        let permissions = Permissions(vec![(DOM0, 0)]);
        let root = Node { value: Vec::new(), permissions, generation: 0 };
        Tree {
            nodes: [("/".into(), root)].into(),
            generation: 0,
            seen: BTreeMap::new(),
            changed: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    /// Every path with its node, in order.
    pub fn nodes(&self) -> impl Iterator<Item = (&String, &Node)> {
        self.nodes.iter()
    }

    /// Forgets the permissions of a domain that is new: those given before it existed count for
    /// nothing (XSA-322).
    pub fn forget(&mut self, domain: DomId) {
        for node in self.nodes.values_mut() {
            let mut entries = node.permissions.0.split_off(1);
            entries.retain(|(named, _)| *named != domain);
            node.permissions.0.append(&mut entries);
        }
    }

    /// The node without asking whether anybody may see it, and without a record.
    pub fn peek(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    pub fn read(&mut self, by: DomId, path: &str) -> Result<&Node, Errno> {
        self.get(by, path, READ)
    }

    /// The names of the nodes right below `path`.
    pub fn children(&mut self, by: DomId, path: &str) -> Result<Vec<String>, Errno> {
        self.get(by, path, READ)?;
        let below = below(path);
        let names = self.descendants(path).into_iter().map(|path| path[below.len()..].to_string());
        Ok(names.filter(|name| !name.contains('/')).collect())
    }

    pub fn write(&mut self, by: DomId, path: &str, value: &[u8]) -> Result<(), Errno> {
        match self.get(by, path, WRITE) {
            Ok(_) => {}
            Err(ENOENT) => self.create(by, path),
            Err(errno) => return Err(errno),
        }
        self.change(path, |node| node.value = value.to_vec());
        self.event(path, None);
        Ok(())
    }

    pub fn mkdir(&mut self, by: DomId, path: &str) -> Result<(), Errno> {
        match self.get(by, path, WRITE) {
            Ok(_) => Ok(()),
            Err(ENOENT) => {
                self.create(by, path);
                self.event(path, None);
                Ok(())
            }
            Err(errno) => Err(errno),
        }
    }

    pub fn remove(&mut self, by: DomId, path: &str) -> Result<(), Errno> {
        let Some(above) = parent(path) else { return Err(EINVAL) };
        let before = match self.get(by, path, WRITE).map(|node| node.permissions.clone()) {
            Ok(permissions) => permissions,
            // Gone already, which is fine if there is a place where it could have been.
            Err(ENOENT) if self.see(above).is_some() => return Ok(()),
            Err(errno) => return Err(errno),
        };
        for path in self.descendants(path) {
            let node = self.take(&path);
            self.events.push(Event { path, exact: true, before: Some(node.permissions) });
        }
        self.take(path);
        self.change(above, |_| {});
        self.event(path, Some(before));
        Ok(())
    }

    pub fn set_permissions(
        &mut self,
        by: DomId,
        path: &str,
        permissions: Permissions,
    ) -> Result<(), Errno> {
        let before = self.get(by, path, WRITE)?.permissions.clone();
        if by != DOM0 && by != before.owner() {
            return Err(EACCES);
        }
        if by != DOM0 && permissions.owner() != before.owner() {
            return Err(EPERM);
        }
        self.change(path, |node| node.permissions = permissions);
        self.event(path, Some(before));
        Ok(())
    }

    /// Returns whether the domain hears of an event: it can or could read the node, or can read the
    /// one above it.
    pub fn is_heard(&self, by: DomId, event: &Event) -> bool {
        let readable =
            |path| self.nodes.get(path).is_some_and(|node: &Node| node.permissions.allow(by, READ));
        event.before.as_ref().is_some_and(|permissions| permissions.allow(by, READ))
            || readable(event.path.as_str())
            || parent(&event.path).is_some_and(readable)
    }

    /// Takes over what was changed in `other`, a copy of this tree; false, with nothing done, if
    /// something that was looked at there has changed here since.
    pub fn merge(&mut self, other: Tree) -> bool {
        let same = |(path, seen): (&String, &Option<u64>)| {
            self.nodes.get(path).map(|node| node.generation) == *seen
        };
        if !other.seen.iter().all(same) {
            return false;
        }
        for path in other.changed {
            self.changed.insert(path.clone());
            match other.nodes.get(&path) {
                Some(node) => {
                    self.generation += 1;
                    self.nodes.insert(path, Node { generation: self.generation, ..node.clone() });
                }
                None => drop(self.nodes.remove(&path)),
            }
        }
        self.events.extend(other.events);
        true
    }

    /// The node at `path`, if the domain `by` has all of `rights` there. That a node is missing is
    /// told only to domains that have the rights at the nearest one above it.
    fn get(&mut self, by: DomId, path: &str, rights: u8) -> Result<&Node, Errno> {
        let mut at = path;
        while self.see(at).is_none() {
            at = parent(at).expect("the root exists");
        }
        match &self.nodes[at] {
            node if !node.permissions.allow(by, rights) => Err(EACCES),
            node if at == path => Ok(node),
            _ => Err(ENOENT),
        }
    }

    /// Records that `path` was looked at; gives its generation.
    fn see(&mut self, path: &str) -> Option<u64> {
        let generation = self.nodes.get(path).map(|node| node.generation);
        self.seen.entry(path.into()).or_insert(generation);
        generation
    }

    /// Makes `path` and what is missing above it. They get the permissions of the node that they
    /// are made in, but belong to the domain that made them.
    fn create(&mut self, by: DomId, path: &str) {
        if self.see(path).is_some() {
            return;
        }
        let above = parent(path).expect("the root exists");
        self.create(by, above);
        self.change(above, |_| {});
        let mut permissions = self.nodes[above].permissions.clone();
        if by != DOM0 {
            permissions.0[0].0 = by;
        }
        self.generation += 1;
        self.changed.insert(path.into());
        self.nodes.insert(
            path.into(),
            Node { value: Vec::new(), permissions, generation: self.generation },
        );
    }

    fn change(&mut self, path: &str, how: impl FnOnce(&mut Node)) {
        self.see(path);
        self.generation += 1;
        self.changed.insert(path.into());
        let node = self.nodes.get_mut(path).expect("it was just found or made");
        node.generation = self.generation;
        how(node);
    }

    fn take(&mut self, path: &str) -> Node {
        self.see(path);
        self.changed.insert(path.into());
        self.nodes.remove(path).expect("it was just found")
    }

    fn event(&mut self, path: &str, before: Option<Permissions>) {
        self.events.push(Event { path: path.into(), exact: false, before });
    }

    /// The paths of all nodes below `path`.
    fn descendants(&self, path: &str) -> Vec<String> {
        let below = below(path);
        let all = self.nodes.range(below.clone()..).map(|(path, _)| path);
        all.take_while(|path| path.starts_with(&below))
            .filter(|path| *path != "/")
            .cloned()
            .collect()
    }
}

/// Returns the prefix of the paths of all nodes below `path`.
fn below(path: &str) -> String {
    if path == "/" { "/".into() } else { format!("{path}/") }
}

/// The path of the node that holds `path`; none for the root.
fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/')? {
        ("", "") => None,
        ("", _) => Some("/"),
        (above, _) => Some(above),
    }
}
