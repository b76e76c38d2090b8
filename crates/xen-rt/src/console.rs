//! The console: the PV ring once it is there, before that the port that ends up in the hypervisor's
//! log.
//!
//! Writing never waits: what the ring cannot take is kept, up to a limit, and written when the
//! other side has read.

use crate::xen::rings::Page;
use crate::xen::{Port, events};
use alloc::collections::VecDeque;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Mutex;
use x86_64::instructions::port::PortWriteOnly;
use xen_abi::console::{self as abi, DEBUG_PORT};
use xen_platform::RawShared;
use xen_ring::bytes::{Corrupt, Layout, Producer};

/// Maximum number of bytes that wait for the ring. Further ones are lost, and counted.
const MAX_BACKLOG_BYTES: usize = 32 * 1024;

/// Number of bytes that wait for the ring without its reader being told before the end of a round.
/// Each time wakes dom0, which takes the processor from a guest that shares it; a boot log is
/// smaller.
const PATIENT_BACKLOG_BYTES: usize = 12 * 1024;

/// The ring to the guest, for the task that reads it.
pub const INPUT: Layout =
    Layout { prod: abi::IN_PROD, cons: abi::IN_CONS, data: abi::IN, size: abi::IN_SIZE };
/// The ring from the guest.
pub const OUTPUT: Layout =
    Layout { prod: abi::OUT_PROD, cons: abi::OUT_CONS, data: abi::OUT, size: abi::OUT_SIZE };

static RING: Mutex<Option<Ring>> = Mutex::new(None);

/// True while the ring has bytes that the reader was not told of.
static UNANNOUNCED: AtomicBool = AtomicBool::new(false);

struct Ring {
    page: RawShared,
    port: Port,
    producer: Producer,
    backlog: VecDeque<u8>,
    lost: usize,
}

// SAFETY: there is one processor and no code runs beside the kernel's; the page has a fixed
// address.
unsafe impl Send for Ring {}

impl Ring {
    /// Queues a line about bytes that were lost, once there is room for it.
    fn report_lost(&mut self) {
        if self.lost > 0 && self.backlog.len() < MAX_BACKLOG_BYTES / 2 {
            let lost = core::mem::take(&mut self.lost);
            // A queue of bytes takes everything.
            let _ = writeln!(
                Crlf(|b| self.backlog.push_back(b)),
                "... {lost} bytes of the log were lost ..."
            );
        }
    }

    /// Moves waiting bytes into the ring. A ring with indices that cannot be is left alone: nobody
    /// reads it.
    fn pump(&mut self) {
        self.report_lost();
        let mut moved = false;
        while let (waiting @ [_, ..], _) = self.backlog.as_slices() {
            match self.producer.write(&self.page, &self.page, waiting) {
                Ok(n @ 1..) => drop(self.backlog.drain(..n)),
                _ => break,
            }
            moved = true;
        }
        if moved {
            UNANNOUNCED.store(true, Ordering::Relaxed);
        }
        // A long backlog does not wait for the end of the round: the reader makes room meanwhile.
        if self.backlog.len() > PATIENT_BACKLOG_BYTES && UNANNOUNCED.swap(false, Ordering::Relaxed)
        {
            events::notify(self.port);
        }
    }

    fn write(&mut self, text: &str) {
        self.report_lost();
        let (backlog, lost) = (&mut self.backlog, &mut self.lost);
        let mut out = Crlf(|byte| {
            if backlog.len() < MAX_BACKLOG_BYTES { backlog.push_back(byte) } else { *lost += 1 }
        });
        let _ = out.write_str(text);
        self.pump();
    }
}

/// Writes a line's end as terminals want it.
struct Crlf<F: FnMut(u8)>(F);

impl<F: FnMut(u8)> Write for Crlf<F> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if byte == b'\n' {
                (self.0)(b'\r');
            }
            (self.0)(byte);
        }
        Ok(())
    }
}

/// The console as something to write to.
pub struct Out;

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match RING.lock().as_mut() {
            Some(ring) => ring.write(text),
            None => emergency(text),
        }
        Ok(())
    }
}

/// Writes to the hypervisor's log, byte by byte.
pub fn emergency(text: &str) {
    let mut port = PortWriteOnly::<u8>::new(DEBUG_PORT);
    for byte in text.bytes() {
        // SAFETY: Xen takes bytes at this port from every HVM and PVH guest; nothing else happens.
        unsafe { port.write(byte) };
    }
}

/// Switches to the PV console in `page`, whose events come at `port`.
pub fn attach(page: Page, port: Port) -> Result<(), Corrupt> {
    let page = page.shared();
    let producer = Producer::resume(OUTPUT, &page)?;
    let mut ring = RING.lock();
    // A restored domain still has what the old ring did not take.
    let (backlog, lost) = ring.take().map(|old| (old.backlog, old.lost)).unwrap_or_default();
    *ring = Some(Ring { page, port, producer, backlog, lost });
    Ok(())
}

/// Writes what waits, if the ring has space again. To be called when the console's event came.
pub fn pump() {
    if let Some(ring) = RING.lock().as_mut() {
        ring.pump();
    }
}

/// Tells the reader of what was written since the last call: once for all lines of a round of the
/// executor, for each event costs a hypercall and wakes dom0.
#[inline]
pub fn announce() {
    if UNANNOUNCED.load(Ordering::Relaxed) {
        UNANNOUNCED.store(false, Ordering::Relaxed);
        if let Some(ring) = RING.lock().as_ref() {
            events::notify(ring.port);
        }
    }
}

/// Returns true once everything that was written has gone into the ring.
pub fn is_flushed() -> bool {
    RING.lock().as_ref().is_none_or(|ring| ring.backlog.is_empty())
}

/// Writes a part of a crash report, past the backlog, and waits for space in the ring for at most
/// `retries` reads of a full one. Writes to the hypervisor's log, too. Takes no lock that might be
/// held.
pub fn crash_write(text: &str, retries: &mut u32) {
    emergency(text);
    let Some(mut ring) = RING.try_lock() else { return };
    let Some(ring) = ring.as_mut() else { return };
    let Ring { page, port, producer, backlog, .. } = ring;
    let mut put = |byte: u8| {
        while *retries > 0 {
            match producer.write(page, page, &[byte]) {
                Ok(0) => *retries -= 1,
                Ok(_) => return,
                Err(_) => *retries = 0,
            }
            events::notify(*port);
            core::hint::spin_loop();
        }
    };
    while let Some(byte) = backlog.pop_front() {
        put(byte);
    }
    let _ = Crlf(put).write_str(text);
    events::notify(*port);
}
