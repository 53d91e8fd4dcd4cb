//! Cores: which ones this process may use, pinning to one, and a pair to measure between.

use std::fs;

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Why cores cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    /// The kernel does not say which cores the thread may use (a machine with over 1024 of them,
    /// or a sandbox). Name the cores yourself.
    #[error("cannot read which cores this thread may use: {errno}; name the cores explicitly")]
    Unknown {
        /// What sched_getaffinity said.
        errno: Errno,
    },
    /// The thread may not be pinned there. Choose from [`available`].
    #[error(
        "cannot pin a thread to core {core}: {errno}; see Cpus_allowed_list in /proc/self/status"
    )]
    Pin {
        /// The core asked for.
        core: usize,
        /// What sched_setaffinity said; `INVAL` for a core that is absent or not allowed.
        errno: Errno,
    },
    /// One core, or none, where two are needed. Both sides would take turns on one core, and what
    /// was measured would be the scheduler.
    #[error(
        "cores available: {found}, needed: 2; run where more are allowed (taskset, cpuset, \
         container limits)"
    )]
    TooFew {
        /// Cores that may be used.
        found: usize,
    },
}

/// The cores that the calling thread may run on, ascending.
///
/// A thread that is pinned sees its own core alone, and threads inherit that: ask before pinning.
pub fn available() -> Result<Vec<usize>, CoreError> {
    let set = sched_getaffinity(None).map_err(|errno| CoreError::Unknown { errno })?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// Pins the calling thread to one core. Threads that it starts from now on inherit the pin.
pub fn pin_current_thread(core: usize) -> Result<(), CoreError> {
    if core >= CpuSet::MAX_CPU {
        return Err(CoreError::Pin { core, errno: Errno::INVAL });
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|errno| CoreError::Pin { core, errno })
}

/// The two cores of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CorePair {
    /// For the side that issues ops.
    pub initiator: usize,
    /// For the side whose memory is worked on.
    pub target: usize,
    /// Whether the two are hyperthreads of one physical core, as far as the kernel knows. They
    /// share its caches and execution units: such figures are not those of two cores.
    pub siblings: bool,
}

impl CorePair {
    /// (initiator, target), as [`crate::PlacementProbe::new`] takes them.
    pub fn cores(&self) -> (usize, usize) {
        (self.initiator, self.target)
    }
}

/// Picks (initiator core, target core) among those available to the calling thread.
///
/// The lowest-numbered two that are different physical cores of one package; failing that, the
/// lowest two of different packages, then of one core. [`CoreError::TooFew`] says why not.
pub fn pick_pair() -> Result<CorePair, CoreError> {
    pick_pair_from(&available()?, physical_core)
}

/// Where a core sits: (package, core within the package).
type Position = (u64, u64);

fn pick_pair_from(
    available: &[usize],
    position: impl Fn(usize) -> Option<Position>,
) -> Result<CorePair, CoreError> {
    let [initiator, others @ ..] = available else {
        return Err(CoreError::TooFew { found: 0 });
    };
    // Cores whose position is unknown count as cores of their own in one package.
    let place = |core: usize| position(core).unwrap_or((0, u64::MAX - core as u64));
    let here = place(*initiator);
    let distance = |&&core: &&usize| match place(core) {
        there if there == here => 2,
        (package, _) if package != here.0 => 1,
        _ => 0,
    };
    let target = others.iter().min_by_key(distance).ok_or(CoreError::TooFew { found: 1 })?;
    Ok(CorePair { initiator: *initiator, target: *target, siblings: place(*target) == here })
}

fn physical_core(core: usize) -> Option<Position> {
    let read = |name: &str| {
        let path = format!("/sys/devices/system/cpu/cpu{core}/topology/{name}");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    Some((read("physical_package_id")?, read("core_id")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_pinned_to_each_available_core_and_then_sees_only_it() {
        let cores = available().unwrap();
        assert!(!cores.is_empty());
        for core in cores {
            let seen = std::thread::spawn(move || {
                pin_current_thread(core).unwrap();
                available().unwrap()
            });
            assert_eq!(seen.join().unwrap(), [core]);
        }
    }

    #[test]
    fn absent_cores_are_refused_with_their_number() {
        for core in [CpuSet::MAX_CPU - 1, CpuSet::MAX_CPU, usize::MAX] {
            let error = pin_current_thread(core).unwrap_err();
            assert_eq!(error, CoreError::Pin { core, errno: Errno::INVAL });
            assert!(error.to_string().contains(&format!("core {core}:")), "{error}");
        }
    }

    #[test]
    fn too_few_cores_are_said_to_be_too_few() {
        for cores in [&[][..], &[3]] {
            let error = pick_pair_from(cores, |_| None).unwrap_err();
            assert_eq!(error, CoreError::TooFew { found: cores.len() });
        }
    }

    #[test]
    fn physical_cores_of_one_package_come_first() {
        let pair = |initiator, target, siblings| CorePair { initiator, target, siblings };
        // 0 and 1 are hyperthreads; 2 is on the other package; 3 is the best neighbour of 0.
        let position = |core| Some([(0, 0), (0, 0), (1, 0), (0, 1)][core]);
        assert_eq!(pick_pair_from(&[0, 1, 2, 3], position), Ok(pair(0, 3, false)));
        assert_eq!(pick_pair_from(&[0, 1, 2], position), Ok(pair(0, 2, false)));
        assert_eq!(pick_pair_from(&[0, 1], position), Ok(pair(0, 1, true)));
        assert_eq!(pick_pair_from(&[4, 6], |_| None), Ok(pair(4, 6, false)));
    }
}
