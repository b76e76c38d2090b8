//! The console: the PV ring once it is there, before that the port that ends up in the hypervisor's log.
//!
//! Writing never waits: what the ring cannot take is kept, up to a limit, and written when the other side has read.

use crate::xen::rings::Page;
use crate::xen::{Port, events};
use alloc::collections::VecDeque;
use core::fmt::{self, Write};
use spin::Mutex;
use x86_64::instructions::port::PortWriteOnly;
use xen_abi::console::{self as abi, DEBUG_PORT};
use xen_platform::RawShared;
use xen_ring::bytes::{Corrupt, Layout, Producer};

/// Most bytes that wait for the ring. What comes after them is lost, and counted.
const BACKLOG: usize = 16 * 1024;

/// The ring to the guest, for the task that reads it.
pub const INPUT: Layout = Layout { prod: abi::IN_PROD, cons: abi::IN_CONS, data: abi::IN, size: abi::IN_SIZE };
/// The ring from the guest.
pub const OUTPUT: Layout = Layout { prod: abi::OUT_PROD, cons: abi::OUT_CONS, data: abi::OUT, size: abi::OUT_SIZE };

static RING: Mutex<Option<Ring>> = Mutex::new(None);

struct Ring {
    page: RawShared,
    port: Port,
    producer: Producer,
    backlog: VecDeque<u8>,
    lost: usize,
}

// SAFETY: there is one processor and no code runs beside the kernel's; the page has a fixed address.
unsafe impl Send for Ring {}

impl Ring {
    /// Moves waiting bytes into the ring. A ring with indices that cannot be is left alone: nobody reads it.
    fn pump(&mut self) {
        let mut moved = false;
        while let (waiting @ [_, ..], _) = self.backlog.as_slices() {
            match self.producer.write(&self.page, &self.page, waiting) {
                Ok(n @ 1..) => drop(self.backlog.drain(..n)),
                _ => break,
            }
            moved = true;
        }
        if moved {
            events::notify(self.port);
        }
    }

    fn write(&mut self, text: &str) {
        if self.lost > 0 && self.backlog.len() < BACKLOG / 2 {
            let lost = core::mem::take(&mut self.lost);
            // A queue of bytes takes everything.
            let _ = writeln!(Crlf(|b| self.backlog.push_back(b)), "... {lost} bytes of the log were lost ...");
        }
        let (backlog, lost) = (&mut self.backlog, &mut self.lost);
        let mut out = Crlf(|byte| if backlog.len() < BACKLOG { backlog.push_back(byte) } else { *lost += 1 });
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
    *RING.lock() = Some(Ring { page, port, producer, backlog: VecDeque::new(), lost: 0 });
    Ok(())
}

/// Writes what waits, if the ring has space again. To be called when the console's event came.
pub fn pump() {
    if let Some(ring) = RING.lock().as_mut() {
        ring.pump();
    }
}

/// Whether everything that was written has gone into the ring.
pub fn is_flushed() -> bool {
    RING.lock().as_ref().is_none_or(|ring| ring.backlog.is_empty())
}

/// Writes at once, for a crash report: past the queue, waiting for space, but no longer than `patience` looks at a full
/// ring. Also to the hypervisor's log. Takes no lock that might be held.
pub fn crash_write(text: &str, patience: &mut u32) {
    emergency(text);
    let Some(mut ring) = RING.try_lock() else { return };
    let Some(ring) = ring.as_mut() else { return };
    let Ring { page, port, producer, backlog, .. } = ring;
    let mut put = |byte: u8| {
        while *patience > 0 {
            match producer.write(page, page, &[byte]) {
                Ok(0) => *patience -= 1,
                Ok(_) => return,
                Err(_) => *patience = 0,
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
