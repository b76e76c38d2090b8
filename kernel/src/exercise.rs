//! The block exerciser: runs the tests that the command line or the console names.

use alloc::boxed::Box;
use core::fmt::{Arguments, Write};
use core::time::Duration;
use xen_exercise::{Boxed, Front, Host, Usage, Verdict};
pub use xen_exercise::{OPTIONS, Plan};
use xen_platform::{Clock, sleep};
use xen_rt::memory::HEAP;
use xen_rt::{Domain, Reason, console, xen};

/// The exerciser is a part of this image.
pub const IS_BUILT: bool = true;
/// Says, where it is none, which image has it.
pub const NOT_BUILT: &str = "";

/// The console's commands for tests.
pub const HELP: &str = "\
  blk run TESTS DISK [OPTION...]  tries it, for instance: blk run report,rand xvda blk.destroy=xvda
  blk bench DISK [OPTION...]      how quick it is
";

/// Grace period for the console's reader.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The services of this kernel that the tests use.
struct Surroundings(Domain);

impl Host for Surroundings {
    fn print(&self, text: Arguments<'_>) {
        // Writing to the console cannot fail.
        let _ = console::Out.write_fmt(text);
    }

    fn flushed(&self) -> Boxed<'_, ()> {
        Box::pin(async {
            let until = self.0.xen().now() + FLUSH_TIMEOUT;
            while !console::is_flushed() && self.0.xen().now() < until {
                sleep(self.0.xen(), Duration::from_millis(1)).await;
            }
        })
    }

    fn usage(&self) -> Option<Usage> {
        let grants = xen::grant_usage();
        let still_mapped = grants.still_mapped as u32;
        Some(Usage {
            grants: grants.used as u32,
            still_mapped,
            ports: xen::events::open(),
            heap: HEAP.usage().0,
        })
    }

    fn spawn(&self, work: Boxed<'static, ()>) {
        self.0.spawn(work);
    }
}

/// Runs the tests of `plan`.
pub async fn run(domain: &Domain, plan: &Plan) -> Verdict {
    let host = Surroundings(domain.clone());
    let env = Front::new(domain.xen(), domain.store(), host);
    xen_exercise::run(&env, plan).await
}

/// Runs the tests that the command line names. Returns why the domain then ends, or `None` if there
/// are none.
pub async fn at_boot(domain: &Domain, plan: &Plan) -> Option<Reason> {
    if plan.tests.is_empty() {
        return None;
    }
    let Verdict { failed, .. } = run(domain, plan).await;
    Some(if failed == 0 { Reason::Poweroff } else { Reason::Crash })
}
