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
    /// Returns the address that it is mapped at.
    pub fn start(self) -> NonNull<u8> {
        self.0
    }

    /// Returns the same as a number.
    pub fn address(self) -> u64 {
        self.0.as_ptr() as u64
    }

    /// The page as shared memory.
    pub fn shared(self) -> RawShared {
        // SAFETY: the page is mapped for ever, outside all RAM, and only ever reached as shared
        // memory.
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

/// A ring that the toolstack did not give.
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

    /// Finds the console's ring again in a restored domain.
    pub fn resume_console(&self) -> Result<Self, Missing> {
        self.resume("console", PARAM_CONSOLE_PFN, PARAM_CONSOLE_EVTCHN)
    }

    /// Finds xenstore's ring again in a restored domain.
    pub fn resume_xenstore(&self) -> Result<Self, Missing> {
        self.resume("xenstore", PARAM_STORE_PFN, PARAM_STORE_EVTCHN)
    }

    /// The page is a part of what is saved, so that it stays; the port is another.
    fn resume(&self, what: &'static str, frame: u32, port: u32) -> Result<Self, Missing> {
        let ask = |index| param(index).map_err(|why| Missing { what, why: Some(why) });
        let same = ask(frame)? * PAGE == self.page.start().as_ptr() as u64;
        if !same {
            return Self::find(what, frame, port);
        }
        let port = Some(ask(port)?).filter(|&port| port != 0);
        let port = port.ok_or(Missing { what, why: None })?;
        Ok(Ring { page: self.page, port: Port(port as u32) })
    }

    fn find(what: &'static str, frame: u32, port: u32) -> Result<Self, Missing> {
        let ask = |index| param(index).map_err(|why| Missing { what, why: Some(why) });
        let (frame, port) = (ask(frame)?, ask(port)?);
        let start = NonNull::new((frame * PAGE) as *mut u8)
            .filter(|_| port != 0)
            .ok_or(Missing { what, why: None })?;
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
