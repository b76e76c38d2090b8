//! The daemon's state, and what it does with a message.

use super::Errno;
use super::connection::{Connection, Watch};
use super::request::{self, Request};
use super::tree::{DOM0, Event, Permissions, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;
use xen_abi::xs_wire::error_name::{E2BIG, EACCES, EAGAIN, EBUSY, EEXIST, ENOENT, ENOSPC};
use xen_abi::xs_wire::{Header, MessageType, PAYLOAD_MAX};
use xen_platform::DomId;

/// Transactions that a domain other than dom0 may have open at once, as in xenstored.
const TRANSACTIONS_MAX: usize = 10;
/// Watches that a domain other than dom0 may have at once, as in xenstored.
const WATCHES_MAX: usize = 128;

pub(super) struct Daemon {
    pub tree: Tree,
    pub connections: BTreeMap<u64, Connection>,
    pub last_connection: u64,
    /// Number of requests so far.
    pub requests: u64,
    pub introduced: BTreeSet<DomId>,
    /// Number of commits that fail, whatever they contain.
    pub commits_to_fail: usize,
    /// Bytes that go through a pipe at once, at most.
    pub transfer_max: usize,
    /// Whom to wake once the daemon is no longer borrowed.
    pub wakers: Vec<Waker>,
}

impl Daemon {
    pub fn new() -> Self {
        Daemon {
            tree: Tree::new(),
            connections: BTreeMap::new(),
            last_connection: 0,
            requests: 0,
            introduced: [DOM0].into(),
            commits_to_fail: 0,
            transfer_max: usize::MAX,
            wakers: Vec::new(),
        }
    }

    pub fn connection(&mut self, id: u64) -> &mut Connection {
        self.connections.get_mut(&id).expect("a connection stays while one of its ends does")
    }

    /// Does everything that a connection has asked for.
    pub fn work(&mut self, id: u64) {
        while let Some((header, payload)) =
            self.connections.get_mut(&id).and_then(|c| c.message(&mut self.wakers))
        {
            self.requests += 1;
            let Header { kind, req_id, tx_id, .. } = header;
            let domain = self.connection(id).domain;
            let answer = request::parse(kind, &payload, domain)
                .and_then(|request| self.answer(id, tx_id, request));
            let (kind, payload) = match answer {
                Ok(payload) => (kind, payload),
                Err(errno) => (MessageType::ERROR, format!("{errno}\0").into_bytes()),
            };
            let first = (kind == MessageType::WATCH).then(|| self.connection(id).watches.len() - 1);
            let connection = self.connections.get_mut(&id).expect("it just asked");
            connection.send(kind, req_id, tx_id, &payload, &mut self.wakers);
            if let Some(index) = first {
                let path = connection.watches[index].path.clone();
                Self::tell(connection, index, &path, &mut self.wakers);
            }
            self.fire();
        }
    }

    fn answer(&mut self, id: u64, tx: u32, request: Request<'_>) -> Result<Vec<u8>, Errno> {
        if tx != 0 && !self.connection(id).transactions.contains_key(&tx) {
            return Err(ENOENT);
        }
        match request {
            Request::Start => return self.start(id, tx),
            Request::End { commit } => self.end(id, tx, commit)?,
            Request::Watch { path, prefix, token } => self.watch(id, path, prefix, token)?,
            Request::Unwatch { path, token } => self.unwatch(id, &path, token)?,
            Request::DomainPath(domain) => return Ok(format!("{}\0", folder(domain)).into_bytes()),
            // XS_FLAG_PRIV in xenstored: no guest learns which other domains there are.
            Request::IsIntroduced(_) if self.connection(id).domain != DOM0 => return Err(EACCES),
            Request::IsIntroduced(domain) => {
                return Ok(if self.introduced.contains(&domain) { b"T\0" } else { b"F\0" }.to_vec());
            }
            Request::Node(path, access) => return self.access(id, tx, &path, access),
        }
        Ok(b"OK\0".to_vec())
    }

    /// Reads or changes a node, in the tree itself or in a transaction's copy.
    fn access(
        &mut self,
        id: u64,
        tx: u32,
        path: &str,
        access: request::Access<'_>,
    ) -> Result<Vec<u8>, Errno> {
        let connection = self.connections.get_mut(&id).expect("it just asked");
        let by = connection.domain;
        let tree = connection.transactions.get_mut(&tx).unwrap_or(&mut self.tree);
        match access {
            request::Access::Read => return Ok(tree.read(by, path)?.value.clone()),
            request::Access::List => {
                let list = list(&tree.children(by, path)?);
                return if list.len() > PAYLOAD_MAX { Err(E2BIG) } else { Ok(list) };
            }
            request::Access::ListPart { offset } => {
                let list = list(&tree.children(by, path)?);
                return Ok(part(tree.read(by, path)?.generation, &list, offset));
            }
            request::Access::GetPermissions => {
                return Ok(list(&tree.read(by, path)?.permissions.entries().collect::<Vec<_>>()));
            }
            request::Access::Write(value) => tree.write(by, path, value)?,
            request::Access::Mkdir => tree.mkdir(by, path)?,
            request::Access::Remove => tree.remove(by, path)?,
            request::Access::SetPermissions(permissions) => {
                tree.set_permissions(by, path, permissions)?
            }
        }
        Ok(b"OK\0".to_vec())
    }

    fn start(&mut self, id: u64, tx: u32) -> Result<Vec<u8>, Errno> {
        if tx != 0 {
            return Err(EBUSY);
        }
        let tree = self.tree.clone();
        let connection = self.connection(id);
        if connection.domain != DOM0 && connection.transactions.len() >= TRANSACTIONS_MAX {
            return Err(ENOSPC);
        }
        connection.last_tx += 1;
        let tx = connection.last_tx;
        connection.transactions.insert(tx, tree);
        Ok(format!("{tx}\0").into_bytes())
    }

    fn end(&mut self, id: u64, tx: u32, commit: bool) -> Result<(), Errno> {
        let copy = self.connection(id).transactions.remove(&tx).ok_or(ENOENT)?;
        if !commit {
            return Ok(());
        }
        if self.commits_to_fail > 0 {
            self.commits_to_fail -= 1;
            return Err(EAGAIN);
        }
        if self.tree.merge(copy) { Ok(()) } else { Err(EAGAIN) }
    }

    fn watch(&mut self, id: u64, path: String, prefix: usize, token: &str) -> Result<(), Errno> {
        let connection = self.connection(id);
        if connection.watches.iter().any(|watch| watch.path == path && watch.token == token) {
            return Err(EEXIST);
        }
        if connection.domain != DOM0 && connection.watches.len() >= WATCHES_MAX {
            return Err(E2BIG);
        }
        connection.watches.push(Watch { path, token: token.into(), prefix });
        Ok(())
    }

    fn unwatch(&mut self, id: u64, path: &str, token: &str) -> Result<(), Errno> {
        let watches = &mut self.connection(id).watches;
        let index = watches
            .iter()
            .position(|watch| watch.path == path && watch.token == token)
            .ok_or(ENOENT)?;
        watches.remove(index);
        Ok(())
    }

    /// Tells all watches of what happened in the tree, and forgets the record of it.
    pub fn fire(&mut self) {
        self.tree.seen.clear();
        self.tree.changed.clear();
        for event in std::mem::take(&mut self.tree.events) {
            for connection in self.connections.values_mut() {
                if self.tree.is_heard(connection.domain, &event) {
                    Self::offer(connection, &event, &mut self.wakers);
                }
            }
        }
    }

    /// Tells the watches for a special path; only dom0 hears of it.
    pub fn fire_special(&mut self, path: &str) {
        let event = Event { path: path.into(), exact: false, before: None };
        for connection in
            self.connections.values_mut().filter(|connection| connection.domain == DOM0)
        {
            Self::offer(connection, &event, &mut self.wakers);
        }
    }

    fn offer(connection: &mut Connection, event: &Event, wakers: &mut Vec<Waker>) {
        for index in 0..connection.watches.len() {
            let top = connection.watches[index].path.as_str();
            let rest = event.path.strip_prefix(top);
            let within =
                rest.is_some_and(|rest| top == "/" || rest.is_empty() || rest.starts_with('/'));
            if if event.exact { event.path == top } else { within } {
                Self::tell(connection, index, &event.path, wakers);
            }
        }
    }

    fn tell(connection: &mut Connection, watch: usize, path: &str, wakers: &mut Vec<Waker>) {
        let Watch { token, prefix, .. } = &connection.watches[watch];
        let payload = format!("{}\0{token}\0", &path[*prefix..]);
        connection.watch_events += 1;
        connection.send(MessageType::WATCH_EVENT, 0, 0, payload.as_bytes(), wakers);
    }

    /// Does for a new domain what the toolstack does, as far as a guest sees it: a folder that it
    /// can read, with a few places where it can write.
    pub fn make_folder(&mut self, domain: DomId) {
        let folder = folder(domain);
        let readable = Permissions(vec![(DOM0, 0), (domain, super::tree::READ)]);
        let own = Permissions(vec![(domain, 0)]);
        let mut make = |path: &str, value: &str, permissions: &Permissions| {
            let path = if path.is_empty() { folder.clone() } else { format!("{folder}/{path}") };
            let made = self.tree.write(DOM0, &path, value.as_bytes());
            made.and_then(|()| self.tree.set_permissions(DOM0, &path, permissions.clone()))
                .expect("dom0 may");
        };
        make("", "", &readable);
        make("domid", &domain.to_string(), &readable);
        make("control", "", &readable);
        for own_folder in
            ["data", "control/shutdown", "control/feature-poweroff", "control/feature-reboot"]
        {
            make(own_folder, "", &own);
        }
        self.fire();
    }
}

/// Returns the folder that a domain's relative paths start from.
pub(super) fn folder(domain: DomId) -> String {
    format!("/local/domain/{domain}")
}

/// Strings that each end with a NUL.
fn list(strings: &[String]) -> Vec<u8> {
    strings.iter().flat_map(|string| [string.as_bytes(), b"\0"].concat()).collect()
}

/// As many names as fit a message from `offset` on, after the generation; an empty one if there are
/// no more.
fn part(generation: u64, list: &[u8], offset: usize) -> Vec<u8> {
    let mut payload = format!("{generation}\0").into_bytes();
    let rest = list.get(offset..).unwrap_or_default();
    let mut names = rest.split_inclusive(|&byte| byte == 0).peekable();
    while let Some(name) = names.next_if(|name| payload.len() + name.len() < PAYLOAD_MAX) {
        payload.extend_from_slice(name);
    }
    if names.peek().is_none() {
        payload.push(0);
    }
    payload
}
