//! Suspending the domain, and putting everything in place again in its restored self.

use super::rings::Ring;
use super::{Xen, clock, events, grants, shared_info};
use xen_hypercall::sched;

/// The way in which a domain went on after a suspend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is the same domain, and all is as it was before.
    Cancelled,
    /// It was restored: all that it shared with others is gone.
    Restored,
}

/// The toolstack's two rings.
#[derive(Clone, Copy)]
pub struct Rings {
    /// The console's.
    pub console: Ring,
    /// Xenstore's.
    pub xenstore: Ring,
}

impl Xen {
    /// Suspends the domain. When it was restored, makes everything again that Xen and the toolstack
    /// share with it, has `rebind` go on with the new rings, and only then wakes the tasks.
    ///
    /// Panics if Xen refuses to the restored domain what every domain has: it cannot go on.
    pub fn suspend(
        &self,
        rings: Rings,
        rebind: impl FnOnce(Rings),
    ) -> Result<Outcome, xen_hypercall::Error> {
        // The latest time that a task can have seen: the clock goes on from there.
        clock::now();
        // Xen 4.14's tools do not always say that it is the same domain still; its timer tells.
        if !sched::suspend()? || self.has_timer() {
            return Ok(Outcome::Cancelled);
        }
        let stale = events::begin_generation();
        let made = || -> Result<(), xen_hypercall::Error> {
            shared_info::resume()?;
            clock::resume()?;
            events::init()?;
            grants::resume()
        };
        made().unwrap_or_else(|why| panic!("Xen refuses the restored domain a page: {why}"));
        let found = || {
            Ok(Rings {
                console: rings.console.resume_console()?,
                xenstore: rings.xenstore.resume_xenstore()?,
            })
        };
        rebind(found().unwrap_or_else(|why: super::rings::Missing| panic!("{why}")));
        self.resume()
            .unwrap_or_else(|why| panic!("Xen refuses the restored domain a timer: {why}"));
        stale.iter().for_each(|counter| counter.signal());
        Ok(Outcome::Restored)
    }
}
