//! From what the user calls a domain to its number.

use crate::{Code, DomainArgument, Failure};
use xen_platform::DomId;
use xen_store::Store;

/// The number of a domain that exists now.
pub(crate) async fn resolve(store: &Store, domain: &DomainArgument) -> Result<DomId, Failure> {
    match domain {
        DomainArgument::Number(domid) => exists(store, *domid).await,
        DomainArgument::Name(name) => by_name(store, name).await,
    }
}

async fn exists(store: &Store, domid: DomId) -> Result<DomId, Failure> {
    match store.is_domain_introduced(domid).await? {
        true => Ok(domid),
        false => Err(Failure::new(Code::NoServer, format!("there is no domain {domid}: see xl list"))),
    }
}

async fn by_name(store: &Store, name: &str) -> Result<DomId, Failure> {
    for entry in store.directory("/local/domain").await? {
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
