//! The clock of whoever drives an engine: read once per turn and handed down.

use nic_wire::Time;
use rustix::time::{ClockId, clock_gettime};

/// The machine's monotonic clock.
#[inline]
pub fn now() -> Time {
    let time = clock_gettime(ClockId::Monotonic);
    Time::from_ns(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
