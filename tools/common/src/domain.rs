//! Domains as users name them.

use crate::{Code, Failure};
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use xen_platform::DomId;
use xen_store::{Error, ErrorKind, Store, domains};

/// A domain as the user names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DomainArgument {
    /// By its number.
    Number(DomId),
    /// By its UUID, in lower case.
    Uuid(String),
    /// By its name.
    Name(String),
}

impl FromStr for DomainArgument {
    type Err = Infallible;

    /// Takes digits for a number, if a domain can have it, and 32 hexadecimal digits with dashes
    /// for a UUID. Anything else is a name.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number =
            text.parse().ok().map(DomId).filter(|domid| digits && *domid < DomId::FIRST_RESERVED);
        Ok(match number {
            Some(number) => DomainArgument::Number(number),
            None if is_uuid(text) => DomainArgument::Uuid(text.to_ascii_lowercase()),
            None => DomainArgument::Name(text.to_string()),
        })
    }
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

impl fmt::Display for DomainArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DomainArgument::Number(domid) => write!(f, "{domid}"),
            DomainArgument::Uuid(text) | DomainArgument::Name(text) => f.write_str(text),
        }
    }
}

/// Returns the number of a domain that exists now. A domain other than dom0 may not ask whether
/// others exist: it can use their numbers all the same, but not their names.
pub async fn resolve_domain(store: &Store, domain: &DomainArgument) -> Result<DomId, Failure> {
    match find_domain(store, domain).await {
        Ok(Some(domid)) => Ok(domid),
        Ok(None) => {
            Err(Failure::new(Code::Missing, format!("there is no domain {domain}: see xl list")))
        }
        Err(error) if is_refusal(&error) => Err(Failure::new(
            Code::Usage,
            format!(
                "only dom0 may look up the domain named {domain}: give its number, which xl list \
                 shows there"
            ),
        )),
        Err(error) => Err(error.into()),
    }
}

/// Returns the number of a domain, or `None` if no living domain is meant.
pub async fn find_domain(store: &Store, domain: &DomainArgument) -> Result<Option<DomId>, Error> {
    match domain {
        DomainArgument::Number(domid) => Ok((!is_gone(store, *domid).await?).then_some(*domid)),
        DomainArgument::Name(name) => domains::find_by_name(store, name).await,
        DomainArgument::Uuid(uuid) => domains::find_by_uuid(store, uuid).await,
    }
}

/// Returns true if xenstore says that there is no such domain, and false also where this domain may
/// not ask.
pub async fn is_gone(store: &Store, domid: DomId) -> Result<bool, Error> {
    match store.is_domain_introduced(domid).await {
        Err(error) if is_refusal(&error) => Ok(false),
        introduced => Ok(!introduced?),
    }
}

/// Returns true if the request is one that xenstore grants only to dom0 or an entry's owner.
pub fn is_refusal(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Access | ErrorKind::NotPermitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_argument_is_number_uuid_or_name() {
        let parsed = |text: &str| text.parse::<DomainArgument>().unwrap();
        assert_eq!(parsed("0"), DomainArgument::Number(DomId(0)));
        assert_eq!(parsed("32751"), DomainArgument::Number(DomId(0x7fef)));
        for name in ["32752", "99999999999", "+2", "-1", "echo", "2a", "0b1a5e4c-1111"] {
            assert_eq!(parsed(name), DomainArgument::Name(name.to_string()));
        }
        let uuid = "0B1A5E4C-1111-2222-3333-444455556666";
        assert_eq!(parsed(uuid), DomainArgument::Uuid(uuid.to_lowercase()));
    }
}
