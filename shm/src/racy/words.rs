//! Atomic words in place.

use super::RacyMem;
use crate::errors::{WordError, WriteError};
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

impl RacyMem {
    /// The aligned 8-byte word at `offset`, to be used in place. The CPU's own byte order.
    #[inline]
    pub fn word64(&self, offset: u64) -> Result<&AtomicU64, WordError> {
        let address = self.word_address(offset, 8)?;
        // SAFETY: in bounds, aligned and writable; handles keep it mapped as long as `self` is
        // borrowed; everyone else uses atomics, or copies that tolerate them.
        Ok(unsafe { &*address.cast::<AtomicU64>() })
    }

    /// The aligned 4-byte word at `offset`, to be used in place. The CPU's own byte order.
    #[inline]
    pub fn word32(&self, offset: u64) -> Result<&AtomicU32, WordError> {
        let address = self.word_address(offset, 4)?;
        // SAFETY: as in `word64`.
        Ok(unsafe { &*address.cast::<AtomicU32>() })
    }

    /// Reads the aligned 8-byte word at `offset` with Acquire; allowed on read-only memory too.
    #[inline]
    pub fn load64(&self, offset: u64) -> Result<u64, WordError> {
        let address = self.readable(offset, 8)?;
        self.check_aligned(address, offset, 8)?;
        // A relaxed load and a fence: that is the one form of atomic load which the language
        // promises to be a plain load, so that it may read read-only pages.
        // SAFETY: in bounds and aligned; a relaxed load writes nothing.
        let value = unsafe { (*address.cast::<AtomicU64>()).load(Ordering::Relaxed) };
        fence(Ordering::Acquire);
        Ok(value)
    }

    /// Reads the aligned 4-byte word at `offset` with Acquire; allowed on read-only memory too.
    #[inline]
    pub fn load32(&self, offset: u64) -> Result<u32, WordError> {
        let address = self.readable(offset, 4)?;
        self.check_aligned(address, offset, 4)?;
        // SAFETY: as in `load64`.
        let value = unsafe { (*address.cast::<AtomicU32>()).load(Ordering::Relaxed) };
        fence(Ordering::Acquire);
        Ok(value)
    }

    #[inline(always)]
    fn word_address(&self, offset: u64, width: u64) -> Result<*mut u8, WordError> {
        let address = self.writable(offset, width).map_err(|error| match error {
            WriteError::OutOfBounds(found) => WordError::OutOfBounds(found),
            WriteError::ReadOnly(found) => WordError::ReadOnly(found),
        })?;
        self.check_aligned(address, offset, width)?;
        Ok(address)
    }

    /// It is the address that must be aligned: a slice may begin anywhere.
    #[inline(always)]
    fn check_aligned(&self, address: *mut u8, offset: u64, width: u64) -> Result<(), WordError> {
        let excess = address.addr() as u64 & (width - 1);
        if excess != 0 {
            return Err(WordError::Misaligned { offset, width, excess });
        }
        Ok(())
    }
}

/// One 4-byte atomic word of a shared memory, which it keeps mapped. Use it as an [`AtomicU32`].
#[derive(Debug, Clone)]
pub struct Word32 {
    word: NonNull<AtomicU32>,
    memory: RacyMem,
}

// SAFETY: the word is an atomic in memory that `memory` keeps mapped.
unsafe impl Send for Word32 {}
// SAFETY: as above.
unsafe impl Sync for Word32 {}

impl Word32 {
    /// The aligned word at `offset` of `memory`.
    pub fn new(memory: &RacyMem, offset: u64) -> Result<Self, WordError> {
        let word = NonNull::from(memory.word32(offset)?);
        Ok(Self { word, memory: memory.clone() })
    }

    /// The memory that the word lies in.
    #[must_use]
    pub fn memory(&self) -> &RacyMem {
        &self.memory
    }
}

impl Deref for Word32 {
    type Target = AtomicU32;

    #[inline(always)]
    fn deref(&self) -> &AtomicU32 {
        // SAFETY: checked when the handle was made; `memory` keeps it mapped.
        unsafe { self.word.as_ref() }
    }
}
