//! The surroundings in which a command runs.

use crate::Stop;
use xen_platform::Platform;
use xen_store::Store;

/// The surroundings in which a command runs: the platform, xenstore, the request to stop, and the
/// place for messages.
pub struct Session<'a, P> {
    /// The platform.
    pub platform: &'a P,
    /// The connection to xenstore.
    pub store: &'a Store,
    /// The request to stop in good order, for servers.
    pub stop: &'a Stop,
    /// Takes lines for standard error.
    pub report: &'a dyn Fn(&str),
    /// Called whenever a server has published its first channel.
    pub offered: &'a dyn Fn(),
}

impl<P> Clone for Session<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Session<'_, P> {}

impl<P: Platform> Session<'_, P> {
    /// Reports a line if `verbose`.
    pub(crate) fn report_if(&self, verbose: bool, text: impl FnOnce() -> String) {
        if verbose {
            (self.report)(&text());
        }
    }
}
