//! The list of free buffers from which ALLOCATE takes.
//!
//! ```text
//! 0   head u64: how many were ever taken
//! 8   tail u64: how many were ever posted
//! 16  capacity u64, a power of two
//! 24  zero
//! 64  pointers u64, a ring: the n-th posted stands at n modulo capacity
//! ```
//!
//! Takers compete for the head by compare-and-swap; it only grows, so none ever takes what another
//! took. Only the owner posts.

use core::sync::atomic::{AtomicU64, Ordering};

use nic_shm::{Permission, RacyMem};

use super::layout::{pack, unpack};
use crate::kernel::Pointer;

/// Where the capacity is.
pub(super) const CAPACITY_OFFSET: u64 = 16;
/// Where the pointers begin.
pub(super) const RING_OFFSET: u64 = 64;

/// The owner's side of a list of free buffers.
///
/// ```
/// use nic_kernels::Pointer;
/// use nic_kernels::prism::FreeList;
/// use nic_shm::RacyMem;
///
/// let region = RacyMem::allocate(4096);
/// let mut list = FreeList::format(region, 0, 16)?;
/// list.post(Pointer { region: 0, address: 1024 })?;
/// assert_eq!(list.len(), 1);
/// # Ok::<(), nic_kernels::prism::ListError>(())
/// ```
#[derive(Debug)]
pub struct FreeList {
    memory: RacyMem,
    offset: u64,
    capacity: u64,
}

/// What is wrong with a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The capacity is no power of two.
    #[error("a list of {found} pointers; its capacity must be a power of two")]
    Capacity {
        /// What it was to be.
        found: u64,
    },
    /// The list has no place where it was to be: it must lie in writable memory, at a multiple of 8.
    #[error("no list of {needed} bytes can be at offset {offset} of a region of {found} bytes")]
    Place {
        /// Where it was to be.
        offset: u64,
        /// Its length in bytes.
        needed: u64,
        /// The region's.
        found: u64,
    },
    /// As many buffers are free as it has room for.
    #[error("the list is full")]
    Full,
}

impl FreeList {
    /// Length of a list of such a capacity, in bytes.
    pub const fn bytes(capacity: u64) -> u64 {
        capacity.saturating_mul(8).saturating_add(RING_OFFSET)
    }

    /// Lays an empty list out at an offset of a memory.
    ///
    /// # Errors
    /// [`ListError::Capacity`], [`ListError::Place`].
    pub fn format(memory: RacyMem, offset: u64, capacity: u64) -> Result<Self, ListError> {
        if !capacity.is_power_of_two() {
            return Err(ListError::Capacity { found: capacity });
        }
        let (needed, found) = (Self::bytes(capacity), memory.len());
        let is_aligned = memory.as_ptr().addr().is_multiple_of(8) && offset.is_multiple_of(8);
        let is_within = offset.checked_add(needed).is_some_and(|end| end <= found);
        if !is_aligned || !is_within || memory.permission() == Permission::ReadOnly {
            return Err(ListError::Place { offset, needed, found });
        }
        let list = FreeList { memory, offset, capacity };
        list.word(0).store(0, Ordering::Relaxed);
        list.word(8).store(0, Ordering::Relaxed);
        list.word(CAPACITY_OFFSET).store(capacity, Ordering::Release);
        Ok(list)
    }

    /// Adds a free buffer.
    ///
    /// # Errors
    /// [`ListError::Full`].
    pub fn post(&mut self, buffer: Pointer) -> Result<(), ListError> {
        if self.len() == self.capacity {
            return Err(ListError::Full);
        }
        let tail = self.word(8).load(Ordering::Relaxed);
        let place = RING_OFFSET + (tail & (self.capacity - 1)) * 8;
        self.word(place).store(pack(buffer), Ordering::Relaxed);
        self.word(8).store(tail.wrapping_add(1), Ordering::Release);
        Ok(())
    }

    /// Takes a buffer, as remote takers do.
    pub fn take(&self) -> Option<Pointer> {
        loop {
            let head = self.word(0).load(Ordering::Acquire);
            if head == self.word(8).load(Ordering::Acquire) {
                return None;
            }
            let place = RING_OFFSET + (head & (self.capacity - 1)) * 8;
            let buffer = self.word(place).load(Ordering::Relaxed);
            let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
            let next = head.wrapping_add(1);
            if self.word(0).compare_exchange(head, next, success, failure).is_ok() {
                return Some(unpack(buffer));
            }
        }
    }

    /// How many buffers are free.
    pub fn len(&self) -> u64 {
        let head = self.word(0).load(Ordering::Acquire);
        self.word(8).load(Ordering::Acquire).wrapping_sub(head).min(self.capacity)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        self.memory.word64(self.offset + offset).expect("the list lies in the memory, aligned")
    }
}
