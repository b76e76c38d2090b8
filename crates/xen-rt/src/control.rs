//! Requests of the toolstack to end the domain: `control/shutdown` in xenstore.

use crate::xen::Outcome;
use crate::{Domain, Reason};
use alloc::string::{String, ToString};
use core::future::pending;
use core::time::Duration;
use log::{debug, error, info, warn};
use xen_platform::{Platform, sleep};
use xen_store::{Error, Store};

const SHUTDOWN: &str = "control/shutdown";
/// Requests that the toolstack may make.
const FEATURES: [&str; 3] =
    ["control/feature-poweroff", "control/feature-reboot", "control/feature-suspend"];
/// Pause before xenstore is asked again after an error.
const RETRY: Duration = Duration::from_secs(1);

/// Waits for a request to end the domain, acknowledges it and returns the reason.
///
/// An error of xenstore is logged, and xenstore asked again: only a connection that is closed is
/// the end of it, and even then the domain goes on.
pub async fn wait(domain: &Domain) -> Reason {
    let mut logged = String::new();
    loop {
        let why = match request(domain).await {
            Ok(reason) => return reason,
            Err(why) => why,
        };
        let text = why.to_string();
        if text != logged {
            error!("{SHUTDOWN} is not obeyed for now: {text}");
            logged = text;
        }
        if why.is_closed() {
            pending::<()>().await;
        }
        sleep(domain.xen(), RETRY).await;
    }
}

/// Waits for a request to end the domain, and acknowledges each by clearing the key. Suspends the
/// domain when that is the request.
async fn request(domain: &Domain) -> Result<Reason, Error> {
    let store = domain.store();
    advertise(store).await;
    let mut watch = store.watch(SHUTDOWN).await?;
    loop {
        watch.next().await?;
        let request = store.transaction(take_request).await?;
        let reason = match request.as_str() {
            "" => continue,
            "poweroff" | "halt" => Reason::Poweroff,
            "reboot" => Reason::Reboot,
            "suspend" => {
                suspend(domain).await;
                continue;
            }
            other => {
                warn!("{SHUTDOWN}: '{other}' is nothing this domain can do");
                continue;
            }
        };
        info!("{SHUTDOWN}: {request}");
        return Ok(reason);
    }
}

/// Tells the toolstack what it may request.
async fn advertise(store: &Store) {
    for key in FEATURES {
        // Toolstacks that know the key leave it to the domain to write; others keep it closed, and
        // do without.
        if let Err(why) = store.write(key, b"1").await {
            debug!("{why}");
        }
    }
}

/// Suspends the domain and logs how it went on.
async fn suspend(domain: &Domain) {
    info!("{SHUTDOWN}: suspend");
    match domain.suspend().await {
        Ok(Outcome::Cancelled) => info!("the suspend was cancelled: all goes on as before"),
        Ok(Outcome::Restored) => {
            info!("restored as domain {}", domain.xen().domid().map_or(0, |own| own.0));
            advertise(domain.store()).await;
        }
        Err(why) => error!("the domain is not suspended: {why}"),
    }
}

/// Reads the key and clears it.
async fn take_request(store: &Store) -> Result<String, Error> {
    let request = match store.read_string(SHUTDOWN).await {
        Err(why) if why.is_not_found() => return Ok(String::new()),
        request => request?,
    };
    if !request.is_empty() {
        store.write(SHUTDOWN, b"").await?;
    }
    Ok(request)
}
