//! Moments and spans in nanoseconds. The clock itself belongs to whoever drives an engine: every
//! function that needs the time is given it.

use core::ops::{Add, AddAssign, Sub};

/// A moment on the driver's monotonic clock, in nanoseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

/// A length of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Time {
    /// The latest moment there is: a timer that never fires.
    pub const NEVER: Time = Time(u64::MAX);
    /// The clock's start.
    pub const ZERO: Time = Time(0);

    /// The moment `ns` nanoseconds after the clock's start.
    #[inline]
    pub const fn from_ns(ns: u64) -> Self {
        Time(ns)
    }

    /// Nanoseconds since the clock's start.
    #[inline]
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// The low 32 bits of the nanoseconds: the form in which packets carry and echo send times.
    /// Differences are right for spans below 4.29 s.
    #[inline]
    pub const fn truncated(self) -> u32 {
        self.0 as u32
    }

    /// How long after `earlier` this moment is; zero if it is before.
    #[inline]
    pub const fn since(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);
    /// Longer than any clock runs.
    pub const MAX: Span = Span(u64::MAX);

    /// A span of nanoseconds.
    #[inline]
    pub const fn from_ns(ns: u64) -> Self {
        Span(ns)
    }

    /// A span of microseconds.
    #[inline]
    pub const fn from_us(us: u64) -> Self {
        Span(us.saturating_mul(1_000))
    }

    /// A span of milliseconds.
    #[inline]
    pub const fn from_ms(ms: u64) -> Self {
        Span(ms.saturating_mul(1_000_000))
    }

    /// The span in nanoseconds.
    #[inline]
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// The span in whole microseconds, rounded down.
    #[inline]
    pub const fn as_us(self) -> u64 {
        self.0 / 1_000
    }

    /// The span in nanoseconds as 32 bits; longer spans give the largest value.
    #[inline]
    pub const fn saturated_ns(self) -> u32 {
        if self.0 > u32::MAX as u64 { u32::MAX } else { self.0 as u32 }
    }

    /// This span `factor` times over.
    #[inline]
    pub const fn times(self, factor: u64) -> Span {
        Span(self.0.saturating_mul(factor))
    }

    /// A `divisor`-th of this span.
    #[inline]
    pub const fn divided(self, divisor: u64) -> Span {
        Span(self.0 / divisor)
    }

    /// This span less `other`; zero if `other` is longer.
    #[inline]
    pub const fn less(self, other: Span) -> Span {
        Span(self.0.saturating_sub(other.0))
    }
}

impl Add<Span> for Time {
    type Output = Time;

    #[inline]
    fn add(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.0))
    }
}

impl AddAssign<Span> for Time {
    #[inline]
    fn add_assign(&mut self, span: Span) {
        *self = *self + span;
    }
}

impl Sub<Span> for Time {
    type Output = Time;

    #[inline]
    fn sub(self, span: Span) -> Time {
        Time(self.0.saturating_sub(span.0))
    }
}

impl Add for Span {
    type Output = Span;

    #[inline]
    fn add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}
