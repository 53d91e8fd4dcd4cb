//! The two ends of a ring, without the entries.
//!
//! Indices count entries since the ring was made and wrap around at 2^32; an entry's place is its
//! index modulo the capacity, a power of two. Each end owns one index, keeps it privately, and
//! publishes it in a word that the other end reads. The other end may be hostile: what its word
//! says is believed only within the bounds that an honest end could not leave.
//!
//! Sleeping follows Dekker: the consumer raises its flag, fences and looks again; the producer
//! publishes, fences and looks at the flag. Whichever fence comes second sees the other's store.

use super::violation::{RingViolation, RingWord};

/// A shared 32-bit word as the cursors use it: an atomic in place, or loom's stand-in for one.
pub trait CursorWord {
    /// Reads without ordering.
    fn load_relaxed(&self) -> u32;
    /// Reads; what its writer did before its Release store is then visible.
    fn load_acquire(&self) -> u32;
    /// Writes without ordering.
    fn store_relaxed(&self, value: u32);
    /// Writes; whoever reads it with Acquire sees what was done before.
    fn store_release(&self, value: u32);
    /// A sequentially consistent fence.
    fn fence();
}

/// The three words of a ring. They may lie in different memories.
#[derive(Debug, Clone)]
pub struct RingWords<W> {
    /// Entries published since the ring was made, modulo 2^32. Written by the producer alone.
    pub produced: W,
    /// Entries given back since the ring was made, modulo 2^32. Written by the consumer alone.
    pub consumed: W,
    /// Not zero while the consumer sleeps. Raised by the consumer, lowered by either.
    pub sleeping: W,
}

/// The producer's end: says where the next entry goes and publishes what is there.
#[derive(Debug)]
pub struct ProducerCursor<W> {
    words: RingWords<W>,
    capacity: u32,
    /// The next entry's index.
    staged: u32,
    /// What the consumer has been told.
    published: u32,
    /// What the consumer last told.
    consumed: u32,
}

impl<W: CursorWord> ProducerCursor<W> {
    /// The producer's end of a ring with `capacity` entries (a power of two), standing at index
    /// `position`: 0 for a new ring.
    #[must_use]
    pub fn new(words: RingWords<W>, capacity: u32, position: u32) -> Self {
        assert!(capacity.is_power_of_two(), "a ring's capacity is a power of two");
        words.produced.store_release(position);
        // Until the consumer's word is read the ring counts as full, which is always safe.
        let consumed = position.wrapping_sub(capacity);
        Self { words, capacity, staged: position, published: position, consumed }
    }

    /// Entries that may be staged; the consumer's word is read only if fewer than `wanted` were
    /// known to be free.
    #[inline]
    pub fn free(&mut self, wanted: u32) -> Result<u32, RingViolation> {
        let known = self.known_free();
        if known >= wanted {
            return Ok(known);
        }
        self.refresh()?;
        Ok(self.known_free())
    }

    /// The index at which the next entry is to be written, or `None` while the ring is full. The
    /// place is the caller's until [`advance`](Self::advance).
    #[inline]
    pub fn next_index(&mut self) -> Result<Option<u32>, RingViolation> {
        if self.known_free() == 0 {
            self.refresh()?;
            if self.known_free() == 0 {
                return Ok(None);
            }
        }
        Ok(Some(self.staged))
    }

    /// Counts the entry that was written at [`next_index`](Self::next_index) as staged.
    #[inline]
    pub fn advance(&mut self) {
        debug_assert!(self.known_free() > 0, "an entry was staged in a full ring");
        self.staged = self.staged.wrapping_add(1);
    }

    /// Publishes what is staged. True: the consumer sleeps and must be woken; its flag is lowered,
    /// so that one sleep is answered by one wake-up.
    #[inline]
    pub fn publish(&mut self) -> bool {
        if self.staged == self.published {
            return false;
        }
        self.published = self.staged;
        self.words.produced.store_release(self.published);
        // Left out on purpose now and then, to see that the loom model misses it.
        if !cfg!(nic_break = "wake_fence") {
            W::fence();
        }
        if self.words.sleeping.load_relaxed() == 0 {
            return false;
        }
        // A plain store may also take a flag that the consumer raised just now for its next sleep;
        // the wake-up that follows ends that sleep as well, so none is lost. No dearer
        // read-modify-write is needed: in this race the consumer only looks once in vain.
        self.words.sleeping.store_relaxed(0);
        true
    }

    /// Entries staged and not yet published.
    #[inline]
    #[must_use]
    pub fn unpublished(&self) -> u32 {
        self.staged.wrapping_sub(self.published)
    }

    /// The index of the next entry to be published: what a successor goes on from.
    #[must_use]
    pub fn position(&self) -> u32 {
        self.published
    }

    /// Entries in the ring at most.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    #[inline(always)]
    fn known_free(&self) -> u32 {
        self.capacity - self.staged.wrapping_sub(self.consumed)
    }

    /// Reads the consumer's word. Honest values lie between the last one and what was published.
    #[inline]
    fn refresh(&mut self) -> Result<(), RingViolation> {
        let found = self.words.consumed.load_acquire();
        let unconsumed_max = self.published.wrapping_sub(self.consumed);
        if self.published.wrapping_sub(found) > unconsumed_max {
            return Err(self.violation(found));
        }
        self.consumed = found;
        Ok(())
    }

    #[cold]
    fn violation(&self, found: u32) -> RingViolation {
        RingViolation {
            word: RingWord::Consumed,
            found,
            least: self.consumed,
            most: self.published,
        }
    }
}

/// The consumer's end: says where the next entry lies and gives back what was taken.
#[derive(Debug)]
pub struct ConsumerCursor<W> {
    words: RingWords<W>,
    capacity: u32,
    /// The next entry's index.
    taken: u32,
    /// What the producer has been told.
    released: u32,
    /// What the producer last told.
    produced: u32,
}

impl<W: CursorWord> ConsumerCursor<W> {
    /// The consumer's end of a ring with `capacity` entries (a power of two), standing at index
    /// `position`: 0 for a new ring.
    #[must_use]
    pub fn new(words: RingWords<W>, capacity: u32, position: u32) -> Self {
        assert!(capacity.is_power_of_two(), "a ring's capacity is a power of two");
        words.consumed.store_release(position);
        Self { words, capacity, taken: position, released: position, produced: position }
    }

    /// Entries that may be taken; the producer's word is read only if none was known.
    #[inline]
    pub fn available(&mut self) -> Result<u32, RingViolation> {
        if self.produced == self.taken {
            self.refresh()?;
        }
        Ok(self.produced.wrapping_sub(self.taken))
    }

    /// The index of the next entry to be read, or `None` while the ring is empty.
    #[inline]
    pub fn next_index(&mut self) -> Result<Option<u32>, RingViolation> {
        if self.available()? == 0 {
            return Ok(None);
        }
        Ok(Some(self.taken))
    }

    /// Counts the entry that was read at [`next_index`](Self::next_index) as taken.
    #[inline]
    pub fn advance(&mut self) {
        debug_assert!(self.produced != self.taken, "an entry was taken from an empty ring");
        self.taken = self.taken.wrapping_add(1);
    }

    /// Gives the places of all taken entries back to the producer: once per batch.
    #[inline]
    pub fn release(&mut self) {
        if self.released != self.taken {
            self.released = self.taken;
            self.words.consumed.store_release(self.released);
        }
    }

    /// Raises the flag that asks for a wake-up and looks once more. True: nothing is there and the
    /// caller may sleep; the next entry published brings a wake-up. False: do not sleep, there is
    /// something to take (or to complain about). Taken places are given back first.
    #[inline]
    pub fn prepare_sleep(&mut self) -> bool {
        self.release();
        if self.produced != self.taken {
            return false;
        }
        self.words.sleeping.store_relaxed(1);
        W::fence();
        if self.words.produced.load_relaxed() == self.taken {
            return true;
        }
        self.awake();
        false
    }

    /// Lowers the flag: to be called after a sleep, whatever ended it.
    #[inline]
    pub fn awake(&mut self) {
        self.words.sleeping.store_relaxed(0);
    }

    /// The index of the first entry not given back: what a successor goes on from.
    #[must_use]
    pub fn position(&self) -> u32 {
        self.released
    }

    /// Entries in the ring at most.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Reads the producer's word. Honest values lie between the last one and a full ring.
    #[inline]
    fn refresh(&mut self) -> Result<(), RingViolation> {
        let found = self.words.produced.load_acquire();
        let known = self.produced.wrapping_sub(self.released);
        let claimed = found.wrapping_sub(self.released);
        if claimed < known || claimed > self.capacity {
            return Err(self.violation(found));
        }
        self.produced = found;
        Ok(())
    }

    #[cold]
    fn violation(&self, found: u32) -> RingViolation {
        RingViolation {
            word: RingWord::Produced,
            found,
            least: self.produced,
            most: self.released.wrapping_add(self.capacity),
        }
    }
}
