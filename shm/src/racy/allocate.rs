//! Private memory for tests, simulation and sessions within one process.

use alloc::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use core::ptr::NonNull;

/// The alignment of allocated memory: a page, as a mapping would have.
const ALIGNMENT: usize = 4096;

/// Zeroed memory that is given back when it is dropped.
pub(super) struct Allocation {
    /// What the allocator gave; the aligned memory begins at most a page later.
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the allocation is only an address and a size; nobody touches the bytes through it.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

impl Allocation {
    /// Zeroed memory of `len` bytes, aligned to a page.
    pub(super) fn new(len: usize) -> Self {
        // Aligned here rather than by the allocator: only for ordinary alignments does it know that
        // fresh pages are zero, and for others it would touch every page of a large memory.
        let layout = len
            .checked_add(ALIGNMENT)
            .and_then(|bytes| Layout::from_size_align(bytes, 16).ok())
            .expect("a length that leaves room for rounding up to a page");
        // SAFETY: the layout's size is not zero.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else {
            handle_alloc_error(layout)
        };
        Self { start, layout }
    }

    /// Where the memory begins.
    pub(super) fn base(&self) -> NonNull<u8> {
        let ahead = self.start.addr().get().next_multiple_of(ALIGNMENT) - self.start.addr().get();
        // SAFETY: less than a page is skipped, and a page more than needed was allocated.
        unsafe { self.start.add(ahead) }
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: the memory was allocated in `new` with this very layout, and handles keep the
        // allocation alive, so that none is left.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
