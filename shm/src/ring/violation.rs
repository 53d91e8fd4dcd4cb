//! What a peer or a caller can do wrong with a ring.

use crate::errors::WordError;
use thiserror::Error;

/// The word through which one end tells the other how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingWord {
    /// The producer's word.
    Produced,
    /// The consumer's word.
    Consumed,
}

/// The peer's word holds an index that no honest peer writes. The ring must not be used any more:
/// close the session that it belongs to. The own end has not moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the peer's {word:?} index is {found}, expected {least} to {most} (modulo 2^32); the peer is \
     faulty or hostile: close the ring"
)]
pub struct RingViolation {
    /// Whose word it is.
    pub word: RingWord,
    /// What it holds.
    pub found: u32,
    /// The least index that is possible, modulo 2^32: the last one seen.
    pub least: u32,
    /// The greatest index that is possible, modulo 2^32.
    pub most: u32,
}

/// Why a ring cannot be laid out or attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RingError {
    /// The capacity must be a power of two: round it up.
    #[error("a ring of {found} entries was asked for; expected a power of two up to 2^31")]
    Capacity {
        /// The capacity asked for, in entries.
        found: u32,
    },
    /// The entry size must be a multiple of 8: pad the entry.
    #[error("ring entries of {found} bytes were asked for; expected a multiple of 8, at least 8")]
    EntrySize {
        /// The size asked for, in bytes.
        found: u32,
    },
    /// The memory for the entries has the wrong size: pass exactly the entries' range.
    #[error("the ring's entries have {found} bytes; expected {expected}")]
    EntriesLength {
        /// The memory's length in bytes.
        found: u64,
        /// Capacity times entry size.
        expected: u64,
    },
    /// The entries' address must be a multiple of 8: choose an aligned offset.
    #[error("the ring's entries lie {excess} bytes past a multiple of 8; align them")]
    EntriesMisaligned {
        /// Bytes past the last multiple of 8.
        excess: u64,
    },
    /// A producer needs to write the entries: use a mapping that may write.
    #[error("the ring's entries are mapped read-only and the producer writes them")]
    EntriesReadOnly,
    /// One of the ring's words cannot be had: see the cause.
    #[error("a word of the ring is not usable: {0}")]
    Word(#[from] WordError),
    /// The memory is too short for the layout: map all of it.
    #[error("the ring's memory has {found} bytes; its layout needs {expected}")]
    MemoryLength {
        /// The memory's length in bytes.
        found: u64,
        /// What the layout needs, in bytes.
        expected: u64,
    },
}
