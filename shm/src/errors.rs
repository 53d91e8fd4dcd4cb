//! What can be wrong with an access to shared memory.

use thiserror::Error;

/// The range does not lie within the memory. Nothing was touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the range of {len} bytes at offset {offset} does not fit in a memory of {memory_len} bytes; \
     check the offset and length against the memory's length"
)]
pub struct OutOfBounds {
    /// Where the range was to begin, in bytes from the start of the memory.
    pub offset: u64,
    /// How long the range was to be, in bytes.
    pub len: u64,
    /// How long the memory is, in bytes.
    pub memory_len: u64,
}

/// A write was asked for through a handle that may only read. Nothing was touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the memory of {memory_len} bytes is mapped read-only and offset {offset} was to be written; \
     write through the owner's mapping"
)]
pub struct ReadOnly {
    /// Where the write was to begin, in bytes from the start of the memory.
    pub offset: u64,
    /// How long the memory is, in bytes.
    pub memory_len: u64,
}

/// Why bytes could not be written. Nothing was touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WriteError {
    /// The range does not lie within the memory: correct offset or length.
    #[error(transparent)]
    OutOfBounds(#[from] OutOfBounds),
    /// The handle may only read: use a mapping that may write.
    #[error(transparent)]
    ReadOnly(#[from] ReadOnly),
}

/// Why an atomic word could not be had in place. Nothing was touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WordError {
    /// The word does not lie within the memory: correct the offset.
    #[error(transparent)]
    OutOfBounds(#[from] OutOfBounds),
    /// The address is no multiple of the word's size: correct the offset.
    #[error(
        "the {width}-byte word at offset {offset} is misaligned: its address is {excess} bytes \
         past a multiple of {width}; choose an aligned offset"
    )]
    Misaligned {
        /// Where the word was to be, in bytes from the start of the memory.
        offset: u64,
        /// The word's size and alignment in bytes: 4 or 8.
        width: u64,
        /// Bytes by which the address is past the last multiple of `width`.
        excess: u64,
    },
    /// An atomic word can be changed and the handle may only read: use `load32` or `load64`.
    #[error(transparent)]
    ReadOnly(#[from] ReadOnly),
}
