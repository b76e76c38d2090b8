//! `vchan dump`: a shared page for people who look for what is wrong with it.

use crate::connect::{find_domain, path_of_client};
use crate::json::Json;
use crate::page::{Page, Ring, live, wishes};
use crate::{Code, DumpArguments, Failure};
use std::time::Duration;
use tools_common::{answered, hexdump};
use xen_platform::{Access, DomId, GrantRef, Platform};
use xen_store::{Error, Store};

/// Time limit for xenstore to tell which domain is meant.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// The page of the vchan that a domain offers this one, as text or as JSON. It is mapped read-only,
/// and no port is bound.
pub async fn dump<P: Platform>(
    platform: &P,
    store: &Store,
    args: &DumpArguments,
) -> Result<String, Failure> {
    let until = platform.now() + STORE_PATIENCE;
    let server = find_domain(platform, store, &args.place.domain, until).await?;
    let dir = path_of_client(platform, store, &args.place, server).await?;
    let key = |name: &str| format!("{dir}/{name}");
    let ring_ref = answered(platform, read(store, &key("ring-ref"))).await?;
    let port = answered(platform, read(store, &key("event-channel"))).await?;
    let map = platform.map(server, &[GrantRef(ring_ref)], Access::ReadOnly);
    let map = map.map_err(|error| Failure::new(Code::Other, error.to_string()))?;
    let dump = Dump { server, dir, ring_ref, port, page: Page::copy(&map) };
    match args.json {
        true => Ok(format!("{}\n", dump.to_json())),
        false => Ok(dump.to_text()),
    }
}

async fn read(store: &Store, key: &str) -> Result<u32, Failure> {
    store.read_number(key).await.map_err(|error: Error| match error.is_not_found() {
        true => {
            let text = format!("no vchan is published at {key}: see vchan ls for those there are");
            Failure::new(Code::Missing, text)
        }
        false => error.into(),
    })
}

struct Dump {
    server: DomId,
    dir: String,
    ring_ref: u32,
    port: u32,
    page: Page,
}

impl Dump {
    fn to_text(&self) -> String {
        let Dump { server, dir, ring_ref, port, page } = self;
        let (left, right) = page.grants();
        let notify = |bits| match wishes(bits) {
            wishes if wishes.is_empty() => "nothing".to_string(),
            wishes => wishes.join(", "),
        };
        let mut lines = vec![
            format!("path        {dir}"),
            format!(
                "server      domain {server}, event channel {port}: {}",
                live(page.head.srv_live)
            ),
            format!("client      {}", live(page.head.cli_live)),
            format!("state       {}", page.state()),
            format!("left        to the server: {}", ring(page.left())),
            format!("right       to the client: {}", ring(page.right())),
            format!("cli_notify  the client is to tell of {}", notify(page.head.cli_notify)),
            format!("srv_notify  the server is to tell of {}", notify(page.head.srv_notify)),
            format!(
                "grants      page {ring_ref}; left {}; right {}",
                grants(&left),
                grants(&right)
            ),
        ];
        lines.extend(page.orders().err().map(|reason| format!("broken      {reason}")));
        format!("{}\n\n{}\n", lines.join("\n"), hexdump(page.used()))
    }

    fn to_json(&self) -> Json {
        let Dump { server, dir, ring_ref, port, page } = self;
        let (left, right) = page.grants();
        Json::Object(vec![
            ("server", u32::from(server.0).into()),
            ("path", dir.as_str().into()),
            ("ring_ref", (*ring_ref).into()),
            ("port", (*port).into()),
            ("state", page.state().into()),
            ("cli_live", u32::from(page.head.cli_live.0).into()),
            ("srv_live", u32::from(page.head.srv_live.0).into()),
            ("cli_notify", wishes(page.head.cli_notify).into_iter().collect()),
            ("srv_notify", wishes(page.head.srv_notify).into_iter().collect()),
            ("left", page.left().to_json(Some(left))),
            ("right", page.right().to_json(Some(right))),
            ("broken", page.orders().err().as_deref().into()),
            (
                "bytes",
                page.used()
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>()
                    .as_str()
                    .into(),
            ),
        ])
    }
}

fn ring(ring: Ring) -> String {
    let Ring { order, indices, used, .. } = ring;
    let impossible = if used.is_none() { ", which cannot be" } else { "" };
    format!(
        "order {order}, {} bytes used, prod {}, cons {}{impossible}",
        ring.fill(),
        indices.prod,
        indices.cons
    )
}

fn grants(refs: &[u32]) -> String {
    match refs {
        [] => "in the page".to_string(),
        refs => refs.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
    }
}
