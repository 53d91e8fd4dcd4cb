//! Where the machine's virtual cores are at the moment, told by how long a cache line takes
//! between two of them.
//!
//! A hypervisor moves virtual CPUs between physical ones every few seconds, and every cross-core
//! figure moves with them, by a factor of up to five. The round trip of one cache line shows it:
//! figures may be compared only if it was the same ([`Placement::same_as`]).

use crate::cores;
use crate::ping_pong::CHUNKS_MIN;
use crate::probe_threads::ProbeThreads;

/// Two placements are the same if the longer round trip is at most this much of the shorter.
pub const SAME_WITHIN: f64 = 1.25;

/// How far apart two cores are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// Round trip of one cache line between the two cores, in nanoseconds: the median of some
    /// dozens of short runs.
    pub round_trip_ns: f64,
}

impl Placement {
    /// Probes once. To probe again and again, keep a [`PlacementProbe`].
    pub fn probe(cores: (usize, usize)) -> Result<Self, NoPlacement> {
        PlacementProbe::new(cores)?.measure()
    }

    /// Whether figures taken in the two placements may be compared: within 25 %
    /// ([`SAME_WITHIN`]). Placements differ by factors, the noise of one by a few percent.
    pub fn same_as(&self, other: &Self) -> bool {
        let (shorter, longer) = if self.round_trip_ns <= other.round_trip_ns {
            (self.round_trip_ns, other.round_trip_ns)
        } else {
            (other.round_trip_ns, self.round_trip_ns)
        };
        longer <= shorter * SAME_WITHIN
    }
}

/// Why the placement is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlacement {
    /// There is nothing to probe between, as on a machine with one core: the reason given. Slices
    /// are kept without a check.
    #[error("no cache line to time: {reason}")]
    Unavailable {
        /// In words.
        reason: String,
    },
    /// Both cores are the same one. Name two, or use [`cores::pick_pair`].
    #[error("both cores are core {core}, and a cache line needs two different ones")]
    SameCore {
        /// The core given twice.
        core: usize,
    },
    /// A thread could not be pinned.
    #[error(transparent)]
    Core(#[from] cores::CoreError),
    /// The operating system gave no thread.
    #[error("cannot start a probe thread ({reason}); is there a limit on threads?")]
    NoThread {
        /// What it said.
        reason: String,
    },
    /// Other work kept at least one of the cores, so that the two threads hardly ever ran at the
    /// same time. Passing: probe again.
    #[error(
        "cores {} and {} were too busy to time a cache line: {chunks} short runs succeeded and \
         {CHUNKS_MIN} are needed; stop other work there", cores.0, cores.1
    )]
    Busy {
        /// The two cores.
        cores: (usize, usize),
        /// Runs that succeeded.
        chunks: usize,
    },
    /// A probe thread is gone, which only a defect of this crate can bring about.
    #[error("a probe thread has ended by itself")]
    Stopped,
}

impl NoPlacement {
    /// Whether every later probe would fail too, and there is no placement to wait for.
    pub fn is_lasting(&self) -> bool {
        !matches!(self, Self::Busy { .. })
    }
}

/// Something that tells the placement: a [`PlacementProbe`], or a fixed answer in a test.
pub trait Probe {
    /// The placement now. Takes about one to two milliseconds.
    fn measure(&mut self) -> Result<Placement, NoPlacement>;
}

impl<P: Probe + ?Sized> Probe for &mut P {
    fn measure(&mut self) -> Result<Placement, NoPlacement> {
        (**self).measure()
    }
}

/// Two threads, each pinned to its core, that time a cache line between them when asked.
///
/// Between probes they are blocked and take no time from what is measured; dropping ends them.
///
/// ```
/// use nic_figures::PlacementProbe;
///
/// let mut probe = PlacementProbe::choose();
/// match probe.measure() {
///     Ok(placement) => println!("{:.0} ns", placement.round_trip_ns),
///     Err(reason) => println!("unknown: {reason}"),
/// }
/// ```
#[derive(Debug)]
pub struct PlacementProbe {
    threads: Result<ProbeThreads, NoPlacement>,
}

impl PlacementProbe {
    /// A probe between two cores.
    pub fn new(cores: (usize, usize)) -> Result<Self, NoPlacement> {
        if cores.0 == cores.1 {
            return Err(NoPlacement::SameCore { core: cores.0 });
        }
        Ok(Self { threads: Ok(ProbeThreads::start(cores)?) })
    }

    /// A probe between the cores that [`cores::pick_pair`] picks; without such a pair, or if its
    /// threads cannot be started, a probe that gives the reason each time. Call it before pinning
    /// the calling thread, which afterwards sees one core only.
    pub fn choose() -> Self {
        let started = cores::pick_pair()
            .map_err(NoPlacement::from)
            .and_then(|pair| ProbeThreads::start(pair.cores()));
        Self { threads: started }
    }

    /// A probe that always answers [`NoPlacement::Unavailable`], where no cores are to be probed.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self { threads: Err(NoPlacement::Unavailable { reason: reason.into() }) }
    }

    /// The placement now: about a millisecond, at most half a second on cores that are taken.
    pub fn measure(&mut self) -> Result<Placement, NoPlacement> {
        match &mut self.threads {
            Ok(threads) => threads.measure(),
            Err(reason) => Err(reason.clone()),
        }
    }

    /// The cores probed, unless there is nothing to probe.
    pub fn cores(&self) -> Option<(usize, usize)> {
        self.threads.as_ref().ok().map(|threads| threads.cores)
    }
}

impl Probe for PlacementProbe {
    fn measure(&mut self) -> Result<Placement, NoPlacement> {
        Self::measure(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(round_trip_ns: f64) -> Placement {
        Placement { round_trip_ns }
    }

    #[test]
    fn same_means_within_a_quarter_either_way() {
        assert!(placement(100.0).same_as(&placement(125.0)));
        assert!(placement(125.0).same_as(&placement(100.0)));
        assert!(!placement(100.0).same_as(&placement(125.1)));
        assert!(!placement(350.0).same_as(&placement(90.0)));
        assert!(!placement(f64::NAN).same_as(&placement(90.0)));
    }

    #[test]
    fn a_probe_tells_a_positive_round_trip_again_and_again() {
        let Ok(pair) = cores::pick_pair() else {
            let reason = PlacementProbe::choose().measure().unwrap_err();
            assert!(matches!(reason, NoPlacement::Core(cores::CoreError::TooFew { .. })));
            return;
        };
        let mut probe = PlacementProbe::new(pair.cores()).unwrap();
        assert_eq!(probe.cores(), Some(pair.cores()));
        // Other tests run on these cores, so that a probe may find them busy: five must not.
        let told = (0..200).filter_map(|_| match probe.measure() {
            Ok(placement) => Some(placement.round_trip_ns),
            Err(NoPlacement::Busy { .. }) => None,
            Err(error) => panic!("{error}"),
        });
        let told: Vec<f64> = told.take(5).collect();
        assert_eq!(told.len(), 5);
        assert!(told.iter().all(|&nanoseconds| nanoseconds > 0.0), "{told:?}");
    }

    #[test]
    fn probes_on_cores_that_spin_come_to_an_end() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let Ok(pair) = cores::pick_pair() else { return };
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for core in [pair.initiator, pair.target] {
                let stop = &stop;
                scope.spawn(move || {
                    cores::pin_current_thread(core).unwrap();
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let outcome = Placement::probe(pair.cores());
            stop.store(true, Ordering::Relaxed);
            match outcome {
                Ok(placement) => assert!(placement.round_trip_ns > 0.0),
                Err(error) => assert!(!error.is_lasting(), "{error}"),
            }
        });
    }

    #[test]
    fn impossible_cores_are_refused_with_the_reason() {
        let error = PlacementProbe::new((1, 1)).unwrap_err();
        assert_eq!(error, NoPlacement::SameCore { core: 1 });
        let error = PlacementProbe::new((0, 100_000)).unwrap_err();
        assert!(matches!(error, NoPlacement::Core(cores::CoreError::Pin { core: 100_000, .. })));
        assert!(error.is_lasting());
        let mut probe = PlacementProbe::unavailable("one core");
        let error = probe.measure().unwrap_err();
        assert_eq!(error.to_string(), "no cache line to time: one core");
        assert_eq!((probe.cores(), error.is_lasting()), (None, true));
    }
}
