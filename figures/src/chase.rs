//! The dependent load: how long memory takes to answer when each address comes from the last load.
//!
//! This is the limit that a pointer-walking kernel is held against, with one walk at a time
//! ([`Chase::run`]) and with several whose misses overlap ([`Chase::run_interleaved`]). The memory
//! is the caller's, behind [`Words`], because the figure depends on what backs it (page size,
//! memfd, NUMA node).

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::random::SplitMix64;

/// Words of 8 bytes in a cache line of 64.
pub const LINE_WORDS: usize = 8;
/// The most chains that [`Chase::run_interleaved`] walks at once.
pub const CHAINS_MAX: usize = 64;

/// Memory as 64-bit words. Generic rather than `dyn`, since a virtual call costs as much as a
/// cached load. Implementations should make `load` and `store` `#[inline]` and relaxed; they must
/// be real loads and stores that the compiler cannot drop, as those of atomics are.
pub trait Words {
    /// The word at `index`, below [`Words::len`].
    fn load(&self, index: usize) -> u64;
    /// Puts `value` at `index`, below [`Words::len`].
    fn store(&self, index: usize, value: u64);
    /// Asks the CPU for the line of the word at `index` ahead of its load. Does nothing unless
    /// implemented, for the instruction needs `unsafe`; with it more misses overlap than the CPU
    /// finds by looking ahead.
    #[inline]
    fn prefetch(&self, index: usize) {
        let _ = index;
    }
    /// How many words there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Words for [AtomicU64] {
    #[inline]
    fn load(&self, index: usize) -> u64 {
        self[index].load(Ordering::Relaxed)
    }

    #[inline]
    fn store(&self, index: usize, value: u64) {
        self[index].store(value, Ordering::Relaxed);
    }

    fn len(&self) -> usize {
        <[AtomicU64]>::len(self)
    }
}

impl Words for Vec<AtomicU64> {
    #[inline]
    fn load(&self, index: usize) -> u64 {
        Words::load(self.as_slice(), index)
    }

    #[inline]
    fn store(&self, index: usize, value: u64) {
        Words::store(self.as_slice(), index, value);
    }

    fn len(&self) -> usize {
        self.as_slice().len()
    }
}

impl<W: Words + ?Sized> Words for &W {
    #[inline]
    fn load(&self, index: usize) -> u64 {
        (**self).load(index)
    }

    #[inline]
    fn store(&self, index: usize, value: u64) {
        (**self).store(index, value);
    }

    #[inline]
    fn prefetch(&self, index: usize) {
        (**self).prefetch(index);
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

/// Why memory cannot be chased through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChaseError {
    /// A cycle needs two cache lines. Give it more memory; to measure memory rather than caches,
    /// several times the last-level cache.
    #[error("{words} words are {} cache lines, and a chase needs at least 2", words / LINE_WORDS)]
    TooSmall {
        /// Words that the memory has.
        words: usize,
    },
}

/// A random cycle through all whole cache lines of some memory, and the walks along it.
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use nic_figures::Chase;
///
/// let memory: Vec<AtomicU64> = (0..8 * 1000).map(|_| AtomicU64::new(0)).collect();
/// let mut chase = Chase::prepare(&memory, 1)?;
/// let (one, eight) = (chase.run(10_000), chase.run_interleaved(8, 10_000));
/// println!("{one:.1} ns a load, {eight:.1} ns with 8 chains");
/// # Ok::<(), nic_figures::chase::ChaseError>(())
/// ```
#[derive(Debug)]
pub struct Chase<W: Words> {
    words: W,
    lines: usize,
    /// Where each chain stands, as a word index. Runs go on from here, so that a second run does
    /// not find in the cache what the first has loaded.
    cursors: [usize; CHAINS_MAX],
}

impl<W: Words> Chase<W> {
    /// Overwrites the first word of every cache line so that the lines form one random cycle.
    ///
    /// Sattolo's shuffle, in place: it works for any number of lines and takes no memory of its
    /// own, at the price of two random accesses per line (a few seconds per GiB). Words after the
    /// last whole line, and the other seven of each line, are left alone. The chains start at
    /// places drawn from `seed` too. A line is 8 words from a multiple of 8: if the memory is not
    /// aligned to 64 bytes, each load still meets a cache line of its own.
    pub fn prepare(words: W, seed: u64) -> Result<Self, ChaseError> {
        let lines = words.len() / LINE_WORDS;
        if lines < 2 {
            return Err(ChaseError::TooSmall { words: words.len() });
        }
        for line in 0..lines {
            words.store(line * LINE_WORDS, (line * LINE_WORDS) as u64);
        }
        let mut random = SplitMix64::new(seed);
        for line in (1..lines).rev() {
            // Strictly below `line`: this is what makes one cycle and not several.
            let other = random.below(line as u64) as usize * LINE_WORDS;
            let this = line * LINE_WORDS;
            let moved = words.load(other);
            words.store(other, words.load(this));
            words.store(this, moved);
        }
        Ok(Self { words, lines, cursors: starts(lines, &mut random) })
    }

    /// Walks along a cycle that the memory holds already: the word at the start of each line is the
    /// index of the next line's start. The chains start at places drawn from `seed`.
    pub fn along(words: W, seed: u64) -> Result<Self, ChaseError> {
        let lines = words.len() / LINE_WORDS;
        if lines < 2 {
            return Err(ChaseError::TooSmall { words: words.len() });
        }
        let cursors = starts(lines, &mut SplitMix64::new(seed));
        Ok(Self { words, lines, cursors })
    }

    /// Walks `steps` loads along one chain, each waiting for the one before it.
    ///
    /// Returns the mean time of a load in nanoseconds; 0 for 0 steps.
    pub fn run(&mut self, steps: usize) -> f64 {
        let mut index = self.cursors[0];
        let start = Instant::now();
        for _ in 0..steps {
            index = self.words.load(index) as usize;
        }
        let elapsed = start.elapsed();
        self.cursors[0] = black_box(index);
        elapsed.as_nanos() as f64 / steps.max(1) as f64
    }

    /// Walks `chains` chains in turn, `steps` loads each, so that their cache misses overlap as
    /// far as the CPU can look ahead, or further with [`Words::prefetch`].
    ///
    /// Returns the elapsed time by all loads, in nanoseconds per load. `chains` is limited to
    /// 1 to [`CHAINS_MAX`].
    pub fn run_interleaved(&mut self, chains: usize, steps: usize) -> f64 {
        let chains = chains.clamp(1, CHAINS_MAX);
        let mut cursors = self.cursors;
        let active = &mut cursors[..chains];
        let start = Instant::now();
        for _ in 0..steps {
            for index in active.iter_mut() {
                *index = self.words.load(*index) as usize;
                self.words.prefetch(*index);
            }
        }
        let elapsed = start.elapsed();
        self.cursors = black_box(cursors);
        elapsed.as_nanos() as f64 / (steps.max(1) * chains) as f64
    }

    /// Cache lines on the cycle.
    pub fn lines(&self) -> usize {
        self.lines
    }
}

/// A place for each chain to start at.
fn starts(lines: usize, random: &mut SplitMix64) -> [usize; CHAINS_MAX] {
    std::array::from_fn(|_| random.below(lines as u64) as usize * LINE_WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(words: usize) -> Vec<AtomicU64> {
        (0..words).map(|_| AtomicU64::new(u64::MAX)).collect()
    }

    /// The lines in the order in which a walk from line 0 meets them, until it is back.
    fn cycle(words: &[AtomicU64]) -> Vec<usize> {
        let mut met = Vec::new();
        let mut index = 0;
        loop {
            assert_eq!(index % LINE_WORDS, 0, "every pointer is to the start of a line");
            met.push(index / LINE_WORDS);
            index = Words::load(words, index) as usize;
            if index == 0 || met.len() > words.len() {
                return met;
            }
        }
    }

    #[test]
    fn one_cycle_visits_every_line_once_whatever_their_number() {
        for lines in [2, 3, 5, 8, 64, 100, 1009, 4096] {
            for seed in 0..5 {
                let words = memory(lines * LINE_WORDS + 5);
                assert_eq!(Chase::prepare(&words, seed).unwrap().lines(), lines);
                let mut met = cycle(&words);
                met.sort_unstable();
                assert!(met.into_iter().eq(0..lines), "{lines} lines, seed {seed}");
            }
        }
    }

    #[test]
    fn only_the_first_word_of_a_whole_line_is_written() {
        let words = memory(10 * LINE_WORDS + 5);
        Chase::prepare(&words, 3).unwrap();
        for (index, word) in words.iter().enumerate() {
            let owned = index % LINE_WORDS == 0 && index < 10 * LINE_WORDS;
            assert_eq!(word.load(Ordering::Relaxed) != u64::MAX, owned, "word {index}");
        }
    }

    #[test]
    fn seeds_give_different_orders_and_equal_seeds_the_same() {
        let order = |seed| {
            let words = memory(100 * LINE_WORDS);
            Chase::prepare(&words, seed).unwrap();
            cycle(&words)
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn a_chain_goes_on_where_it_stopped() {
        let words = memory(97 * LINE_WORDS);
        let mut chase = Chase::prepare(&words, 9).unwrap();
        let start = chase.cursors;
        chase.run(40);
        assert_ne!(chase.cursors[0], start[0]);
        chase.run(57);
        assert_eq!(chase.cursors, start, "97 steps are once around");
        chase.run_interleaved(7, 97);
        assert_eq!(chase.cursors, start);
        chase.run_interleaved(7, 1);
        let moved = (0..CHAINS_MAX).filter(|&chain| chase.cursors[chain] != start[chain]).count();
        assert_eq!(moved, 7);
    }

    #[test]
    fn too_little_memory_is_refused() {
        let error = Chase::prepare(memory(15), 0).unwrap_err();
        assert_eq!(error, ChaseError::TooSmall { words: 15 });
        assert_eq!(error.to_string(), "15 words are 1 cache lines, and a chase needs at least 2");
    }
}
