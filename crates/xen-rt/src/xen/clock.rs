//! Time: Xen's paravirtual clock and the one-shot timer.

use super::shared_info::{self, SharedInfo};
use core::arch::x86_64::{_mm_lfence, _rdtsc};
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use xen_hypercall::vcpu;
use xen_platform::Time;

/// The system time when the kernel first looked.
static BOOT: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds to add to the host's system time, modulo 2^64: zero until the domain is restored on
/// a host whose clock stands elsewhere.
static OFFSET: AtomicU64 = AtomicU64::new(0);

/// The latest time that was read: a later reading is never an earlier time.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// Takes the present moment for the boot, and stops the periodic tick that domains start with.
pub fn init() -> Result<(), xen_hypercall::Error> {
    BOOT.store(now().0, Ordering::Relaxed);
    vcpu::stop_periodic_timer()
}

/// Goes on from the time that was read last, and stops the periodic tick of a restored domain.
pub fn resume() -> Result<(), xen_hypercall::Error> {
    let host = system_time(shared_info::shared_info());
    let offset = LATEST.load(Ordering::Relaxed).wrapping_sub(host);
    OFFSET.store(offset, Ordering::Relaxed);
    vcpu::stop_periodic_timer()
}

/// Returns the time: nanoseconds since the start of the host that the domain was created on; zero
/// before the shared info page is there.
#[inline]
pub fn now() -> Time {
    let Some(info) = shared_info::get() else { return Time(0) };
    let time = system_time(info).wrapping_add(OFFSET.load(Ordering::Relaxed));
    // One processor, and no interrupt reads the clock: plain loads and stores do.
    let time = time.max(LATEST.load(Ordering::Relaxed));
    LATEST.store(time, Ordering::Relaxed);
    Time(time)
}

/// Returns the host's system time.
#[inline]
fn system_time(info: &SharedInfo) -> u64 {
    let (time, tsc) = info.time(|| {
        // SAFETY: the instruction exists on every x86-64 processor.
        unsafe { _mm_lfence() };
        // SAFETY: as above; the fence keeps it from running ahead.
        unsafe { _rdtsc() }
    });
    time.system_time_at(tsc)
}

/// Nanoseconds since the boot.
pub fn nanos_since_boot() -> u64 {
    now().0.saturating_sub(BOOT.load(Ordering::Relaxed))
}

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    let Some(info) = shared_info::get() else { return 0 };
    let wall = info.wall_clock();
    let base = u64::from(wall.sec_hi) << 32 | u64::from(wall.sec);
    base + (u64::from(wall.nsec) + system_time(info)) / 1_000_000_000
}

/// The one-shot timer, set only when the wish changed.
#[derive(Default)]
pub struct Alarm(Cell<Option<Time>>);

impl Alarm {
    /// Not set.
    pub const fn new() -> Self {
        Alarm(Cell::new(None))
    }

    /// Has the timer's event come at `at`.
    pub fn set(&self, at: Option<Time>) {
        if self.0.get() == at {
            return;
        }
        let done = match at {
            Some(at) => {
                vcpu::set_singleshot_timer(at.0.wrapping_sub(OFFSET.load(Ordering::Relaxed)))
            }
            None => vcpu::stop_singleshot_timer(),
        };
        done.expect("a domain may always set its own timer");
        self.0.set(at);
    }

    /// The timer's event has come: it is no longer set.
    pub fn rang(&self) {
        self.0.set(None);
    }
}
