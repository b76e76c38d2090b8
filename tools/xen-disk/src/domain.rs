//! From what the user calls a domain to its number.

use crate::{Code, DomainArgument, Failure};
use xen_platform::DomId;
use xen_store::{Error, Store};

/// The number of a domain that exists now.
pub async fn resolve(store: &Store, domain: &DomainArgument) -> Result<DomId, Failure> {
    let missing = || Failure::new(Code::Missing, format!("there is no domain {domain}: see xl list"));
    find(store, domain).await?.ok_or_else(missing)
}

/// The same; `None` if there is none.
pub async fn find(store: &Store, domain: &DomainArgument) -> Result<Option<DomId>, Error> {
    let (key, wanted) = match domain {
        DomainArgument::Number(domid) => return Ok(store.is_domain_introduced(*domid).await?.then_some(*domid)),
        DomainArgument::Name(name) => ("name", name.clone()),
        DomainArgument::Uuid(uuid) => ("vm", format!("/vm/{uuid}")),
    };
    for entry in store.directory("/local/domain").await? {
        let Ok(domid) = entry.parse() else { continue };
        if optional(store, &format!("/local/domain/{domid}/{key}")).await?.as_ref() == Some(&wanted) {
            // One that is being destroyed keeps its keys for a while.
            return Ok(store.is_domain_introduced(DomId(domid)).await?.then_some(DomId(domid)));
        }
    }
    Ok(None)
}

/// The name of a domain, if it has one.
pub async fn name(store: &Store, domid: DomId) -> Result<Option<String>, Error> {
    optional(store, &format!("/local/domain/{domid}/name")).await
}

/// The value of a key that may be missing: domains come and go.
async fn optional(store: &Store, path: &str) -> Result<Option<String>, Error> {
    match store.read_string(path).await {
        Err(error) if error.is_not_found() => Ok(None),
        found => found.map(Some),
    }
}
