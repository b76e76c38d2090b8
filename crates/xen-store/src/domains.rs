//! Domains by their name or UUID, as the toolstack records them in xenstore.

use crate::{Error, Store, path};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use xen_platform::DomId;

/// A living domain, as the toolstack records it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Domain {
    /// Its number.
    pub id: DomId,
    /// Its name, if it has one yet.
    pub name: Option<String>,
    /// Its UUID, in lower case with dashes, if it has one.
    pub uuid: Option<String>,
}

/// Returns all living domains, in no order. Only dom0 may ask.
pub async fn list(store: &Store) -> Result<Vec<Domain>, Error> {
    let mut domains = Vec::new();
    for entry in store.directory("/local/domain").await? {
        let Ok(id) = entry.parse().map(DomId) else { continue };
        if store.is_domain_introduced(id).await? {
            let vm = optional(store, id, "vm").await?;
            let uuid = vm.and_then(|vm| vm.strip_prefix("/vm/").map(str::to_ascii_lowercase));
            domains.push(Domain { id, name: optional(store, id, "name").await?, uuid });
        }
    }
    Ok(domains)
}

/// Returns the first living domain with this name; `None` if there is none. Only dom0 may ask.
///
/// A record without a domain is passed over: it may be left over from one that died, and hide
/// another of the same name.
pub async fn find_by_name(store: &Store, name: &str) -> Result<Option<DomId>, Error> {
    find(store, "name", name).await
}

/// Returns the living domain with this UUID, in lower case with dashes; `None` if there is none.
/// Only dom0 may ask.
pub async fn find_by_uuid(store: &Store, uuid: &str) -> Result<Option<DomId>, Error> {
    find(store, "vm", &format!("/vm/{uuid}")).await
}

/// Returns the name of a domain; `None` if it has none.
pub async fn name(store: &Store, domain: DomId) -> Result<Option<String>, Error> {
    optional(store, domain, "name").await
}

async fn find(store: &Store, key: &str, wanted: &str) -> Result<Option<DomId>, Error> {
    for entry in store.directory("/local/domain").await? {
        let Ok(domain) = entry.parse().map(DomId) else { continue };
        if optional(store, domain, key).await?.as_deref() == Some(wanted)
            && store.is_domain_introduced(domain).await?
        {
            return Ok(Some(domain));
        }
    }
    Ok(None)
}

/// The value of a key that may be missing, for domains come and go, or be no text, which is no
/// name.
async fn optional(store: &Store, domain: DomId, key: &str) -> Result<Option<String>, Error> {
    match store.read(&format!("{}/{key}", path::of_domain(domain))).await {
        Err(error) if error.is_not_found() => Ok(None),
        found => Ok(String::from_utf8(found?).ok()),
    }
}
