//! Whether there is a core for everyone who spins, as far as can be known at the start. Whom else
//! the engines meet on their cores they notice as they run (see [`crate::waiting`]).

use std::time::Duration;

/// What is known of the engines' cores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Crowding {
    /// For each engine: whether it shares its core with another for sure.
    pub(super) shared: Vec<bool>,
    /// What is to be told to people, with what to do.
    pub(super) warnings: Vec<String>,
}

impl Crowding {
    /// Looks at the core of each engine (none: where the kernel puts it), at how long engines spin
    /// (none: for ever), and at the cores that this process may use.
    pub(super) fn of(cores: &[Option<usize>], spin: Option<Duration>, available: &[usize]) -> Self {
        if spin == Some(Duration::ZERO) {
            return Crowding { shared: vec![false; cores.len()], warnings: Vec::new() };
        }
        let mut pinned: Vec<usize> = cores.iter().copied().flatten().collect();
        let unpinned = cores.len() - pinned.len();
        pinned.sort_unstable();
        pinned.dedup();
        let on = |core: usize| -> Vec<usize> {
            (0..cores.len()).filter(|engine| cores[*engine] == Some(core)).collect()
        };
        let free = available.len().saturating_sub(pinned.len());
        let shared = cores.iter().map(|core| match core {
            Some(core) => on(*core).len() > 1,
            None => unpinned > free,
        });
        let mut crowding = Crowding { shared: shared.collect(), warnings: Vec::new() };
        // One that spins for a while only is in nobody's way for long.
        if spin.is_some() {
            return crowding;
        }
        for core in pinned {
            let engines = on(core);
            if engines.len() > 1 {
                crowding.warnings.push(format!(
                    "engines {} spin on core {core} together and yield to each other; give each a \
                     core of its own in engine.cores (there are {available:?}), or set engine.wait \
                     = \"adaptive\"",
                    list(&engines),
                ));
            }
        }
        if unpinned >= free {
            crowding.warnings.push(format!(
                "engines that spin: {}, cores that this process may use: {} ({available:?}): none \
                 is left for applications, which have to take turns with an engine; leave one out \
                 of engine.cores, allow more (taskset, cpuset), or set engine.wait = \"adaptive\"",
                cores.len(),
                available.len(),
            ));
        }
        crowding
    }
}

/// What is to be told of an engine that found its core kept from it `times` times as it ran.
pub(super) fn noticed(engine: usize, times: u64) -> Option<String> {
    (times > 0).then(|| {
        format!(
            "engine {engine} has noticed {times} times that others keep its core from it, and has \
             let them run; give it a core of its own (engine.cores; taskset for the others), or set \
             engine.wait = \"adaptive\""
        )
    })
}

fn list(engines: &[usize]) -> String {
    let engines: Vec<_> = engines.iter().map(usize::to_string).collect();
    engines.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_with_cores_of_their_own_and_one_to_spare_are_no_crowd() {
        for cores in [&[Some(0), Some(1)][..], &[None, Some(2)], &[None]] {
            let crowding = Crowding::of(cores, None, &[0, 1, 2]);
            assert_eq!(crowding.shared, vec![false; cores.len()]);
            assert!(crowding.warnings.is_empty(), "{crowding:?}");
        }
    }

    #[test]
    fn two_on_one_core_are_named() {
        let cores = [Some(3), Some(1), Some(3)];
        let crowding = Crowding::of(&cores, None, &[0, 1, 2, 3]);
        assert_eq!(crowding.shared, [true, false, true]);
        let [warning] = &crowding.warnings[..] else { panic!("{crowding:?}") };
        for part in ["engines 0, 2 spin on core 3", "[0, 1, 2, 3]", "adaptive"] {
            assert!(warning.contains(part), "{part} is missing in {warning}");
        }
        // They share it all the same if they sleep now and then, but nobody is in the way.
        let adaptive = Crowding::of(&cores, Some(Duration::from_micros(100)), &[0, 1, 2, 3]);
        assert_eq!(adaptive, Crowding { warnings: Vec::new(), ..crowding });
        let block = Crowding::of(&cores, Some(Duration::ZERO), &[0, 1, 2, 3]);
        assert_eq!(block, Crowding { shared: vec![false; 3], warnings: Vec::new() });
    }

    #[test]
    fn more_than_there_are_cores_for_are_counted() {
        let all = Crowding::of(&[Some(0), Some(1)], None, &[0, 1]);
        assert_eq!(all.shared, [false, false], "each has its core");
        assert!(all.warnings[0].contains("spin: 2, cores that this process may use: 2 ([0, 1])"));
        let one = Crowding::of(&[None], None, &[5]);
        assert_eq!((one.shared, one.warnings.len()), (vec![false], 1));
        let many = Crowding::of(&[Some(0), None, None], None, &[0, 1]);
        assert_eq!(many.shared, [false, true, true]);
    }
}
