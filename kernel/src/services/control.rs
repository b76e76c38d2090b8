//! What the toolstack wants of the domain: `control/shutdown` in xenstore.

use log::{debug, info, warn};
use xen_abi::sched::Reason;
use xen_store::{Error, Store};

const SHUTDOWN: &str = "control/shutdown";
/// What the toolstack may ask for, beside the key by which the domain says that it obeys.
const FEATURES: [&str; 2] = ["control/feature-poweroff", "control/feature-reboot"];

/// Says what this domain can do and waits for a wish to end it. The wish is acknowledged, by clearing the key, before
/// this returns. Fails when xenstore is gone.
pub async fn wait(store: &Store) -> Result<Reason, Error> {
    for key in FEATURES {
        // Toolstacks that know the key leave it to the domain to write; others keep it closed, and do without.
        if let Err(why) = store.write(key, b"1").await {
            debug!("{why}");
        }
    }
    let mut watch = store.watch(SHUTDOWN).await?;
    loop {
        watch.next().await?;
        let wish = store.transaction(take_wish).await?;
        let reason = match wish.as_str() {
            "" => continue,
            "poweroff" | "halt" => Reason::Poweroff,
            "reboot" => Reason::Reboot,
            other => {
                warn!("{SHUTDOWN}: '{other}' is nothing this domain can do");
                continue;
            }
        };
        info!("{SHUTDOWN}: {wish}");
        return Ok(reason);
    }
}

/// Reads the key and clears it.
async fn take_wish(store: &Store) -> Result<alloc::string::String, Error> {
    let wish = match store.read_string(SHUTDOWN).await {
        Err(why) if why.is_not_found() => return Ok(Default::default()),
        wish => wish?,
    };
    if !wish.is_empty() {
        store.write(SHUTDOWN, b"").await?;
    }
    Ok(wish)
}
