//! From what the user calls a domain to its number.

use crate::{Code, DomainArgument, Failure};
use xen_platform::DomId;
use xen_store::{Error, ErrorKind, Store};

/// The number of a domain that exists now, as far as this one may know: a domain other than dom0 may not ask which others
/// there are. It can use a number all the same; a name it cannot.
pub(crate) async fn resolve(store: &Store, domain: &DomainArgument) -> Result<DomId, Failure> {
    match domain {
        DomainArgument::Number(domid) => exists(store, *domid).await,
        DomainArgument::Name(name) => by_name(store, name).await,
    }
}

async fn exists(store: &Store, domid: DomId) -> Result<DomId, Failure> {
    match is_gone(store, domid).await? {
        false => Ok(domid),
        true => Err(Failure::new(Code::NoServer, format!("there is no domain {domid}: see xl list"))),
    }
}

/// Whether xenstore says that there is no such domain.
pub(crate) async fn is_gone(store: &Store, domid: DomId) -> Result<bool, Error> {
    match store.is_domain_introduced(domid).await {
        Err(error) if is_refusal(&error) => Ok(false),
        introduced => Ok(!introduced?),
    }
}

/// Whether it is about what only dom0 may know.
pub(crate) fn is_refusal(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Access | ErrorKind::NotPermitted)
}

async fn by_name(store: &Store, name: &str) -> Result<DomId, Failure> {
    let domains = store.directory("/local/domain").await.map_err(|error| match is_refusal(&error) {
        true => Failure::new(
            Code::Usage,
            format!("only dom0 may look up which domain is named {name:?}: give its number, which xl list shows there"),
        ),
        false => error.into(),
    })?;
    for entry in domains {
        let Ok(domid) = entry.parse() else { continue };
        match store.read(&format!("/local/domain/{domid}/name")).await {
            Ok(found) if found == name.as_bytes() => return Ok(DomId(domid)),
            // The domain may have no name, or none any more: domains come and go while the list is read.
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(Code::NoServer, format!("there is no domain named {name:?}: see xl list")))
}
