//! The places of a ring's entries.

use super::violation::RingError;
use crate::racy::{Permission, RacyMem, copy_in};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

/// The places for entries of `N` bytes, which it keeps mapped.
#[derive(Debug)]
pub(super) struct Slots<const N: usize> {
    base: NonNull<u8>,
    /// Capacity less one, the capacity being a power of two.
    mask: u32,
    _memory: RacyMem,
}

// SAFETY: `base` is only an address within the memory that the handle keeps mapped, and the handle
// is Send.
unsafe impl<const N: usize> Send for Slots<N> {}

impl<const N: usize> Slots<N> {
    /// Places in `entries`, whose length is a power of two times `N`.
    pub(super) fn new(entries: &RacyMem) -> Result<Self, RingError> {
        const { assert!(N > 0 && N.is_multiple_of(8), "an entry's size is a multiple of 8") };
        let capacity = u32::try_from(entries.len() / N as u64).unwrap_or(u32::MAX);
        if !capacity.is_power_of_two() {
            return Err(RingError::Capacity { found: capacity });
        }
        let expected = u64::from(capacity) * N as u64;
        if entries.len() != expected {
            return Err(RingError::EntriesLength { found: entries.len(), expected });
        }
        let excess = entries.as_ptr().addr() as u64 % 8;
        if excess != 0 {
            return Err(RingError::EntriesMisaligned { excess });
        }
        let base = NonNull::new(entries.as_ptr()).expect("a handle's address is not null");
        Ok(Self { base, mask: capacity - 1, _memory: entries.clone() })
    }

    /// The same, for the end that writes.
    pub(super) fn new_writable(entries: &RacyMem) -> Result<Self, RingError> {
        if entries.permission() != Permission::ReadWrite {
            return Err(RingError::EntriesReadOnly);
        }
        Self::new(entries)
    }

    /// Entries at most.
    pub(super) fn capacity(&self) -> u32 {
        self.mask + 1
    }

    /// Copies the entry with this index out, once.
    #[inline(always)]
    pub(super) fn read(&self, index: u32, into: &mut [u8; N]) {
        // SAFETY: masked, the index is below the capacity, so the place lies within the entries,
        // which are kept mapped; `into` is borrowed exclusively.
        unsafe { copy_in(self.place(index), into.as_mut_ptr(), N) }
    }

    /// Copies the entry with this index in. Only for slots made by `new_writable`.
    #[inline(always)]
    pub(super) fn write(&self, index: u32, from: &[u8; N]) {
        let place = self.place(index).cast::<u64>();
        for (number, word) in from.as_chunks::<8>().0.iter().enumerate() {
            // SAFETY: as in `read`; the producer's constructor saw that the entries may be written
            // and begin at a multiple of 8, as does each of them. Others use atomics, too, or
            // copies that the compiler knows nothing of.
            let at = unsafe { AtomicU64::from_ptr(place.add(number)) };
            // Words rather than wider moves: an entry that was just put together from its fields
            // goes from registers into the ring, while a wide load of its bytes would have to wait
            // for each narrow store before it.
            at.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
    }

    /// Where the entry with this index lies.
    #[inline(always)]
    fn place(&self, index: u32) -> *mut u8 {
        // SAFETY: masked, the index is below the capacity, so the place lies within the entries.
        unsafe { self.base.as_ptr().add((index & self.mask) as usize * N) }
    }
}
