//! What a thread does that finds nothing to do: it looks again, lets others run, or sleeps.
//!
//! Engine threads and sessions decide alike. How long they look before they sleep is said by
//! whoever starts them and adapts to what comes of it: a short sleep would have been saved by
//! looking a little longer, a long one shows that the looking was in vain. Whoever shares a core
//! with others that spin would keep them from running, and be kept by them, for whole slices of
//! the scheduler; that is noticed from the time at which each look is made, without asking anyone.

use std::time::Duration;

use nic_wire::{Span, Time};

/// A pause between two looks at least this long was the scheduler's: the looks themselves are
/// thousands of times shorter, and its slices begin at about a millisecond.
const LOST_SLICE: Span = Span::from_ms(1);
/// A core is crowded if so much time was lost within [`CROWDED_WITHIN`]: a quarter, as one of two
/// spinners loses a half. Of one that has the core to itself but for what the system does now and
/// then more would be lost by letting others run.
const CROWDED_FROM: Span = Span::from_ms(25);
/// See [`CROWDED_FROM`].
const CROWDED_WITHIN: Span = Span::from_ms(100);
/// No pause counts for more, and one beyond [`CROWDED_WITHIN`] not at all: a process that was
/// stopped has not met a crowd.
const LOST_AT_ONCE: Span = Span::from_ms(10);
/// After so long without a loss the thread tries whether it has its core to itself again. The try
/// costs [`CROWDED_FROM`] if it has not.
const CALM: Span = Span::from_ms(2000);
/// An adaptive thread looks for at least this part of its time before it sleeps: a sleep within an
/// op costs more than the looking.
const SPIN_PART_LEAST: u64 = 8;

/// What to do after a look that found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look again at once.
    Look,
    /// Let others run that want the core, then look again.
    Yield,
    /// Sleep until woken.
    Sleep,
}

/// How a thread waits. The time is an argument everywhere; nothing here makes a system call.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The longest time of looking before sleep; `None`: for ever.
    spin_max: Option<Span>,
    /// The same as it has adapted.
    spin: Span,
    /// When there was work last.
    worked: Time,
    /// When the thread went to sleep, until it is known how long it slept.
    asleep: Option<Time>,
    crowd: Crowd,
}

impl Waiting {
    /// A thread that looks for up to `spin` before it sleeps. `None`: it never sleeps while it has
    /// its core to itself; zero: it sleeps at once.
    pub fn new(spin: Option<Duration>) -> Self {
        let spin_max = spin.map(|spin| Span::from_ns(spin.as_nanos() as u64));
        Waiting {
            spin_max,
            spin: spin_max.unwrap_or(Span::MAX),
            worked: Time::ZERO,
            asleep: None,
            crowd: Crowd::default(),
        }
    }

    /// The same on a core on which others spin as well, for sure: it always lets them run.
    #[must_use]
    pub fn on_shared_core(mut self) -> Self {
        self.crowd.least = Pace::Yield;
        self.crowd.pace = Pace::Yield;
        self
    }

    /// Whether it sleeps at once, and need not look more than once.
    pub fn is_block(&self) -> bool {
        self.spin_max == Some(Span::ZERO)
    }

    /// Work was found by the look at `now`, or waiting begins.
    #[inline]
    pub fn worked(&mut self, now: Time) {
        self.woke(now);
        self.worked = now;
        if self.crowd.looked.is_some() {
            // What came while others had the core does not excuse them.
            self.crowd.look(now);
            self.crowd.looked = None;
        }
    }

    /// The look at `now` found nothing.
    #[inline]
    pub fn idle(&mut self, now: Time) -> Step {
        self.woke(now);
        let pace = self.crowd.look(now);
        if pace == Pace::Sleep || now.since(self.worked) >= self.spin {
            self.crowd.looked = None;
            self.asleep = Some(now);
            return Step::Sleep;
        }
        if pace == Pace::Yield {
            self.crowd.yields += 1;
            return Step::Yield;
        }
        Step::Look
    }

    /// Learns from the sleep that ended, if there was one. A look after it does so, too.
    #[inline]
    pub fn woke(&mut self, now: Time) {
        let Some(asleep) = self.asleep.take() else { return };
        let Some(most) = self.spin_max else { return };
        self.spin = match now.since(asleep) < most {
            true => most,
            false => self.spin.divided(2).max(most.divided(SPIN_PART_LEAST)),
        };
    }

    /// How often it noticed that others use its core.
    pub fn crowded(&self) -> u64 {
        self.crowd.times
    }

    /// How often it let others run.
    pub fn yields(&self) -> u64 {
        self.crowd.yields
    }
}

/// How fast a thread may look without being in the way of others, or of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Pace {
    /// It has its core to itself.
    #[default]
    Look,
    /// Others look there as well: who lets the other run is let run in turn.
    Yield,
    /// Others take whole slices all the same. A sleeper is put before them when it is woken; one
    /// that yields is put behind them.
    Sleep,
}

/// Who else uses the core.
#[derive(Clone, Debug, Default)]
struct Crowd {
    least: Pace,
    pace: Pace,
    /// When the pace last changed or a slice was last lost.
    since: Time,
    /// The look before, if nothing was done or slept between.
    looked: Option<Time>,
    /// What was lost since `counted_from`.
    lost: Span,
    counted_from: Time,
    times: u64,
    yields: u64,
}

impl Crowd {
    /// The pace after an idle look at `now`.
    #[inline]
    fn look(&mut self, now: Time) -> Pace {
        let pause = self.looked.map_or(Span::ZERO, |looked| now.since(looked));
        self.looked = Some(now);
        if (LOST_SLICE..CROWDED_WITHIN).contains(&pause) {
            self.lost(now, pause.min(LOST_AT_ONCE));
        } else if self.pace > self.least && now.since(self.since) >= CALM {
            self.pace = if self.pace == Pace::Sleep { Pace::Yield } else { Pace::Look };
            self.since = now;
        }
        self.pace
    }

    #[cold]
    fn lost(&mut self, now: Time, time: Span) {
        self.since = now;
        if now.since(self.counted_from) > CROWDED_WITHIN {
            (self.counted_from, self.lost) = (now, Span::ZERO);
        }
        self.lost = self.lost + time;
        if self.lost >= CROWDED_FROM {
            self.lost = Span::ZERO;
            self.times += 1;
            self.pace = if self.pace == Pace::Look { Pace::Yield } else { Pace::Sleep };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at_us(us: u64) -> Time {
        Time::from_ns(1_000_000_000 + us * 1000)
    }

    /// Looks every microsecond from `from`; when it would sleep, in microseconds after.
    fn sleeps_after(waiting: &mut Waiting, from: u64) -> u64 {
        waiting.worked(at_us(from));
        (1..).find(|us| waiting.idle(at_us(from + us)) == Step::Sleep).unwrap()
    }

    #[test]
    fn each_mode_looks_as_long_as_it_should() {
        let mut block = Waiting::new(Some(Duration::ZERO));
        assert!(block.is_block());
        assert_eq!(block.idle(at_us(0)), Step::Sleep);
        assert_eq!(block.idle(at_us(1)), Step::Sleep, "however short the sleep was");
        let mut adaptive = Waiting::new(Some(Duration::from_micros(100)));
        assert_eq!(sleeps_after(&mut adaptive, 0), 100);
        let mut spin = Waiting::new(None);
        spin.worked(at_us(0));
        assert!((1..10_000).all(|us| spin.idle(at_us(us * 500)) == Step::Look));
        assert_eq!((spin.crowded(), spin.yields()), (0, 0));
    }

    #[test]
    fn the_time_of_looking_adapts_to_the_sleeps() {
        let mut waiting = Waiting::new(Some(Duration::from_micros(80)));
        let mut now = 0;
        // Each sleep is long: less and less time is spent, down to a part.
        for expected in [80, 40, 20, 10, 10] {
            let slept_at = sleeps_after(&mut waiting, now);
            assert_eq!(slept_at, expected);
            now += slept_at + 5_000;
        }
        // A short one: looking would have been better.
        now += sleeps_after(&mut waiting, now) + 30;
        assert_eq!(sleeps_after(&mut waiting, now), 80);
        // Waking for nothing is no work: it sleeps again at once.
        assert_eq!(waiting.idle(at_us(now + 1_000_000)), Step::Sleep);
    }

    /// Looks at these times, in milliseconds; what came of the last.
    fn look_at(waiting: &mut Waiting, times: &[u64]) -> Step {
        times.iter().map(|ms| waiting.idle(at_us(ms * 1000))).last().unwrap()
    }

    #[test]
    fn a_core_that_others_use_is_noticed_and_tried_again() {
        let mut spin = Waiting::new(None);
        spin.worked(at_us(0));
        // Two long pauses may be anything, and so may those that lie far apart.
        assert_eq!(look_at(&mut spin, &[7_000, 7_040, 7_080]), Step::Look);
        assert_eq!(look_at(&mut spin, &[8_000, 8_040, 9_000]), Step::Look);
        // The system has work of its own: a tenth of the time is no crowd.
        for ms in (10_000..12_000).step_by(30) {
            look_at(&mut spin, &[ms, ms + 3]);
            spin.worked(at_us((ms + 3) * 1000));
        }
        assert_eq!(spin.crowded(), 0);
        // Another spinner takes every second slice.
        assert_eq!(look_at(&mut spin, &[20_000, 20_009, 20_018, 20_027]), Step::Yield);
        assert_eq!((spin.crowded(), spin.yields()), (1, 1));
        // It does not yield in turn: only a sleeper is put before it.
        assert_eq!(look_at(&mut spin, &[20_036, 20_045, 20_054]), Step::Sleep);
        assert_eq!(spin.crowded(), 2);
        // A long sleep is nobody's fault, and later the faster ways are tried again.
        assert_eq!(look_at(&mut spin, &[21_000]), Step::Sleep);
        assert_eq!(look_at(&mut spin, &[22_100]), Step::Yield);
        let looks: Vec<_> =
            (0..4_200).map(|half| spin.idle(at_us(22_100_000 + half * 500))).collect();
        assert_eq!(looks.last(), Some(&Step::Look));
        assert_eq!(spin.crowded(), 2);
    }

    #[test]
    fn work_is_no_lost_slice() {
        let mut spin = Waiting::new(None);
        for turn in 0..100 {
            assert_eq!(spin.idle(at_us(turn * 5000)), Step::Look);
            spin.worked(at_us(turn * 5000 + 10));
        }
        assert_eq!(spin.crowded(), 0);
    }

    #[test]
    fn on_a_shared_core_others_are_always_let_run() {
        let mut shared = Waiting::new(None).on_shared_core();
        shared.worked(at_us(0));
        assert!((0..10_000).all(|us| shared.idle(at_us(us * 900)) == Step::Yield));
        assert_eq!(look_at(&mut shared, &[10_000, 10_009, 10_018, 10_027]), Step::Sleep);
        assert_eq!(look_at(&mut shared, &[12_100]), Step::Yield);
    }
}
