//! An engine's counters where others can read them: plain words in a shared mapping.

use std::sync::atomic::Ordering;

use nic_shm::RacyMem;

use crate::engine::Counters;

/// One engine's part of the page.
#[derive(Clone, Debug)]
pub struct CountersPage {
    memory: RacyMem,
}

impl CountersPage {
    /// Length of one engine's part in bytes.
    pub const BYTES: u64 = (Counters::COUNT as u64 * 8).next_multiple_of(64);

    /// The part at the start of `memory`, which has at least [`CountersPage::BYTES`].
    pub fn new(memory: RacyMem) -> Self {
        CountersPage { memory }
    }

    /// Writes all counters.
    pub fn publish(&self, counters: &Counters) {
        for (index, value) in counters.values().into_iter().enumerate() {
            if let Ok(word) = self.memory.word64(index as u64 * 8) {
                word.store(value, Ordering::Relaxed);
            }
        }
    }

    /// Reads all counters; each is exact, together they may be of neighbouring turns.
    pub fn read(&self) -> Counters {
        let mut values = [0; Counters::COUNT];
        for (index, value) in values.iter_mut().enumerate() {
            *value = self.memory.load64(index as u64 * 8).unwrap_or(0);
        }
        Counters::from_values(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read() {
        let page = CountersPage::new(RacyMem::allocate(CountersPage::BYTES));
        let counters = Counters { turns: 7, ops_in: 9, ..Counters::default() };
        page.publish(&counters);
        assert_eq!(page.read(), counters);
    }
}
