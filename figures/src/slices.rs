//! Interleaved runs: the sides of a comparison take turns, slice by slice, and slices during
//! which the machine moved are thrown away.

use std::time::Duration;

use crate::measured::{Measured, Outline, SliceRecord};
use crate::placement::{PlacementProbe, Probe};

/// The longest slice (start). In 250 ms the placement moved in 1.5 % of cases, in 10 s in 11 %.
pub const SLICE_MAX: Duration = Duration::from_millis(250);

/// What one slice of a subject brought: named values, or why there are none.
#[derive(Debug, Clone, PartialEq)]
pub struct SliceResult {
    pub(crate) outcome: Result<Vec<SliceValue>, String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SliceValue {
    /// Empty for the subject's only value, which bears the subject's name.
    pub(crate) name: String,
    pub(crate) value: f64,
    /// None: the subject's unit.
    pub(crate) unit: Option<String>,
}

impl SliceResult {
    /// No values yet; add them with [`SliceResult::value`].
    pub fn new() -> Self {
        Self { outcome: Ok(Vec::new()) }
    }

    /// A single value, known by the subject's name alone and in its unit.
    pub fn single(value: f64) -> Self {
        Self::new().value("", value)
    }

    /// A slice that could not be measured, for a reason that a person can read. It is dropped,
    /// counted, and its reason kept ([`Measured::first_failure`]).
    pub fn failed(reason: impl Into<String>) -> Self {
        Self { outcome: Err(reason.into()) }
    }

    /// Adds a value in the subject's unit. It is known as `subject.name` ("read.p50"), or by the
    /// subject's name if `name` is empty. A value that is not finite fails the slice.
    #[must_use]
    pub fn value(self, name: impl Into<String>, value: f64) -> Self {
        self.add(name.into(), value, None)
    }

    /// Adds a value in a unit of its own, as a rate beside latencies.
    #[must_use]
    pub fn value_in(self, name: impl Into<String>, value: f64, unit: impl Into<String>) -> Self {
        self.add(name.into(), value, Some(unit.into()))
    }

    fn add(mut self, name: String, value: f64, unit: Option<String>) -> Self {
        if let Ok(values) = &mut self.outcome {
            if value.is_finite() {
                values.push(SliceValue { name, value, unit });
            } else {
                self.outcome = Err(format!("the value {name:?} is {value}, not a finite number"));
            }
        }
        self
    }
}

impl Default for SliceResult {
    fn default() -> Self {
        Self::new()
    }
}

/// One side of a comparison: a name, a unit, and how to measure it for a while.
pub struct Subject<'a> {
    name: String,
    unit: String,
    measure: Box<dyn FnMut(Duration) -> SliceResult + 'a>,
}

impl<'a> Subject<'a> {
    /// `measure` runs for about the time that it is given and returns what it saw. The unit is
    /// that of its values, unless they say otherwise ([`SliceResult::value_in`]).
    pub fn new(
        name: impl Into<String>,
        unit: impl Into<String>,
        measure: impl FnMut(Duration) -> SliceResult + 'a,
    ) -> Self {
        Self { name: name.into(), unit: unit.into(), measure: Box::new(measure) }
    }
}

impl std::fmt::Debug for Subject<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Subject")
            .field("name", &self.name)
            .field("unit", &self.unit)
            .finish_non_exhaustive()
    }
}

/// Subjects that take turns. In each round every subject runs one slice, in the order in which
/// they were added, with a probe of the placement before and after.
///
/// ```
/// use std::time::{Duration, Instant};
/// use nic_figures::{Interleave, PlacementProbe, SliceResult, Subject};
///
/// /// Counts calls for a while and returns the time of one in nanoseconds.
/// fn time_of(duration: Duration, call: impl Fn()) -> SliceResult {
///     let (start, mut calls) = (Instant::now(), 0);
///     while start.elapsed() < duration {
///         (0..100).for_each(|_| call());
///         calls += 100;
///     }
///     SliceResult::single(start.elapsed().as_nanos() as f64 / f64::from(calls))
/// }
///
/// let mut probe = PlacementProbe::choose();
/// let measured = Interleave::new(&mut probe, Duration::from_millis(2))
///     .add(Subject::new("yield", "ns", |time| time_of(time, std::thread::yield_now)))
///     .add(Subject::new("pause", "ns", |time| time_of(time, std::hint::spin_loop)))
///     .run(7);
/// if measured.enough() {
///     println!("{:?}", measured.ratio("yield", "pause"));
/// }
/// println!("{}", measured.summary());
/// ```
#[derive(Debug)]
pub struct Interleave<'a, P: Probe = PlacementProbe> {
    probe: P,
    slice: Duration,
    subjects: Vec<Subject<'a>>,
}

impl<'a, P: Probe> Interleave<'a, P> {
    /// No subjects yet. Slices longer than [`SLICE_MAX`] are cut to it: the longer a slice, the
    /// more often it is thrown away. `probe` may be lent (`&mut probe`).
    pub fn new(probe: P, slice_duration: Duration) -> Self {
        Self { probe, slice: slice_duration.min(SLICE_MAX), subjects: Vec::new() }
    }

    /// Adds a subject.
    ///
    /// # Panics
    ///
    /// If there is one of that name already: their values could not be told apart.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "nobody reads add(subject) as arithmetic")]
    pub fn add(mut self, subject: Subject<'a>) -> Self {
        let taken = self.subjects.iter().any(|other| other.name == subject.name);
        assert!(!taken, "two subjects are named {:?}", subject.name);
        self.subjects.push(subject);
        self
    }

    /// Runs all rounds and judges the slices. Takes about rounds x subjects x (slice + 1 ms).
    pub fn run(mut self, rounds: u32) -> Measured {
        let subjects = self.subjects.iter();
        let outlines = subjects.map(|s| Outline { name: s.name.clone(), unit: s.unit.clone() });
        let outlines: Vec<Outline> = outlines.collect();
        let mut records = Vec::new();
        let mut before = self.probe.measure();
        for round in 0..rounds {
            for (index, subject) in self.subjects.iter_mut().enumerate() {
                // The probe after one slice is the one before the next; if it failed because the
                // cores were busy, the next slice has a right to its own.
                if before.as_ref().is_err_and(|reason| !reason.is_lasting()) {
                    before = self.probe.measure();
                }
                let result = (subject.measure)(self.slice);
                let after = self.probe.measure();
                let record = SliceRecord {
                    subject: index,
                    round,
                    before: std::mem::replace(&mut before, after.clone()),
                    after,
                    outcome: result.outcome,
                };
                records.push(record);
            }
        }
        Measured::judge(outlines, rounds, records)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::placement::{NoPlacement, Placement};

    /// Answers from a script, then with its last line for ever.
    struct Scripted {
        answers: Vec<Result<Placement, NoPlacement>>,
        asked: usize,
    }

    impl Scripted {
        fn new(script: &[f64]) -> Self {
            let answer = |&round_trip_ns: &f64| match round_trip_ns {
                0.0 => Err(NoPlacement::Busy { cores: (0, 1), chunks: 3 }),
                _ => Ok(Placement { round_trip_ns }),
            };
            Self { answers: script.iter().map(answer).collect(), asked: 0 }
        }
    }

    impl Probe for Scripted {
        fn measure(&mut self) -> Result<Placement, NoPlacement> {
            let index = self.asked.min(self.answers.len() - 1);
            self.asked += 1;
            self.answers[index].clone()
        }
    }

    #[test]
    fn subjects_take_turns_and_slices_are_cut_to_the_longest() {
        let turns = RefCell::new(Vec::new());
        let subject = |name: &'static str| {
            let turns = &turns;
            Subject::new(name, "ns", move |time| {
                turns.borrow_mut().push((name, time));
                SliceResult::single(1.0)
            })
        };
        let mut probe = Scripted::new(&[90.0]);
        let measured = Interleave::new(&mut probe, Duration::from_secs(1))
            .add(subject("a"))
            .add(subject("b"))
            .run(3);
        assert_eq!(measured.slices().kept, 6);
        assert_eq!(probe.asked, 7, "one probe before, one after each slice");
        let names: Vec<_> = turns.borrow().iter().map(|turn| turn.0).collect();
        assert_eq!(names, ["a", "b", "a", "b", "a", "b"]);
        assert!(turns.borrow().iter().all(|turn| turn.1 == SLICE_MAX));
    }

    #[test]
    fn a_slice_that_sees_the_machine_move_is_dropped() {
        // Six slices; the machine moves during the third and back during the fifth.
        let probe = Scripted::new(&[90.0, 92.0, 95.0, 300.0, 310.0, 88.0, 90.0]);
        let mut next = 0.0;
        let measured = Interleave::new(probe, Duration::ZERO)
            .add(Subject::new("x", "ns", |_| {
                next += 1.0;
                SliceResult::single(next)
            }))
            .run(6);
        assert_eq!(measured.values("x"), [1.0, 2.0, 6.0]);
        let slices = measured.slices();
        assert_eq!((slices.kept, slices.moved, slices.elsewhere), (3, 2, 1));
    }

    #[test]
    fn a_busy_probe_costs_one_slice_and_is_asked_again() {
        // Before, after the first (busy), again before the second, after the second.
        let mut probe = Scripted::new(&[90.0, 0.0, 90.0, 91.0]);
        let measured = Interleave::new(&mut probe, Duration::ZERO)
            .add(Subject::new("x", "ns", |_| SliceResult::single(4.0)))
            .run(2);
        assert_eq!(probe.asked, 4);
        assert_eq!((measured.slices().kept, measured.slices().unprobed), (1, 1));
    }

    #[test]
    fn values_that_are_not_finite_fail_their_slice() {
        let good = SliceResult::new().value("p50", 1.0).value_in("rate", 2.0, "op/s");
        assert_eq!(good.outcome.unwrap().len(), 2);
        let bad = SliceResult::new().value("p50", f64::NAN).value("p90", 1.0);
        assert_eq!(bad.outcome.unwrap_err(), "the value \"p50\" is NaN, not a finite number");
    }

    #[test]
    #[should_panic(expected = "two subjects are named \"x\"")]
    fn names_are_unique() {
        let subject = || Subject::new("x", "ns", |_| SliceResult::new());
        let _ =
            Interleave::new(Scripted::new(&[1.0]), Duration::ZERO).add(subject()).add(subject());
    }
}
