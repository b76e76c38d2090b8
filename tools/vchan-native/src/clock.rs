//! The monotonic clock.

use rustix::time::{ClockId, clock_gettime};
use xen_platform::Time;

/// Returns the time by CLOCK_MONOTONIC.
pub fn now() -> Time {
    let now = clock_gettime(ClockId::Monotonic);
    Time(now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned())
}
