//! Memory that others change at any time.

#[cfg(all(target_arch = "aarch64", not(any(miri, loom))))]
mod aarch64;
mod allocate;
#[cfg(all(
    any(all(target_arch = "x86_64", target_feature = "sse2"), target_arch = "aarch64"),
    not(any(miri, loom))
))]
#[path = "assembly.rs"]
mod copying;
#[cfg(not(all(
    any(all(target_arch = "x86_64", target_feature = "sse2"), target_arch = "aarch64"),
    not(any(miri, loom))
)))]
#[path = "portable.rs"]
mod copying;
mod lost;
/// The portable copies, to be tested where the assembly is what is used.
#[cfg(all(test, not(any(miri, loom))))]
mod portable;
mod sight;
mod words;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(any(miri, loom))))]
mod x86_64;

use crate::errors::{OutOfBounds, ReadOnly, WriteError};
use alloc::sync::Arc;
use allocate::Allocation;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

pub(crate) use copying::{copy_in, copy_out};
#[cfg(feature = "os")]
pub(crate) use lost::FAULTS;
pub use lost::faults;
pub use sight::{Lines, Places, Sight};
pub use words::Word32;

/// Bytes of a cache line: what one prefetch brings, and how far apart contended words are kept.
pub const CACHE_LINE_BYTES: u64 = 64;

/// More than this much is never prefetched by one call: the first lines would be gone again.
pub const PREFETCH_BYTES_MAX: u64 = 4096;

/// What keeps memory mapped: dropping it may unmap. Anything that threads may share will do.
pub trait MemoryOwner: Send + Sync {}

impl<T: Send + Sync> MemoryOwner for T {}

/// What a handle may do with its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Reads only; a write gives [`WriteError::ReadOnly`].
    ReadOnly,
    /// Reads and writes.
    ReadWrite,
}

/// A handle onto memory that others (processes, devices, threads) may change at any time.
///
/// No reference to the bytes is ever made: they are copied in and out by assembly which the
/// compiler cannot see through, or used in place as atomic words. What is read may be torn; the
/// finest that can be relied on is this: a naturally aligned word of 8 (4, 2) bytes that lies
/// wholly within the range, where the range itself begins at a multiple of 8 (4, 2), is read and
/// written in one piece. Every byte is touched exactly once per call.
///
/// Clones and slices share the memory, which stays mapped until the last of them is dropped.
/// Offsets and lengths are bytes from the start of the handle's own range.
///
/// ```
/// # use nic_shm::RacyMem;
/// let memory = RacyMem::allocate(4096);
/// memory.write(100, b"hello")?;
/// let tail = memory.slice(102, 3)?;
/// let mut copy = [0; 3];
/// tail.read(0, &mut copy)?;
/// assert_eq!(&copy, b"llo");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RacyMem {
    base: NonNull<u8>,
    len: u64,
    /// `len`, or zero if the handle may only read: so a write needs one bounds check and no
    /// second one for the permission.
    writable_len: u64,
    owner: Arc<dyn MemoryOwner>,
}

// SAFETY: the bytes are only touched by copies that tolerate concurrent change and by atomics,
// so any number of threads may hold handles; the owner is Send and Sync itself.
unsafe impl Send for RacyMem {}
// SAFETY: as above.
unsafe impl Sync for RacyMem {}

impl RacyMem {
    /// Private zeroed memory of `len` bytes, aligned to 4096: for tests, simulation and sessions
    /// within one process. Like any allocation, it aborts when there is no memory.
    #[must_use]
    pub fn allocate(len: u64) -> Self {
        let bytes = usize::try_from(len).expect("a length that the address space can hold");
        let allocation = Allocation::new(bytes);
        let base = allocation.base();
        Self { base, len, writable_len: len, owner: Arc::new(allocation) }
    }

    /// A handle onto memory that `owner` keeps mapped.
    ///
    /// # Safety
    /// - `base..base + len` must stay readable, and writable if `permission` says so, until `owner`
    ///   is dropped, and must not wrap around the address space.
    /// - Within this process nobody may hold a reference to these bytes or touch them but through
    ///   handles, atomics, system calls and devices.
    #[must_use]
    pub unsafe fn from_parts(
        base: NonNull<u8>,
        len: u64,
        permission: Permission,
        owner: Arc<dyn MemoryOwner>,
    ) -> Self {
        let writable_len = if permission == Permission::ReadWrite { len } else { 0 };
        Self { base, len, writable_len, owner }
    }

    /// Length in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the memory has no bytes at all.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What this handle may do.
    #[must_use]
    pub fn permission(&self) -> Permission {
        // An empty handle can write nothing, so it does not matter what it is called.
        if self.writable_len == self.len { Permission::ReadWrite } else { Permission::ReadOnly }
    }

    /// Where the memory begins in this process: to register with a device or the kernel, or as the
    /// base of a region whose pointers are virtual addresses. Others change what it points to.
    #[inline]
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// A handle onto `len` bytes from `offset`, with the same permission.
    pub fn slice(&self, offset: u64, len: u64) -> Result<RacyMem, OutOfBounds> {
        let base = self.readable(offset, len)?;
        let writable_len = if self.writable_len == self.len { len } else { 0 };
        // SAFETY: an address within the memory is not null.
        let base = unsafe { NonNull::new_unchecked(base) };
        Ok(Self { base, len, writable_len, owner: Arc::clone(&self.owner) })
    }

    /// The same memory through a handle that may only read.
    #[must_use]
    pub fn to_read_only(&self) -> RacyMem {
        Self { writable_len: 0, ..self.clone() }
    }

    /// Copies `into.len()` bytes from `offset`, ascending, each byte read once. Long copies are
    /// quickest into a buffer that begins at a multiple of 16 (`benches/copies.rs`).
    #[inline]
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), OutOfBounds> {
        let from = self.readable(offset, into.len() as u64)?;
        // SAFETY: the range was checked; `into` is borrowed exclusively.
        unsafe { copy_in(from, into.as_mut_ptr(), into.len()) }
        Ok(())
    }

    /// Copies the `N` bytes at `offset`: the quickest way for a header whose size is known.
    #[inline]
    pub fn read_array<const N: usize>(&self, offset: u64) -> Result<[u8; N], OutOfBounds> {
        let from = self.readable(offset, N as u64)?;
        let mut bytes = [0; N];
        // SAFETY: the range was checked; `bytes` is our own.
        unsafe { copy_in(from, bytes.as_mut_ptr(), N) }
        Ok(bytes)
    }

    /// Copies `from` to `offset`, ascending, each byte written once.
    ///
    /// On x86-64 others see the bytes appear in that order; on Arm only a release (such as
    /// [`write_release_tail`](Self::write_release_tail)) tells them that all are there.
    #[inline]
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), WriteError> {
        let to = self.writable(offset, from.len() as u64)?;
        // SAFETY: the range was checked, as was the permission.
        unsafe { copy_out(from.as_ptr(), to, from.len()) }
        Ok(())
    }

    /// Like [`write`](Self::write), but the last naturally aligned 8-byte word of the range is kept
    /// back until all other bytes are in and then stored with Release: whoever sees it (by an
    /// Acquire load) sees the rest. A range without such a word is written plainly.
    #[inline]
    pub fn write_release_tail(&self, offset: u64, from: &[u8]) -> Result<(), WriteError> {
        let to = self.writable(offset, from.len() as u64)?;
        let start = to.addr();
        let word_end = (start + from.len()) & !7;
        // SAFETY: the range was checked; the parts before and after the word make up the rest of
        // it; the word's address is a multiple of 8 and lies in memory touched only by atomics and
        // by copies that tolerate them.
        unsafe {
            if word_end < start + 8 {
                copy_out(from.as_ptr(), to, from.len());
                return Ok(());
            }
            let word_at = word_end - 8 - start;
            let after = word_at + 8;
            copy_out(from.as_ptr(), to, word_at);
            copy_out(from.as_ptr().add(after), to.add(after), from.len() - after);
            let word = from.as_ptr().add(word_at).cast::<u64>().read_unaligned();
            (*to.add(word_at).cast::<AtomicU64>()).store(word, Ordering::Release);
        }
        Ok(())
    }

    /// Writes `byte` to each of the `len` bytes from `offset`, ascending.
    pub fn fill(&self, offset: u64, len: u64, byte: u8) -> Result<(), WriteError> {
        let to = self.writable(offset, len)?;
        let pattern = [byte; 256];
        let mut done = 0;
        // The range lies in memory, so its length fits an address.
        let len = len as usize;
        while done < len {
            let piece = pattern.len().min(len - done);
            // SAFETY: the range was checked and the pieces stay within it.
            unsafe { copy_out(pattern.as_ptr(), to.add(done), piece) }
            done += piece;
        }
        Ok(())
    }

    /// Copies `len` bytes from `offset` to `other_offset` of `other`, ascending, without a private
    /// copy between. Where both are ranges of one memory and overlap, the bytes that arrive are
    /// unspecified.
    #[inline]
    pub fn copy_to(
        &self,
        offset: u64,
        other: &RacyMem,
        other_offset: u64,
        len: u64,
    ) -> Result<(), WriteError> {
        let from = self.readable(offset, len)?;
        let to = other.writable(other_offset, len)?;
        // SAFETY: both ranges were checked, as was the permission.
        unsafe { copying::copy_across(from, to, len as usize) }
        Ok(())
    }

    /// Asks for the cache lines of a range, so that a copy soon after finds them. A hint: a range
    /// that leaves the memory is cut off, and so is what goes beyond [`PREFETCH_BYTES_MAX`].
    #[inline(always)]
    pub fn prefetch(&self, offset: u64, len: u64) {
        self.sight().each_line(offset, len, copying::prefetch_line);
    }

    /// As [`prefetch`](Self::prefetch), for lines that will be written and that others may have in
    /// their caches.
    #[inline(always)]
    pub fn prefetch_for_write(&self, offset: u64, len: u64) {
        self.sight().each_line(offset, len, copying::prefetch_line_for_write);
    }

    /// The address of a range that lies within the memory.
    #[inline(always)]
    fn readable(&self, offset: u64, len: u64) -> Result<*mut u8, OutOfBounds> {
        if offset > self.len || len > self.len - offset {
            return Err(self.out_of_bounds(offset, len));
        }
        // SAFETY: the offset was found to lie within the memory, or just past its end.
        Ok(unsafe { self.base.as_ptr().add(offset as usize) })
    }

    /// The address of a range that lies within the memory and may be written.
    #[inline(always)]
    fn writable(&self, offset: u64, len: u64) -> Result<*mut u8, WriteError> {
        if offset > self.writable_len || len > self.writable_len - offset {
            return Err(self.not_writable(offset, len));
        }
        // SAFETY: the offset was found to lie within the memory, or just past its end.
        Ok(unsafe { self.base.as_ptr().add(offset as usize) })
    }

    #[cold]
    fn out_of_bounds(&self, offset: u64, len: u64) -> OutOfBounds {
        OutOfBounds { offset, len, memory_len: self.len }
    }

    #[cold]
    fn not_writable(&self, offset: u64, len: u64) -> WriteError {
        match self.readable(offset, len) {
            Ok(_) => ReadOnly { offset, memory_len: self.len }.into(),
            Err(out_of_bounds) => out_of_bounds.into(),
        }
    }
}

impl fmt::Debug for RacyMem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RacyMem")
            .field("len", &self.len)
            .field("permission", &self.permission())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
