//! The last words of a domain to its peers: it clears the bytes by which they see that it lives,
//! and wakes them. Xen itself tells a peer nothing when a domain dies.

use super::{Error, Port, events};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

/// Maximum number of live bytes at a time.
const LIMIT: usize = 256;

struct Slot {
    byte: AtomicPtr<u8>,
    port: AtomicU32,
    /// The generation of the port.
    generation: AtomicU32,
}

static SLOTS: [Slot; LIMIT] = [const {
    Slot {
        byte: AtomicPtr::new(null_mut()),
        port: AtomicU32::new(0),
        generation: AtomicU32::new(0),
    }
}; LIMIT];

impl Slot {
    /// Clears the byte and wakes the peer, if the slot is in use.
    fn announce(&self) {
        let byte = self.byte.load(Ordering::Acquire);
        if !byte.is_null() {
            // SAFETY: the caller of `register` promised that the byte stays valid until the slot is
            // empty again.
            unsafe { AtomicU8::from_ptr(byte) }.store(0, Ordering::SeqCst);
            if self.generation.load(Ordering::Relaxed) == events::generation() {
                events::notify(Port(self.port.load(Ordering::Relaxed)));
            }
        }
    }
}

/// A byte that becomes 0, and whose peer gets an event, when the domain crashes or the value is
/// dropped.
pub struct LiveByte(&'static Slot);

impl LiveByte {
    /// Registers `byte`, whose peer is at the other end of `port`.
    ///
    /// # Safety
    /// The byte must be mapped and writable for as long as the value lives.
    pub unsafe fn register(byte: *mut u8, port: Port) -> Result<Self, Error> {
        let free = SLOTS.iter().find(|s| s.byte.load(Ordering::Relaxed).is_null());
        let slot = free.ok_or(Error::DeathTable { limit: LIMIT })?;
        slot.port.store(port.0, Ordering::Relaxed);
        slot.generation.store(events::generation(), Ordering::Relaxed);
        slot.byte.store(byte, Ordering::Release);
        Ok(LiveByte(slot))
    }
}

impl Drop for LiveByte {
    fn drop(&mut self) {
        self.0.announce();
        self.0.byte.store(null_mut(), Ordering::Release);
    }
}

/// The domain ends here: tells every peer.
pub fn announce() {
    SLOTS.iter().for_each(Slot::announce);
}
