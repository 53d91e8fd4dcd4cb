//! What came of the ops of one thread, and of all.

use std::time::Duration;

use hdrhistogram::Histogram;
use nic_host::{Fate, Status};

use super::ops::Judged;

/// The longest latency that is told from longer ones, in nanoseconds.
const LATENCY_NS_MAX: u64 = 120_000_000_000;
/// Digits of a latency that are kept.
const DIGITS: u8 = 3;
/// The length of the pieces of the time over which the rate's extremes are found.
pub const SLICE: Duration = Duration::from_millis(100);
/// Failures one after the other, without a good op between them, after which there is no hope.
const FAILURES_MAX: u64 = 1000;

/// Counts, and a histogram. Nothing is allocated while ops are good.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Of good ops, in nanoseconds.
    pub latencies: Histogram<u64>,
    /// Good ops.
    pub good: u64,
    /// What they moved.
    pub bytes: u64,
    /// Good ops that found an overflowed bucket.
    pub overflowed: u64,
    /// Ops whose result was another than expected.
    pub wrong: u64,
    /// The first of them.
    pub first_wrong: Option<String>,
    /// Failed ops by status.
    pub failed: [u64; Status::ALL.len()],
    /// Failed ops of which nobody knows whether they ran.
    pub unknown: u64,
    /// Ops that were due and not submitted when the time was over.
    pub overdue: u64,
    /// Torn replies that were asked for again.
    pub retries: u64,
    /// Good ops in each slice of the time.
    pub slices: Vec<u64>,
    /// How long it took until the last op was over.
    pub elapsed: Duration,
    /// Failures since the last good op, and when that ended, in nanoseconds.
    in_a_row: u64,
    good_ns: u64,
    /// Whether it was ended early because nothing but failures came.
    pub given_up: bool,
}

impl Tally {
    /// For a run of this length.
    pub fn new(time: Duration) -> anyhow::Result<Self> {
        let slices = time.as_nanos().div_ceil(SLICE.as_nanos());
        let mut latencies = Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS)?;
        // Its pages are touched now, and not by the first op of each length.
        latencies.clear();
        Ok(Tally {
            latencies,
            good: 0,
            bytes: 0,
            overflowed: 0,
            wrong: 0,
            first_wrong: None,
            failed: [0; Status::ALL.len()],
            unknown: 0,
            overdue: 0,
            retries: 0,
            slices: vec![0; usize::try_from(slices)?],
            elapsed: Duration::ZERO,
            in_a_row: 0,
            good_ns: 0,
            given_up: false,
        })
    }

    /// An op that began and ended then, in nanoseconds since the beginning, and what came of it.
    #[inline]
    pub fn judged(&mut self, begun_ns: u64, ended_ns: u64, judged: Judged) {
        match judged {
            Judged::Right { bytes } => self.bytes += bytes,
            Judged::Overflowed => self.overflowed += 1,
            Judged::Wrong(what) => return self.is_wrong(what),
        }
        self.good += 1;
        self.in_a_row = 0;
        self.good_ns = ended_ns;
        self.latencies.saturating_record(ended_ns.saturating_sub(begun_ns));
        if let Some(slice) = self.slices.get_mut((ended_ns / SLICE.as_nanos() as u64) as usize) {
            *slice += 1;
        }
    }

    /// An op brought something else than expected.
    #[cold]
    pub fn is_wrong(&mut self, what: String) {
        self.wrong += 1;
        self.in_a_row += 1;
        self.first_wrong.get_or_insert(what);
    }

    /// An op has failed.
    #[cold]
    pub fn failed(&mut self, status: Status, fate: Fate) {
        self.failed[usize::from(status.code())] += 1;
        self.unknown += u64::from(fate == Fate::Unknown);
        self.in_a_row += 1;
    }

    /// Whether nothing but failures has come of many ops, or for `patience` until now.
    #[inline]
    pub fn is_hopeless(&self, now_ns: u64, patience: Duration) -> bool {
        let silence_ns = now_ns.saturating_sub(self.good_ns);
        self.in_a_row >= FAILURES_MAX
            || (self.in_a_row > 0 && u128::from(silence_ns) > patience.as_nanos())
    }

    /// Whether the last op has failed.
    #[inline]
    pub fn is_failing(&self) -> bool {
        self.in_a_row > 0
    }

    /// Failed ops, and those with a wrong result.
    pub fn errors(&self) -> u64 {
        self.failed.iter().sum::<u64>() + self.wrong
    }

    /// Ops that have ended in any way.
    pub fn ended(&self) -> u64 {
        self.good + self.errors()
    }

    /// Adds what another thread found in the same time.
    pub fn join(&mut self, other: &Tally) -> anyhow::Result<()> {
        self.latencies.add(&other.latencies)?;
        self.good += other.good;
        self.bytes += other.bytes;
        self.overflowed += other.overflowed;
        self.overdue += other.overdue;
        self.retries += other.retries;
        self.slices.iter_mut().zip(&other.slices).for_each(|(sum, more)| *sum += more);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.join_errors(other);
        Ok(())
    }

    /// Adds the errors of another time, such as that of warming up.
    pub fn join_errors(&mut self, other: &Tally) {
        self.wrong += other.wrong;
        if self.first_wrong.is_none() {
            self.first_wrong.clone_from(&other.first_wrong);
        }
        self.failed.iter_mut().zip(&other.failed).for_each(|(sum, more)| *sum += more);
        self.unknown += other.unknown;
        self.given_up |= other.given_up;
    }

    /// Each status with which ops have failed, and how many.
    pub fn failures(&self) -> impl Iterator<Item = (Status, u64)> {
        let all = Status::ALL.iter().copied().zip(self.failed);
        all.filter(|(_, count)| *count > 0)
    }

    /// Good ops a second.
    pub fn rate(&self) -> f64 {
        match self.elapsed.as_secs_f64() {
            0.0 => 0.0,
            seconds => self.good as f64 / seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        Tally::new(Duration::from_millis(250)).unwrap()
    }

    #[test]
    fn ops_are_counted_by_what_came_of_them() {
        let mut tally = tally();
        assert_eq!(tally.slices.len(), 3);
        tally.judged(1_000, 5_000, Judged::Right { bytes: 64 });
        tally.judged(1_000, 150_000_000, Judged::Overflowed);
        tally.judged(0, 1, Judged::Wrong("no".to_owned()));
        tally.failed(Status::PeerLost, Fate::Unknown);
        tally.failed(Status::Expired, Fate::NotExecuted);
        assert_eq!((tally.good, tally.bytes, tally.overflowed, tally.wrong), (2, 64, 1, 1));
        assert_eq!((tally.errors(), tally.ended(), tally.unknown), (3, 5, 1));
        assert_eq!(tally.slices, [1, 1, 0]);
        let failures: Vec<_> = tally.failures().collect();
        assert_eq!(failures, [(Status::Expired, 1), (Status::PeerLost, 1)]);
        let mut sum = super::Tally::new(Duration::from_millis(250)).unwrap();
        sum.elapsed = Duration::from_secs(2);
        sum.join(&tally).unwrap();
        sum.join(&tally).unwrap();
        assert_eq!((sum.good, sum.errors(), sum.slices.clone()), (4, 6, vec![2, 2, 0]));
        assert_eq!((sum.latencies.len(), sum.rate()), (4, 2.0));
        assert_eq!(sum.first_wrong.as_deref(), Some("no"));
    }

    #[test]
    fn only_failures_in_a_row_are_hopeless() {
        let mut tally = tally();
        let hopeless = |tally: &Tally, now_ns| tally.is_hopeless(now_ns, Duration::from_secs(1));
        assert!(!hopeless(&tally, u64::MAX), "silence alone is not failure");
        for _ in 1..FAILURES_MAX {
            tally.failed(Status::PeerLost, Fate::Unknown);
        }
        tally.judged(0, 1, Judged::Right { bytes: 1 });
        tally.failed(Status::PeerLost, Fate::Unknown);
        assert!(!hopeless(&tally, 1_000_000));
        assert!(hopeless(&tally, 2_000_000_000));
        for _ in 1..FAILURES_MAX {
            tally.is_wrong("no".to_owned());
        }
        assert!(hopeless(&tally, 1_000_000));
    }
}
