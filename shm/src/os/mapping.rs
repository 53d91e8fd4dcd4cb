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

/// Bytes of a huge page as this project asks for them.
pub(super) const HUGE_PAGE_BYTES: u64 = 2 << 20;

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
        let mut mapping = if is_huge || (len as u64) < HUGE_PAGE_BYTES {
            // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
            let base =
                unsafe { mmap(core::ptr::null_mut(), len, protection, MapFlags::SHARED, fd, 0)? };
            Self::from_raw(base, len)?
        } else {
            Self::aligned(fd, len, protection)?
        };
        // Its owner may take pages away, and nothing that can do so is mapped without a guard.
        let guarded = Guarded::new(mapping.base.as_ptr().expose_provenance(), len, page);
        mapping.guarded = Some(guarded.ok_or(io::Errno::NOMEM)?);
        Ok(mapping)
    }

    /// Maps a file where a huge page could begin, so that pages of it that are joined are mapped as
    /// one.
    fn aligned(fd: BorrowedFd<'_>, len: usize, protection: ProtFlags) -> io::Result<Self> {
        let huge = HUGE_PAGE_BYTES as usize;
        let reserved = len.checked_add(huge).ok_or(io::Errno::NOMEM)?;
        let (none, private) = (ProtFlags::empty(), MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let start = unsafe { mmap_anonymous(core::ptr::null_mut(), reserved, none, private)? };
        let before = start.cast::<u8>().align_offset(huge);
        let base = start.cast::<u8>().wrapping_add(before).cast::<c_void>();
        // SAFETY: this replaces pages of the reservation just made, which nobody knows of.
        let mapped =
            unsafe { mmap(base, len, protection, MapFlags::SHARED | MapFlags::FIXED, fd, 0) };
        let used = if mapped.is_ok() { before..before + len } else { 0..0 };
        for (from, to) in [(0, used.start), (used.end, reserved)] {
            if to > from {
                let rest = start.cast::<u8>().wrapping_add(from).cast();
                // SAFETY: what is left of the reservation; nobody knows of it.
                unsafe { munmap(rest, to - from)? };
            }
        }
        Self::from_raw(mapped?, len)
    }

    /// Joins small pages of a shared file into huge ones, as far as the kernel can. True: all whole
    /// ones were. It needs no privilege, whatever `shmem_enabled` says short of `deny`, and Linux
    /// 6.1. The pages become allocated.
    pub(super) fn join_pages(&self) -> bool {
        let huge = HUGE_PAGE_BYTES as usize;
        let whole = self.len & !(huge - 1);
        let advise = |at: usize, len: usize, advice| {
            // SAFETY: a range of our own pages; joining them changes no byte.
            unsafe { libc::madvise(self.base.as_ptr().wrapping_add(at).cast(), len, advice) == 0 }
        };
        // Only where there is a page already can there be a huge one.
        let are_there = |at| advise(at, page_size(), libc::MADV_POPULATE_WRITE);
        whole > 0
            && (0..whole)
                .step_by(huge)
                .all(|at| are_there(at) && advise(at, huge, libc::MADV_COLLAPSE))
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
