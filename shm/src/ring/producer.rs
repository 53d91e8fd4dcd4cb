//! The end of a ring that writes entries.

use super::cursor::{ProducerCursor, RingWords};
use super::slots::Slots;
use super::violation::{RingError, RingViolation};
use crate::racy::{RacyMem, Word32};

/// The end of a ring that writes entries of `N` bytes (a multiple of 8). One per ring.
#[derive(Debug)]
pub struct Producer<const N: usize> {
    cursor: ProducerCursor<Word32>,
    slots: Slots<N>,
}

impl<const N: usize> Producer<N> {
    /// The producer of a new ring: its words are zero. The length of `entries` says the capacity.
    pub fn new(words: RingWords<Word32>, entries: &RacyMem) -> Result<Self, RingError> {
        Self::resume(words, entries, 0)
    }

    /// The producer of a ring whose former producer stood at `position`.
    pub fn resume(
        words: RingWords<Word32>,
        entries: &RacyMem,
        position: u32,
    ) -> Result<Self, RingError> {
        let slots = Slots::new_writable(entries)?;
        Ok(Self { cursor: ProducerCursor::new(words, slots.capacity(), position), slots })
    }

    /// Entries that can be staged now: at least one unless the ring is full. The consumer's word is
    /// read only if none was known to be free, so there may be more than this.
    #[inline]
    pub fn free(&mut self) -> Result<u32, RingViolation> {
        self.cursor.free(1)
    }

    /// Like [`free`](Self::free), but looks again if fewer than `wanted` were known to be free.
    #[inline]
    pub fn free_for(&mut self, wanted: u32) -> Result<u32, RingViolation> {
        self.cursor.free(wanted)
    }

    /// Copies an entry into the ring; the consumer sees it after [`publish`](Self::publish).
    /// False: the ring is full and nothing was done.
    #[inline]
    pub fn stage(&mut self, entry: &[u8; N]) -> Result<bool, RingViolation> {
        let Some(index) = self.cursor.next_index()? else { return Ok(false) };
        self.slots.write(index, entry);
        self.cursor.advance();
        Ok(true)
    }

    /// Shows the consumer all staged entries: once per batch. True: the consumer sleeps and the
    /// caller must ring its doorbell; the flag is taken, so that one sleep is woken once.
    #[inline]
    #[must_use = "a sleeping consumer must be woken"]
    pub fn publish(&mut self) -> bool {
        self.cursor.publish()
    }

    /// Entries staged and not yet published.
    #[inline]
    #[must_use]
    pub fn unpublished(&self) -> u32 {
        self.cursor.unpublished()
    }

    /// The index that a successor resumes at.
    #[must_use]
    pub fn position(&self) -> u32 {
        self.cursor.position()
    }

    /// Entries in the ring at most.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.cursor.capacity()
    }
}
