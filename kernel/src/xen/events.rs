//! Event channels: who waits for which port, and handing out what came.

use super::Port;
use super::shared_info::shared_info;
use crate::arch::idle::EVENT_VECTOR;
use crate::one_cpu::OneCpu;
use alloc::rc::Rc;
use core::task::{Context, Poll};
use vecmap::VecMap;
use xen_abi::version::FEATURE_HVM_CALLBACK_VECTOR;
use xen_hypercall::event_channel as evtchn;
use xen_hypercall::hvm::set_callback_vector;
use xen_hypercall::version::has_feature;
use xen_platform::{Channel, EventCounter};

static PORTS: OneCpu<VecMap<u32, Rc<EventCounter>>> = OneCpu::new(VecMap::new());

/// Has Xen announce events by the vector whose handler [`crate::arch`] has installed.
pub fn init() -> Result<(), xen_hypercall::Error> {
    if !has_feature(FEATURE_HVM_CALLBACK_VECTOR)? {
        return Err(xen_hypercall::Error::Errno(95));
    }
    // SAFETY: the gate for the vector is there since the start of `start`.
    unsafe { set_callback_vector(EVENT_VECTOR) }
}

/// An open port.
pub struct EventChannel {
    port: Port,
    counter: Rc<EventCounter>,
    /// Whether dropping the value closes the port: not for the toolstack's own two.
    owned: bool,
}

impl EventChannel {
    /// A port that this domain opened: closed when the value is dropped.
    pub fn own(port: Port) -> Self {
        Self::open(port, true)
    }

    /// A port that the toolstack opened for this domain: it stays open.
    pub fn given(port: Port) -> Self {
        Self::open(port, false)
    }

    fn open(port: Port, owned: bool) -> Self {
        let counter = Rc::new(EventCounter::new());
        let before = PORTS.with(|ports| ports.insert(port.0, counter.clone()));
        assert!(before.is_none(), "port {port} is open twice");
        shared_info().open(port.0);
        EventChannel { port, counter, owned }
    }
}

impl Drop for EventChannel {
    fn drop(&mut self) {
        shared_info().mask(self.port.0);
        PORTS.with(|ports| ports.remove(&self.port.0));
        if self.owned
            && let Err(why) = evtchn::close(self.port)
        {
            log::error!("event channel {} does not close: {why}", self.port);
        }
    }
}

impl Channel for EventChannel {
    fn port(&self) -> Port {
        self.port
    }

    #[inline]
    fn notify(&self) {
        notify(self.port);
    }

    fn seen(&self) -> u32 {
        self.counter.count()
    }

    #[inline]
    fn poll_after(&self, seen: &mut u32, cx: &mut Context<'_>) -> Poll<()> {
        self.counter.poll_after(seen, cx)
    }

    fn is_bound(&self) -> bool {
        evtchn::is_interdomain(self.port).unwrap_or(false)
    }
}

/// How many ports are open.
pub fn open() -> u32 {
    PORTS.with(|ports| ports.len() as u32)
}

/// Sends an event. A peer that is gone is found out otherwise ([`Channel::is_bound`]), so an error says nothing new.
#[inline]
pub fn notify(port: Port) {
    let _ = evtchn::send(port);
}

/// Counts every event that came, for those who wait. Says whether there was one.
///
/// A pending bit is cleared before anyone looks at what it stands for, so what happens while they look sets it again.
pub fn dispatch() -> bool {
    let info = shared_info();
    if !info.take_upcall() {
        return false;
    }
    for word in Bits(info.take_selector()) {
        for bit in Bits(info.take_pending(word as usize)) {
            let port = word * 64 + bit;
            match PORTS.with(|ports| ports.get(&port).cloned()) {
                Some(counter) => counter.signal(),
                None => info.mask(port),
            }
        }
    }
    true
}

/// The numbers of the bits that are set.
struct Bits(u64);

impl Iterator for Bits {
    type Item = u32;
    fn next(&mut self) -> Option<u32> {
        let bit = (self.0 != 0).then(|| self.0.trailing_zeros())?;
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::Bits;

    #[test]
    fn bits_are_found_lowest_first() {
        assert!(Bits(0).next().is_none());
        assert!(Bits(1 << 63 | 0b1010).eq([1, 3, 63]));
    }
}
