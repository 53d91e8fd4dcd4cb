//! Memory between pages that nobody may touch.

use crate::racy::{Permission, RacyMem};
use alloc::sync::Arc;
use core::ptr::{self, NonNull};
use rustix::io::{self, Errno};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix::param::page_size;

/// Private zeroed memory whose one edge borders on a page that faults: for tests which want to see
/// that no access, however it is carried out, leaves a memory by a single byte. The page at the
/// other end faults as well, but up to a page less a byte may lie between.
///
/// ```
/// # use nic_shm::{Edge, FencedMemory};
/// let fenced = FencedMemory::new(100, Edge::End)?;
/// fenced.memory().write(0, &[7; 100])?;
/// assert!(fenced.memory().write(1, &[7; 100]).is_err()); // and had it been tried: a fault
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FencedMemory {
    memory: RacyMem,
}

/// Which edge of a [`FencedMemory`] borders on its fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// The first byte is the first of its page: an access before it faults.
    Start,
    /// The last byte is the last of its page: an access behind it faults. The start is then as
    /// aligned as the length is.
    End,
}

/// The pages, fences included.
struct Pages {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: only an address and a length; the pages belong to the process, not to a thread.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl FencedMemory {
    /// Zeroed memory of `len` bytes.
    ///
    /// # Errors
    /// The system's reason: no address space, no memory, or a length of zero.
    pub fn new(len: u64, edge: Edge) -> io::Result<Self> {
        let page = page_size();
        let wanted = usize::try_from(len).map_err(|_| Errno::INVAL)?;
        let inner = wanted.checked_next_multiple_of(page).ok_or(Errno::INVAL)?;
        let whole = inner.checked_add(2 * page).ok_or(Errno::INVAL)?;
        if wanted == 0 {
            return Err(Errno::INVAL);
        }
        let (none, open) = (ProtFlags::empty(), MprotectFlags::READ | MprotectFlags::WRITE);
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), whole, none, MapFlags::PRIVATE)? };
        let base = NonNull::new(base.cast::<u8>()).ok_or(Errno::FAULT)?;
        let pages = Pages { base, len: whole };
        let ahead = if edge == Edge::Start { 0 } else { inner - wanted };
        // SAFETY: the pages between the fences are within the mapping, which is new and ours.
        let start = unsafe {
            mprotect(base.as_ptr().add(page).cast(), inner, open)?;
            base.add(page + ahead)
        };
        let owner = Arc::new(pages);
        // SAFETY: the bytes lie within the pages just opened, which stay mapped until the owner is
        // dropped; their address is handed to no one else.
        let memory = unsafe { RacyMem::from_parts(start, len, Permission::ReadWrite, owner) };
        Ok(Self { memory })
    }

    /// The memory; it stays mapped as long as a handle of it is there.
    #[must_use]
    pub fn memory(&self) -> RacyMem {
        self.memory.clone()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by us, and handles keep the pages alive, so none is left.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "unmapping a mapping: {unmapped:?}");
    }
}

#[cfg(test)]
mod tests;
