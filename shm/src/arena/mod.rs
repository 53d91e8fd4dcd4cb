//! The application's allocator over a session's arena.
//!
//! [`Arena`] hands out blocks; [`LeaseArena`] wraps one so that each block is a [`Lease`] that
//! gives itself back. Both are for one thread: a session belongs to one.

mod buddy;
mod kept;
mod lease;

pub use lease::{CompletedLease, Lease, LeaseArena};

use crate::racy::{Permission, RacyMem};
use buddy::Buddy;
use kept::Kept;
use thiserror::Error;

/// The sizes of blocks: all powers of two from the least to the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSizes {
    /// The least block in bytes, a power of two.
    pub least: u32,
    /// The greatest block in bytes, a power of two, not below `least`.
    pub greatest: u32,
}

impl Default for BlockSizes {
    /// 256 B to 1 MiB: the largest value or op is 1 MiB.
    fn default() -> Self {
        Self { least: 256, greatest: 1 << 20 }
    }
}

/// Why there can be no arena over a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ArenaError {
    /// The block sizes make no sense: choose powers of two, the least first.
    #[error(
        "block sizes from {} to {} bytes; expected powers of two, least first",
        .0.least, .0.greatest
    )]
    Sizes(BlockSizes),
    /// The memory does not hold a single block: make it larger.
    #[error("an arena of {found} bytes holds no block; expected at least {expected}")]
    TooSmall {
        /// The memory's length in bytes.
        found: u64,
        /// The least block in bytes.
        expected: u64,
    },
    /// Offsets are 32-bit: an arena has at most 4 GiB.
    #[error("an arena of {found} bytes is beyond 32-bit offsets; expected at most {expected}")]
    TooLarge {
        /// The memory's length in bytes.
        found: u64,
        /// 4 GiB.
        expected: u64,
    },
    /// Leases are written: use a mapping that may write.
    #[error("the arena is mapped read-only and leases are written")]
    ReadOnly,
}

/// A piece of an arena. It must be given back with [`Arena::free`]; dropping it leaks the piece
/// until the arena itself is dropped.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a dropped block leaks its piece of the arena"]
pub struct Block {
    offset: u32,
    len: u32,
}

impl Block {
    /// Where it begins, in bytes from the start of the arena: a multiple of its length.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// Its length in bytes: the least class that held what was asked for.
    #[inline]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a block is never empty")]
    pub fn len(&self) -> u32 {
        self.len
    }
}

/// Hands out blocks of one memory. Allocating and freeing take a bounded number of steps and never
/// allocate; all bookkeeping is private, so a hostile peer cannot spoil it.
#[derive(Debug)]
pub struct Arena {
    memory: RacyMem,
    buddy: Buddy,
    /// Blocks given back that have not been joined with their neighbours yet.
    kept: Kept,
    /// log2 of the least block's bytes.
    least_log2: u32,
    greatest: u32,
}

impl Arena {
    /// An arena over all of `memory`, at most 4 GiB; what is left behind the last whole block of
    /// the least size is not used.
    pub fn new(memory: RacyMem, sizes: BlockSizes) -> Result<Self, ArenaError> {
        let BlockSizes { least, greatest } = sizes;
        if !least.is_power_of_two() || !greatest.is_power_of_two() || greatest < least {
            return Err(ArenaError::Sizes(sizes));
        }
        let found = memory.len();
        if found < u64::from(least) {
            return Err(ArenaError::TooSmall { found, expected: u64::from(least) });
        }
        let most = 1 << 32;
        if found > most || found / u64::from(least) >= u64::from(u32::MAX) {
            return Err(ArenaError::TooLarge { found, expected: most });
        }
        if memory.permission() != Permission::ReadWrite {
            return Err(ArenaError::ReadOnly);
        }
        let least_log2 = least.ilog2();
        let classes = (greatest.ilog2() - least_log2 + 1) as u8;
        let units = (found >> least_log2) as u32;
        let (buddy, kept) = (Buddy::new(units, classes), Kept::new(classes));
        Ok(Self { memory, buddy, kept, least_log2, greatest })
    }

    /// A block of at least `len` bytes, or `None` if none is free or `len` exceeds the greatest
    /// block. The bytes are whatever was there before.
    #[inline]
    pub fn allocate(&mut self, len: u32) -> Option<Block> {
        if len > self.greatest {
            return None;
        }
        let len = len.max(1 << self.least_log2).next_power_of_two();
        let class = (len.ilog2() - self.least_log2) as u8;
        let first = match self.kept.take(class) {
            Some(first) => first,
            None => self.allocate_anew(class)?,
        };
        Some(Block { offset: first << self.least_log2, len })
    }

    /// A block that was not kept. What is kept is joined only when nothing else is left.
    fn allocate_anew(&mut self, class: u8) -> Option<u32> {
        if let Some(first) = self.buddy.allocate(class) {
            return Some(first);
        }
        while let Some((first, class)) = self.kept.take_any() {
            self.buddy.free(first, class);
        }
        self.buddy.allocate(class)
    }

    /// Takes a block back.
    ///
    /// # Panics
    /// If the block came from another arena and none like it is handed out here.
    #[inline]
    pub fn free(&mut self, block: Block) {
        let class = (block.len.ilog2() - self.least_log2) as u8;
        let first = block.offset >> self.least_log2;
        assert!(
            self.buddy.is_held(first, class),
            "a block was freed that this arena did not hand out"
        );
        if !self.kept.keep(first, class) {
            self.buddy.free(first, class);
        }
    }

    /// Bytes that nobody holds; they need not be in one piece.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        u64::from(self.buddy.free_units() + self.kept.units()) << self.least_log2
    }

    /// The greatest block in bytes.
    #[must_use]
    pub fn block_len_max(&self) -> u32 {
        self.greatest
    }

    /// The memory that blocks are pieces of.
    #[must_use]
    pub fn memory(&self) -> &RacyMem {
        &self.memory
    }
}

#[cfg(test)]
mod tests;
