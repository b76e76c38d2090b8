//! Checks the platform against the contracts of its traits, on a real Xen host.
//!
//! Both ends are the one domain that the program runs in, which maps its own grants. Some old
//! kernels (before Linux 4) crash at that: run it where a crash does no harm. Prints each contract
//! that holds; exits with 1 at the first that does not, or if Xen cannot be reached.

use std::process::ExitCode;
use xen_linux::{Linux, open_store};
use xen_platform::{DomId, Platform};
use xen_sim::conformance::{Endpoint, check};

fn main() -> ExitCode {
    let linux = Linux::new();
    let checked = linux.run({
        let platform = linux.clone();
        |spawner| async move {
            open_store(&platform, &spawner).await.map_err(|error| error.to_string())?;
            let end = Endpoint { id: platform.domid().unwrap_or(DomId(0)), platform };
            check(&end, &end, |contract| println!("holds: {contract}"))
                .await
                .map_err(|broken| broken.to_string())
        }
    });
    match checked {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("conformance: {reason}");
            ExitCode::FAILURE
        }
    }
}
