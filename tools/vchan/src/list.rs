//! `vchan ls`: the vchans that are published below the domains' `data`, each looked at without
//! touching it.

use crate::json::Json;
use crate::page::Page;
use crate::{Code, Failure, ListArguments};
use tools_common::{answered, is_refusal};
use xen_platform::{Access, DomId, GrantRef, Platform};
use xen_store::{Error, Store, path};

/// Depth below a domain's `data` at which keys are looked for: both layouts (`data/vchan` and
/// `data/vchan/<client>/<port>`), and then some for paths of the users' own.
const DEPTH: usize = 6;

/// The keys of a vchan.
const KEYS: [&str; 2] = ["ring-ref", "event-channel"];

/// A vchan that somebody has published.
struct Published {
    server: DomId,
    /// Domain that may read the keys, if it is one.
    client: Option<DomId>,
    path: String,
    /// The keys as they are; `None` if they are not numbers.
    ring_ref: Option<u32>,
    port: Option<u32>,
    /// The shared page, or why it cannot be seen.
    page: Result<Page, String>,
}

/// All vchans on this host, as a table or as JSON. Their pages are mapped read-only, and no port is
/// bound.
pub async fn list<P: Platform>(
    platform: &P,
    store: &Store,
    args: &ListArguments,
) -> Result<String, Failure> {
    let mut found = answered(platform, published(platform, store)).await?;
    found.sort_by(|a, b| (a.server, &a.path).cmp(&(b.server, &b.path)));
    match args.json {
        true => Ok(format!("{}\n", found.iter().map(Published::to_json).collect::<Json>())),
        false => Ok(table(&found)),
    }
}

async fn published<P: Platform>(platform: &P, store: &Store) -> Result<Vec<Published>, Failure> {
    let mut found = Vec::new();
    let domains =
        store.directory("/local/domain").await.map_err(|error| match is_refusal(&error) {
            true => Failure::new(
                Code::Usage,
                "only dom0 may see the vchans of all domains: run this there",
            ),
            false => error.into(),
        })?;
    for server in domains.iter().filter_map(|name| name.parse().ok()).map(DomId) {
        for dir in folders(store, server).await? {
            found.extend(look(platform, store, server, dir).await?);
        }
    }
    Ok(found)
}

/// The folders of a domain that have the keys of a vchan.
async fn folders(store: &Store, server: DomId) -> Result<Vec<String>, Error> {
    let mut level = vec![format!("{}/data", path::of_domain(server))];
    let mut all = Vec::new();
    for _ in 0..=DEPTH {
        let mut below = Vec::new();
        for dir in level {
            let names = unless_gone(store.directory(&dir).await)?;
            below.extend(
                names
                    .iter()
                    .filter(|name| !KEYS.contains(&name.as_str()))
                    .map(|name| format!("{dir}/{name}")),
            );
            if KEYS.iter().all(|key| names.iter().any(|name| name == key)) {
                all.push(dir);
            }
        }
        level = below;
    }
    Ok(all)
}

/// The vchan whose keys are in `dir`, unless they have gone meanwhile.
async fn look<P: Platform>(
    platform: &P,
    store: &Store,
    server: DomId,
    dir: String,
) -> Result<Option<Published>, Error> {
    let [ring_ref_key, port_key] = KEYS.map(|key| format!("{dir}/{key}"));
    let ring_ref = match store.read_number(&ring_ref_key).await {
        Err(error) if error.is_closed() => return Err(error),
        Err(error) if error.is_not_found() => return Ok(None),
        number => number.ok(),
    };
    let port = store.read_number(&port_key).await.ok();
    let readers = store
        .permissions(&ring_ref_key)
        .await
        .map(|permissions| permissions.others)
        .unwrap_or_default();
    let client = match readers[..] {
        [(client, _)] => Some(client),
        _ => None,
    };
    let page = see(platform, server, client, ring_ref);
    Ok(Some(Published { server, client, path: dir, ring_ref, port, page }))
}

/// Maps the page for as long as it takes to copy it.
fn see<P: Platform>(
    platform: &P,
    server: DomId,
    client: Option<DomId>,
    ring_ref: Option<u32>,
) -> Result<Page, String> {
    let Some(ring_ref) = ring_ref else { return Err("ring-ref is not a number".to_string()) };
    let own = platform.domid().unwrap_or(DomId(0));
    match client {
        Some(client) if client != own => {
            Err(format!("its page is granted to domain {client}, not to this one"))
        }
        _ => {
            let map = platform.map(server, &[GrantRef(ring_ref)], Access::ReadOnly);
            map.map(|page| Page::copy(&page)).map_err(|error| error.to_string())
        }
    }
}

/// Domains and folders come and go while they are looked at.
fn unless_gone(names: Result<Vec<String>, Error>) -> Result<Vec<String>, Error> {
    match names {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        other => other,
    }
}

impl Published {
    fn to_json(&self) -> Json {
        let page = self.page.as_ref();
        Json::Object(vec![
            ("server", u32::from(self.server.0).into()),
            ("client", self.client.map(|client| u32::from(client.0)).into()),
            ("path", self.path.as_str().into()),
            ("ring_ref", self.ring_ref.into()),
            ("port", self.port.into()),
            ("state", page.ok().map(Page::state).into()),
            ("left", page.ok().map(|page| page.left().to_json(None)).into()),
            ("right", page.ok().map(|page| page.right().to_json(None)).into()),
            ("reason", page.err().map(String::as_str).into()),
        ])
    }

    fn to_row(&self) -> [String; 8] {
        let number = |number: Option<u32>| {
            number.map_or_else(|| "-".to_string(), |number| number.to_string())
        };
        let page =
            |what: fn(&Page) -> String| self.page.as_ref().map_or_else(|_| "-".to_string(), what);
        [
            self.server.to_string(),
            number(self.client.map(|client| client.0.into())),
            self.path.clone(),
            number(self.ring_ref),
            number(self.port),
            page(|page| page.state().to_string()),
            page(|page| page.left().fill()),
            page(|page| page.right().fill()),
        ]
    }
}

fn table(found: &[Published]) -> String {
    let head = ["SERVER", "CLIENT", "PATH", "RING-REF", "PORT", "STATE", "LEFT", "RIGHT"]
        .map(str::to_string);
    let rows: Vec<_> = std::iter::once(head).chain(found.iter().map(Published::to_row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
