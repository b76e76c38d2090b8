//! Event channels: the open ports, and the delivery of events to the tasks that wait for them.

use super::Port;
use super::shared_info::shared_info;
use crate::arch::idle::EVENT_VECTOR;
use crate::one_cpu::OneCpu;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::{Context, Poll};
use vecmap::VecMap;
use xen_abi::version::FEATURE_HVM_CALLBACK_VECTOR;
use xen_hypercall::event_channel as evtchn;
use xen_hypercall::hvm::set_callback_vector;
use xen_hypercall::version::has_feature;
use xen_platform::{Channel, EventCounter};

static PORTS: OneCpu<VecMap<u32, Rc<EventCounter>>> = OneCpu::new(VecMap::new());

/// Number of times that the domain was restored. Handles keep the number of their own time: what
/// they stand for is gone in a later one, and their port may be another's by then.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Returns the present generation.
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Begins a new generation, in which no port is open. Returns the counters of those that were, to
/// be signalled once all is in place again: their waiters then find that nothing is bound.
pub fn begin_generation() -> Vec<Rc<EventCounter>> {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    let before = PORTS.with(core::mem::take);
    before.into_iter().map(|(_, counter)| counter).collect()
}

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
    port: Cell<Port>,
    generation: Cell<u32>,
    counter: Rc<EventCounter>,
    /// True if dropping the value closes the port; false for the toolstack's own two.
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
        let (counter, generation) = (Rc::new(EventCounter::new()), Cell::new(generation()));
        let channel = EventChannel { port: Cell::new(port), generation, counter, owned };
        channel.rebind(port);
        channel
    }

    /// Goes on with another port: after a restore, when the one from before is gone.
    pub fn rebind(&self, port: Port) {
        self.port.set(port);
        self.generation.set(generation());
        let before = PORTS.with(|ports| ports.insert(port.0, self.counter.clone()));
        assert!(before.is_none(), "port {port} is open twice");
        shared_info().open(port.0);
    }

    /// Returns true if the port is of the present generation.
    fn is_open(&self) -> bool {
        self.generation.get() == generation()
    }
}

impl Drop for EventChannel {
    fn drop(&mut self) {
        if !self.is_open() {
            return;
        }
        let port = self.port.get();
        shared_info().mask(port.0);
        PORTS.with(|ports| ports.remove(&port.0));
        if self.owned
            && let Err(why) = evtchn::close(port)
        {
            log::error!("event channel {port} does not close: {why}");
        }
    }
}

impl Channel for EventChannel {
    fn port(&self) -> Port {
        self.port.get()
    }

    #[inline]
    fn notify(&self) {
        if self.is_open() {
            notify(self.port.get());
        }
    }

    fn seen(&self) -> u32 {
        self.counter.count()
    }

    #[inline]
    fn poll_after(&self, seen: &mut u32, cx: &mut Context<'_>) -> Poll<()> {
        self.counter.poll_after(seen, cx)
    }

    fn is_bound(&self) -> bool {
        self.is_open() && evtchn::is_interdomain(self.port.get()).unwrap_or(false)
    }
}

/// Returns the number of open ports.
pub fn open() -> u32 {
    PORTS.with(|ports| ports.len() as u32)
}

/// Sends an event. A peer that is gone is found out otherwise ([`Channel::is_bound`]), so an error
/// says nothing new.
#[inline]
pub fn notify(port: Port) {
    let _ = evtchn::send(port);
}

/// Counts every event that came, for those who wait. Returns true if there was one.
///
/// A pending bit is cleared before a task looks at what it stands for, so what happens while they
/// look sets it again.
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
