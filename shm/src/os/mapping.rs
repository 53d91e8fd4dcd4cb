//! A mapped range of address space.

use super::fault::Guarded;
use core::ffi::c_void;
use core::ptr::NonNull;
use rustix::fd::BorrowedFd;
use rustix::fs::fstatfs;
use rustix::io;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use rustix::param::page_size;

/// `f_type` of hugetlbfs (linux/magic.h).
pub(super) const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

/// Pages that are unmapped when it is dropped. Nobody touches the bytes through it.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    /// Taken out before the pages are unmapped.
    guarded: Option<Guarded>,
}

// SAFETY: only an address and a length; the pages belong to the process, not to a thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes (not zero) of a file, in whole pages of its own size, shared with
    /// all who map it.
    pub(super) fn shared(fd: BorrowedFd<'_>, len: usize, writable: bool) -> io::Result<Self> {
        let filesystem = fstatfs(fd)?;
        let is_huge = filesystem.f_type as u64 == HUGETLBFS_MAGIC;
        let page = if is_huge { filesystem.f_bsize as usize } else { page_size() };
        let len = len.checked_next_multiple_of(page).ok_or(io::Errno::INVAL)?;
        let mut protection = ProtFlags::READ;
        protection.set(ProtFlags::WRITE, writable);
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let base =
            unsafe { mmap(core::ptr::null_mut(), len, protection, MapFlags::SHARED, fd, 0)? };
        let mut mapping = Self::from_raw(base, len)?;
        // Its owner may take pages away, and nothing that can do so is mapped without a guard.
        let guarded = Guarded::new(mapping.base.as_ptr().expose_provenance(), len, page);
        mapping.guarded = Some(guarded.ok_or(io::Errno::NOMEM)?);
        Ok(mapping)
    }

    /// Maps `len` bytes (not zero) of zeroed memory of this process alone.
    pub(super) fn anonymous(len: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let base =
            unsafe { mmap_anonymous(core::ptr::null_mut(), len, protection, MapFlags::PRIVATE)? };
        Self::from_raw(base, len)
    }

    /// Where the pages begin.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Their length in bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Tells the kernel how the pages will be used. Only for advice that keeps their content.
    pub(super) fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: the range is ours, and such advice changes no byte that anyone can see.
        unsafe { madvise(self.base.as_ptr().cast(), self.len, advice) }
    }

    fn from_raw(base: *mut c_void, len: usize) -> io::Result<Self> {
        let base = NonNull::new(base.cast()).ok_or(io::Errno::FAULT)?;
        Ok(Self { base, len, guarded: None })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.guarded = None;
        // SAFETY: the range was mapped by us, and whoever hands out its address keeps the mapping
        // alive meanwhile. The call fails only for a range that was never mapped.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "unmapping a mapping: {unmapped:?}");
    }
}
