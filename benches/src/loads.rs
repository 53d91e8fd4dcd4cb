//! Raw loads from a region: what every lookup is made of.

use nic_figures::Words;
use nic_shm::RacyMem;
use std::sync::atomic::Ordering;

/// A region's memory as words to chase through, with the prefetch that the executor uses too.
#[derive(Clone, Debug)]
pub struct RegionWords(pub RacyMem);

impl Words for RegionWords {
    #[inline]
    fn load(&self, index: usize) -> u64 {
        self.0.load64(index as u64 * 8).unwrap_or(0)
    }

    #[inline]
    fn store(&self, index: usize, value: u64) {
        if let Ok(word) = self.0.word64(index as u64 * 8) {
            word.store(value, Ordering::Relaxed);
        }
    }

    #[inline]
    fn prefetch(&self, index: usize) {
        self.0.prefetch(index as u64 * 8, 8);
    }

    fn len(&self) -> usize {
        (self.0.len() / 8) as usize
    }
}
