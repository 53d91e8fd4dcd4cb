//! The end of a ring that reads entries.

use super::cursor::{ConsumerCursor, RingWords};
use super::slots::Slots;
use super::violation::{RingError, RingViolation};
use crate::racy::{RacyMem, Word32};

/// The end of a ring that reads entries of `N` bytes (a multiple of 8). One per ring.
#[derive(Debug)]
pub struct Consumer<const N: usize> {
    cursor: ConsumerCursor<Word32>,
    slots: Slots<N>,
}

impl<const N: usize> Consumer<N> {
    /// The consumer of a new ring: its words are zero. The length of `entries` says the capacity.
    pub fn new(words: RingWords<Word32>, entries: &RacyMem) -> Result<Self, RingError> {
        Self::resume(words, entries, 0)
    }

    /// The consumer of a ring whose former consumer stood at `position`.
    pub fn resume(
        words: RingWords<Word32>,
        entries: &RacyMem,
        position: u32,
    ) -> Result<Self, RingError> {
        let slots = Slots::new(entries)?;
        Ok(Self { cursor: ConsumerCursor::new(words, slots.capacity(), position), slots })
    }

    /// Entries that can be taken now: at least one unless the ring is empty. The producer's word is
    /// read only if none was known, so there may be more than this.
    #[inline]
    pub fn available(&mut self) -> Result<u32, RingViolation> {
        self.cursor.available()
    }

    /// Copies the next entry out, once: what is judged is the copy. False: the ring is empty.
    #[inline]
    pub fn take(&mut self, into: &mut [u8; N]) -> Result<bool, RingViolation> {
        let Some(index) = self.cursor.next_index()? else { return Ok(false) };
        self.slots.read(index, into);
        self.cursor.advance();
        Ok(true)
    }

    /// Gives the places of all taken entries back to the producer: once per batch.
    #[inline]
    pub fn release(&mut self) {
        self.cursor.release();
    }

    /// Asks to be woken and looks once more. True: the caller may sleep on its doorbell. False:
    /// there is something to take. Taken places are given back first.
    #[inline]
    #[must_use = "sleeping although entries are there would be for ever"]
    pub fn prepare_sleep(&mut self) -> bool {
        self.cursor.prepare_sleep()
    }

    /// Asks for no more wake-ups: after a sleep, whatever ended it.
    #[inline]
    pub fn awake(&mut self) {
        self.cursor.awake();
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
