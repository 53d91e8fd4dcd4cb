//! Where the parts of a ring lie when they share one memory.

use super::cursor::RingWords;
use super::violation::RingError;
use crate::racy::{CACHE_LINE_BYTES, RacyMem, Word32};

/// Offset of the producer's word; each word has a cache line of its own.
const PRODUCED_AT: u64 = 0;
/// Offset of the consumer's word.
const CONSUMED_AT: u64 = CACHE_LINE_BYTES;
/// Offset of the sleeping word.
const SLEEPING_AT: u64 = 2 * CACHE_LINE_BYTES;
/// Offset of the first entry.
const ENTRIES_AT: u64 = 3 * CACHE_LINE_BYTES;

/// The usual layout of a ring in one memory: three words, a cache line each, then the entries.
///
/// All methods take the ring's own memory (a slice that begins where the ring begins, at a multiple
/// of 64 bytes, so that words and entries do not share lines with neighbours).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingLayout {
    capacity: u32,
    entry_size: u32,
}

impl RingLayout {
    /// A ring of `capacity` entries (a power of two up to 2^31) of `entry_size` bytes (a multiple
    /// of 8).
    pub const fn new(capacity: u32, entry_size: u32) -> Result<Self, RingError> {
        if !capacity.is_power_of_two() {
            return Err(RingError::Capacity { found: capacity });
        }
        if entry_size == 0 || !entry_size.is_multiple_of(8) {
            return Err(RingError::EntrySize { found: entry_size });
        }
        Ok(Self { capacity, entry_size })
    }

    /// Bytes that the ring takes, a multiple of 64.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        (ENTRIES_AT + self.entries_len()).next_multiple_of(CACHE_LINE_BYTES)
    }

    /// Entries in the ring at most.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Bytes of an entry.
    #[must_use]
    pub const fn entry_size(&self) -> u32 {
        self.entry_size
    }

    /// The ring's words.
    pub fn words(&self, memory: &RacyMem) -> Result<RingWords<Word32>, RingError> {
        self.check(memory)?;
        Ok(RingWords {
            produced: Word32::new(memory, PRODUCED_AT)?,
            consumed: Word32::new(memory, CONSUMED_AT)?,
            sleeping: Word32::new(memory, SLEEPING_AT)?,
        })
    }

    /// The memory of the ring's entries.
    pub fn entries(&self, memory: &RacyMem) -> Result<RacyMem, RingError> {
        self.check(memory)?;
        memory.slice(ENTRIES_AT, self.entries_len()).map_err(|found| RingError::MemoryLength {
            found: found.memory_len,
            expected: self.bytes(),
        })
    }

    const fn entries_len(&self) -> u64 {
        self.capacity as u64 * self.entry_size as u64
    }

    fn check(&self, memory: &RacyMem) -> Result<(), RingError> {
        if memory.len() < self.bytes() {
            return Err(RingError::MemoryLength { found: memory.len(), expected: self.bytes() });
        }
        Ok(())
    }
}
