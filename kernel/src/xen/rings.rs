//! The two rings that the toolstack gives every domain: console and xenstore.

use super::Port;
use super::events::EventChannel;
use crate::memory::{PAGE, map_window};
use alloc::rc::Rc;
use core::fmt;
use core::ptr::NonNull;
use xen_abi::hvm::{PARAM_CONSOLE_EVTCHN, PARAM_CONSOLE_PFN, PARAM_STORE_EVTCHN, PARAM_STORE_PFN};
use xen_hypercall::hvm::param;
use xen_platform::{PAGE_SIZE, RawShared};

/// A page shared with the toolstack, mapped for ever.
#[derive(Clone, Copy)]
pub struct Page(NonNull<u8>);

impl Page {
    /// Where it is mapped.
    pub fn start(self) -> NonNull<u8> {
        self.0
    }

    /// The page as shared memory.
    pub fn shared(self) -> RawShared {
        // SAFETY: the page is mapped for ever, outside all RAM, and only ever reached as shared memory.
        unsafe { RawShared::new(self.0, PAGE_SIZE) }
    }
}

/// A ring of the toolstack: its page and its port.
#[derive(Clone, Copy)]
pub struct Ring {
    /// The page.
    pub page: Page,
    /// The port that both sides notify.
    pub port: Port,
}

/// The toolstack gave no such ring.
#[derive(Debug)]
pub struct Missing {
    what: &'static str,
    why: Option<xen_hypercall::Error>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Some(why) => write!(f, "the {} ring cannot be found: {why}", self.what),
            None => write!(f, "the toolstack gave this domain no {} ring", self.what),
        }
    }
}

impl Ring {
    /// The console's.
    pub fn console() -> Result<Self, Missing> {
        Self::find("console", PARAM_CONSOLE_PFN, PARAM_CONSOLE_EVTCHN)
    }

    /// Xenstore's.
    pub fn xenstore() -> Result<Self, Missing> {
        Self::find("xenstore", PARAM_STORE_PFN, PARAM_STORE_EVTCHN)
    }

    fn find(what: &'static str, frame: u32, port: u32) -> Result<Self, Missing> {
        let ask = |index| param(index).map_err(|why| Missing { what, why: Some(why) });
        let (frame, port) = (ask(frame)?, ask(port)?);
        let start = NonNull::new((frame * PAGE) as *mut u8).filter(|_| port != 0).ok_or(Missing { what, why: None })?;
        // SAFETY: one of the special pages that the toolstack put outside RAM, found once each.
        unsafe { map_window(frame * PAGE, 1, true) }
            .ok_or(Missing { what, why: Some(xen_hypercall::Error::Errno(12)) })?;
        Ok(Ring { page: Page(start), port: Port(port as u32) })
    }

    /// Its event channel, to wait on.
    pub fn channel(&self) -> Rc<EventChannel> {
        Rc::new(EventChannel::given(self.port))
    }
}
