//! The handle: one function for each request.

use crate::reply::{self, Answer, Part};
use crate::shared::Shared;
use crate::state::Tx;
use crate::transaction::ATTEMPTS;
use crate::{Error, ErrorKind, Op, Permissions, Watch, path};
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem::size_of;
use xen_abi::xs_wire::{Header, PAYLOAD_MAX};
use xen_platform::DomId;

/// The longest payload that is sent, in bytes: a message with its header must fit the 4096 bytes
/// that Linux takes through `/dev/xen/xenbus`, which is a little less than xenstored would take.
const SEND_MAX: usize = PAYLOAD_MAX - size_of::<Header>();

/// Attempts at a node's list of children, which is begun anew because the node changed between two
/// parts of it.
const LIST_ATTEMPTS: usize = 16;

/// The longest list of children, in bytes with one separator each.
const LIST_MAX: usize = 1 << 20;

/// A handle on a connection to xenstored, or on a transaction in it. Clones are the same
/// connection.
///
/// Paths are absolute, or relative to the own domain's folder (not over xenstored's socket). A path
/// that xenstored would refuse, and a request longer than it takes, fail here and are not sent.
#[derive(Clone)]
pub struct Store {
    shared: Rc<Shared>,
    tx: Tx,
}

impl Store {
    pub(crate) fn new(shared: Rc<Shared>) -> Self {
        Store { shared, tx: Tx::NONE }
    }

    /// The same connection within the transaction `tx`.
    pub(crate) fn within(&self, tx: Tx) -> Self {
        Store { shared: self.shared.clone(), tx }
    }

    pub(crate) fn tx(&self) -> Tx {
        self.tx
    }

    pub(crate) fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }

    /// The value at `path`.
    pub async fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        match self.ask(Op::Read, path, &[b"\0"]).await? {
            Answer::Value(value) => Ok(value),
            _ => mismatch(),
        }
    }

    /// The value at `path`, which must be UTF-8.
    pub async fn read_string(&self, path: &str) -> Result<String, Error> {
        let value = self.read(path).await?;
        String::from_utf8(value).map_err(|_| Error::new(Op::Read, path, ErrorKind::NotText))
    }

    /// The value at `path`, which must be decimal digits and fit `T`.
    pub async fn read_number<T: TryFrom<u64>>(&self, path: &str) -> Result<T, Error> {
        let text = self.read_string(path).await?;
        reply::number(&text).ok_or_else(|| Error::new(Op::Read, path, ErrorKind::NotNumber(text)))
    }

    /// Sets the value at `path`; makes the node and its parents where they are missing.
    pub async fn write(&self, path: &str, value: &[u8]) -> Result<(), Error> {
        self.tell(Op::Write, path, &[b"\0", value]).await
    }

    /// Makes the node at `path`, with an empty value, and its parents where they are missing. One
    /// that exists stays.
    pub async fn mkdir(&self, path: &str) -> Result<(), Error> {
        self.tell(Op::Mkdir, path, &[b"\0"]).await
    }

    /// Removes the node at `path` and all below it. No error if only the node is missing,
    /// [`ErrorKind::NoEntry`] if its parent is missing, too.
    pub async fn rm(&self, path: &str) -> Result<(), Error> {
        self.tell(Op::Remove, path, &[b"\0"]).await
    }

    /// The names of the nodes directly below `path`. A list too long for one message is fetched in
    /// parts.
    pub async fn directory(&self, path: &str) -> Result<Vec<String>, Error> {
        match self.ask(Op::List, path, &[b"\0"]).await {
            Ok(Answer::Names(names)) => Ok(names),
            Ok(_) => mismatch(),
            Err(error) if matches!(error.kind, ErrorKind::TooBig) => {
                self.directory_in_parts(path).await
            }
            Err(error) => Err(error),
        }
    }

    async fn directory_in_parts(&self, path: &str) -> Result<Vec<String>, Error> {
        for _ in 0..LIST_ATTEMPTS {
            if let Some(names) = self.directory_unless_changed(path).await? {
                return Ok(names);
            }
        }
        Err(Error::new(Op::ListPart, path, ErrorKind::Again))
    }

    /// Fetches all parts; `None` if the node changed meanwhile.
    async fn directory_unless_changed(&self, path: &str) -> Result<Option<Vec<String>>, Error> {
        let mut names: Vec<String> = Vec::new();
        let mut first: Option<String> = None;
        let mut offset = 0;
        while offset <= LIST_MAX {
            let Part { generation, names: more, last } = self.directory_part(path, offset).await?;
            if *first.get_or_insert_with(|| generation.clone()) != generation {
                return Ok(None);
            }
            offset += more.iter().map(|name| name.len() + 1).sum::<usize>();
            names.extend(more);
            if last {
                return Ok(Some(names));
            }
        }
        Err(Error::new(Op::ListPart, path, ErrorKind::TooBig))
    }

    async fn directory_part(&self, path: &str, offset: usize) -> Result<Part, Error> {
        match self.ask(Op::ListPart, path, &[b"\0", offset.to_string().as_bytes(), b"\0"]).await? {
            Answer::Part(part) => Ok(part),
            _ => mismatch(),
        }
    }

    /// Returns the permissions of the node at `path`.
    pub async fn permissions(&self, path: &str) -> Result<Permissions, Error> {
        match self.ask(Op::GetPermissions, path, &[b"\0"]).await? {
            Answer::Permissions(permissions) => Ok(permissions),
            _ => mismatch(),
        }
    }

    /// Sets the permissions of the node at `path`. Only its owner and dom0 can, and only dom0 can
    /// change the owner.
    pub async fn set_permissions(
        &self,
        path: &str,
        permissions: &Permissions,
    ) -> Result<(), Error> {
        self.tell(Op::SetPermissions, path, &[b"\0", permissions.encode().as_bytes()]).await
    }

    /// Watches `path` and all below it, existing or not; `@introduceDomain` and `@releaseDomain`
    /// (domains that come and go) only for dom0. The first event comes at once and does not mean a
    /// change.
    pub async fn watch(&self, path: &str) -> Result<Watch, Error> {
        Watch::set(self, path).await
    }

    /// A domain's folder, normally `/local/domain/<number>`.
    pub async fn domain_path(&self, domain: DomId) -> Result<String, Error> {
        match self.ask_of_domain(Op::GetDomainPath, domain).await? {
            Answer::Path(path) => Ok(path),
            _ => mismatch(),
        }
    }

    /// Returns true if xenstored knows the domain: it has been built and has not been destroyed.
    pub async fn is_domain_introduced(&self, domain: DomId) -> Result<bool, Error> {
        match self.ask_of_domain(Op::IsIntroduced, domain).await? {
            Answer::Flag(introduced) => Ok(introduced),
            _ => mismatch(),
        }
    }

    async fn ask_of_domain(&self, op: Op, domain: DomId) -> Result<Answer, Error> {
        self.shared.slot(Tx::NONE).await;
        let payload = alloc::format!("{domain}\0");
        let answer = self.shared.submit(op, Tx::NONE, payload.as_bytes()).await;
        answer.map_err(|kind| Error::of_domain(op, domain, kind))
    }

    /// A request that is answered with no more than that it was carried out.
    async fn tell(&self, op: Op, path: &str, rest: &[&[u8]]) -> Result<(), Error> {
        match self.ask(op, path, rest).await? {
            Answer::Done => Ok(()),
            _ => mismatch(),
        }
    }

    /// Sends a request whose payload is `path` and then `rest`, and waits for the answer.
    async fn ask(&self, op: Op, path: &str, rest: &[&[u8]]) -> Result<Answer, Error> {
        let payload = payload(op, path, rest)?;
        let mut attempts = 0;
        loop {
            self.shared.slot(self.tx).await;
            attempts += 1;
            match self.shared.submit(op, self.tx, &payload).await {
                Ok(answer) => return Ok(answer),
                // The stream was another before the answer came. All requests can be made twice.
                Err(ErrorKind::Again) if self.tx == Tx::NONE && attempts < ATTEMPTS => {}
                Err(kind) => return Err(Error::new(op, path, kind)),
            }
        }
    }
}

/// Puts a payload together, if xenstored would take it.
pub(crate) fn payload(op: Op, path: &str, rest: &[&[u8]]) -> Result<Vec<u8>, Error> {
    path::check(path).map_err(|wrong| Error::new(op, path, wrong))?;
    let len = path.len() + rest.iter().map(|piece| piece.len()).sum::<usize>();
    if len > SEND_MAX {
        return Err(Error::new(op, path, ErrorKind::TooLong { len, max: SEND_MAX }));
    }
    let mut payload = Vec::with_capacity(len);
    payload.extend_from_slice(path.as_bytes());
    rest.iter().for_each(|piece| payload.extend_from_slice(piece));
    Ok(payload)
}

/// `reply::parse` gives each request the one kind of answer that belongs to it.
#[cold]
pub(crate) fn mismatch() -> ! {
    unreachable!("an answer of another request")
}
