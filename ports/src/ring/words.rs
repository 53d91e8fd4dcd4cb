//! The words of the two rings, each in the memory of the side that writes it.
//!
//! The cursors are those of `nic_shm`; what is special here is that no word can be written by
//! both sides. So a producer cannot lower its consumer's sleeping flag to have it answered once.
//! Instead the flag holds the number of the sleep, and the producer remembers which it answered.

use std::cell::Cell;
use std::sync::atomic::{Ordering, fence};

use nic_shm::{CursorWord, RacyMem, RingWords, Word32};

use super::RingError;
use super::layout::{CONSUMED_AT, PRODUCED_AT, SLEEPING_AT};

/// A word of one side's memory as the two cursors use it.
#[derive(Debug)]
pub(super) enum SideWord {
    /// Our own count.
    Own(Word32),
    /// Our own sleeping word: zero, or the number of this sleep.
    OwnSleep { word: Word32, sleeps: Cell<u32> },
    /// The peer's count, in memory that we can only read.
    Peer { memory: RacyMem, offset: u64 },
    /// The peer's sleeping word, the sleep that was seen in it last, and the one answered last.
    PeerSleep { memory: RacyMem, seen: Cell<u32>, answered: Cell<u32> },
}

/// The words for the ring in which we send: our count, the peer's answers.
pub(super) fn sending(own: &RacyMem, peer: &RacyMem) -> Result<RingWords<SideWord>, RingError> {
    Ok(RingWords {
        produced: SideWord::Own(Word32::new(own, PRODUCED_AT)?),
        consumed: peer_word(peer, CONSUMED_AT)?,
        sleeping: SideWord::PeerSleep {
            memory: peer.clone(),
            seen: Cell::new(0),
            answered: Cell::new(0),
        },
    })
}

/// The words for the ring in which we receive: the peer's count, our answers.
pub(super) fn receiving(own: &RacyMem, peer: &RacyMem) -> Result<RingWords<SideWord>, RingError> {
    Ok(RingWords {
        produced: peer_word(peer, PRODUCED_AT)?,
        consumed: SideWord::Own(Word32::new(own, CONSUMED_AT)?),
        sleeping: SideWord::OwnSleep { word: Word32::new(own, SLEEPING_AT)?, sleeps: Cell::new(0) },
    })
}

/// A count in the peer's memory, seen once to be readable, so that later reads cannot fail.
fn peer_word(memory: &RacyMem, offset: u64) -> Result<SideWord, RingError> {
    memory.load32(offset)?;
    Ok(SideWord::Peer { memory: memory.clone(), offset })
}

/// Reads a word that was readable when the port was made.
#[inline(always)]
fn load(memory: &RacyMem, offset: u64) -> u32 {
    memory.load32(offset).expect("the header, and so its words, lie within the memory")
}

impl CursorWord for SideWord {
    #[inline(always)]
    fn load_relaxed(&self) -> u32 {
        match self {
            SideWord::Own(word) | SideWord::OwnSleep { word, .. } => word.load(Ordering::Relaxed),
            SideWord::Peer { memory, offset } => load(memory, *offset),
            SideWord::PeerSleep { memory, seen, answered } => {
                seen.set(load(memory, SLEEPING_AT));
                if seen.get() == answered.get() { 0 } else { seen.get() }
            }
        }
    }

    #[inline(always)]
    fn load_acquire(&self) -> u32 {
        match self {
            SideWord::Own(word) | SideWord::OwnSleep { word, .. } => word.load(Ordering::Acquire),
            // Loads from the peer's memory all acquire.
            SideWord::Peer { .. } | SideWord::PeerSleep { .. } => self.load_relaxed(),
        }
    }

    #[inline(always)]
    fn store_relaxed(&self, value: u32) {
        match self {
            SideWord::Own(word) => word.store(value, Ordering::Relaxed),
            SideWord::OwnSleep { word, sleeps } => {
                if value != 0 {
                    sleeps.set(sleeps.get().wrapping_add(1).max(1));
                }
                let sleep = if value != 0 { sleeps.get() } else { 0 };
                word.store(sleep, Ordering::Relaxed);
            }
            // The producer lowers the flag: here, it takes note that this sleep is answered.
            SideWord::PeerSleep { seen, answered, .. } => answered.set(seen.get()),
            SideWord::Peer { .. } => not_ours(),
        }
    }

    #[inline(always)]
    fn store_release(&self, value: u32) {
        match self {
            SideWord::Own(word) => word.store(value, Ordering::Release),
            _ => not_ours(),
        }
    }

    #[inline(always)]
    fn fence() {
        fence(Ordering::SeqCst);
    }
}

/// The cursors write only words of their own side; which those are is settled above.
#[cold]
fn not_ours() {
    debug_assert!(false, "a cursor wrote the word of the other side");
}

#[cfg(test)]
mod tests {
    use super::*;
    use nic_shm::{ConsumerCursor, ProducerCursor};

    #[test]
    fn each_sleep_is_answered_once() {
        let (left, right) = (RacyMem::allocate(128), RacyMem::allocate(128));
        let words = sending(&left, &right.to_read_only()).unwrap();
        let mut producer = ProducerCursor::new(words, 8, 0);
        let words = receiving(&right, &left.to_read_only()).unwrap();
        let mut consumer = ConsumerCursor::new(words, 8, 0);
        let mut send = || {
            producer.next_index().unwrap().unwrap();
            producer.advance();
            producer.publish()
        };

        assert!(!send(), "nobody sleeps");
        assert!(!consumer.prepare_sleep(), "there is something to take");
        for round in 0..3 {
            while consumer.next_index().unwrap().is_some() {
                consumer.advance();
            }
            assert!(consumer.prepare_sleep(), "round {round}");
            assert!(send(), "round {round}: the first wakes");
            assert!(!send(), "round {round}: the second does not");
            consumer.awake();
            assert!(!send(), "round {round}: nobody sleeps");
        }
    }
}
