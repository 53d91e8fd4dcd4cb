//! Memory that processes share: sealed memfds.

use super::mapping::{HUGE_PAGE_BYTES, HUGETLBFS_MAGIC, Mapping};
use crate::racy::{Permission, RacyMem};
use alloc::sync::Arc;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, ftruncate,
    memfd_create,
};
use rustix::io::Errno;
use rustix::mm::Advice;
use std::{fmt, io};
use thiserror::Error;

/// Bytes of a small page. A kernel with larger ones rounds further up by itself.
const SMALL_PAGE_BYTES: u64 = 4096;

/// What pages a memory is asked to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pages {
    /// 4 KiB pages.
    #[default]
    Small,
    /// Small pages, which [`SharedMemory::populate`] joins into transparent huge ones if the kernel
    /// can (Linux 6.1; no privilege, no reservation). What is left over at the end stays small.
    Joined,
    /// 2 MiB pages from the reserved pool if it has enough, else as [`Pages::Joined`].
    TryHuge,
    /// 2 MiB pages from the reserved pool, or an error.
    Huge,
}

/// What pages a memory got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageKind {
    /// Small pages, possibly joined into transparent huge ones by whoever made the memory.
    Small,
    /// Small pages that were joined into transparent huge ones.
    Joined,
    /// Reserved huge pages (hugetlbfs).
    Huge,
}

impl fmt::Display for PageKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            PageKind::Small => "4 KiB",
            PageKind::Joined => "2 MiB, transparent",
            PageKind::Huge => "2 MiB",
        })
    }
}

/// How much of a received memfd is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// As much as was asked for, in whole pages.
    Asked,
    /// All of it.
    All,
}

/// Why a shared memory could not be made or mapped.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// A memory has at least one byte: ask for more.
    #[error("a shared memory of {len} bytes was asked for; expected 1 to 2^63 - 2^21")]
    Length {
        /// The length asked for, in bytes.
        len: u64,
    },
    /// The kernel made no memfd: see the cause (too many descriptors, no memory).
    #[error("the kernel made no memfd of {len} bytes: {source}")]
    Create {
        /// The length asked for, in bytes.
        len: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The pool of huge pages is too small: reserve more, or use [`Pages::TryHuge`].
    #[error(
        "{len} bytes of 2 MiB pages cannot be had ({source}); reserve {pages} more with \
         `sysctl vm.nr_hugepages`, or allow small pages"
    )]
    NoHugePages {
        /// The length asked for, in bytes, rounded up.
        len: u64,
        /// The huge pages that it needs.
        pages: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel did not map the memory: see the cause (address space, limits).
    #[error("{len} bytes of shared memory cannot be mapped: {source}")]
    Map {
        /// The length to be mapped, in bytes.
        len: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The pages could not be allocated: less memory, or more of it in the machine or cgroup.
    #[error("{len} bytes of shared memory cannot be populated: {source}")]
    Populate {
        /// The length to be populated, in bytes.
        len: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The descriptor received is no memfd: refuse the peer's request.
    #[error("the descriptor is no memfd ({source}); expected a memfd sealed against shrinking")]
    NotMemfd {
        /// What the kernel said when asked for its seals.
        source: io::Error,
    },
    /// The memfd received can be shrunk, which would fault whoever maps it: refuse the request.
    #[error("the memfd has seals {found:#x}; expected F_SEAL_SHRINK ({expected:#x}) among them")]
    NotSealed {
        /// The seals that it has.
        found: u32,
        /// The seal that it must have.
        expected: u32,
    },
    /// The memfd received may not be written by receivers: map it with
    /// [`SharedMemory::open_read_only`].
    #[error("the memfd has seals {found:#x}, which forbid writing; map it read-only")]
    WriteSealed {
        /// The seals that it has.
        found: u32,
    },
    /// The memfd received is smaller than what it is for: refuse the request.
    #[error("the memfd has {found} bytes; expected at least {expected}")]
    TooSmall {
        /// Its length in bytes.
        found: u64,
        /// The least length in bytes.
        expected: u64,
    },
}

/// A memfd and its mapping.
///
/// The file can grow and never shrink (it is sealed), so a receiver's mapping cannot be cut off.
/// Whoever may write it can still punch holes into it: the bytes become zero, and with huge pages
/// from an empty pool the next touch raises SIGBUS.
///
/// ```
/// # use nic_shm::{Pages, SharedMemory};
/// let owner = SharedMemory::create("example", 8192, Pages::Small)?;
/// owner.memory().write(0, b"shared")?;
///
/// let received = owner.fd().try_clone_to_owned()?; // as if passed through a socket
/// let peer = SharedMemory::open(received, 8192)?;
/// assert_eq!(&peer.memory().read_array::<6>(0)?, b"shared");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SharedMemory {
    fd: OwnedFd,
    mapping: Arc<Mapping>,
    memory: RacyMem,
    page_kind: PageKind,
    /// Whether its small pages are to be joined once they are there.
    joins: bool,
}

impl SharedMemory {
    /// Makes a zeroed memory of at least `len` bytes, rounded up to whole pages, that every
    /// receiver may read and write. `name` shows in /proc/PID/maps; it need not be unique.
    pub fn create(name: &str, len: u64, pages: Pages) -> Result<Self, MemoryError> {
        Self::create_sealed(name, len, pages, SealFlags::SHRINK | SealFlags::SEAL)
    }

    /// Like [`create`](Self::create), but receivers can only map it read-only
    /// (with [`open_read_only`](Self::open_read_only)): the kernel refuses them anything else.
    pub fn create_owner_writable(name: &str, len: u64, pages: Pages) -> Result<Self, MemoryError> {
        let seals = SealFlags::SHRINK | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
        Self::create_sealed(name, len, pages, seals)
    }

    /// Maps the first `len` bytes of a received memfd, rounded up to whole pages, after seeing that
    /// it is one, is sealed against shrinking and has as many bytes. What a peer makes longer than
    /// was agreed is neither mapped nor ever populated.
    pub fn open(fd: OwnedFd, len: u64) -> Result<Self, MemoryError> {
        let seals = Self::checked_seals(&fd)?;
        if seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE) {
            return Err(MemoryError::WriteSealed { found: seals.bits() });
        }
        Self::open_as(fd, len, Permission::ReadWrite, Extent::Asked)
    }

    /// Maps all of a received memfd of at least `min_len` bytes, to be read only: a write through
    /// the handle is a typed error, and through anything else a fault. Nothing is allocated until
    /// it is touched or populated, so a caller can look at [`len`](Self::len) and refuse first.
    pub fn open_read_only(fd: OwnedFd, min_len: u64) -> Result<Self, MemoryError> {
        Self::checked_seals(&fd)?;
        Self::open_as(fd, min_len, Permission::ReadOnly, Extent::All)
    }

    /// Allocates all pages now, so that no access faults later; may take a millisecond per MiB. For
    /// a control thread, before the memory is used by an engine.
    pub fn populate(&mut self) -> Result<(), MemoryError> {
        if self.joins && self.mapping.join_pages() {
            self.page_kind = PageKind::Joined;
        }
        let writable = self.memory.permission() == Permission::ReadWrite;
        let advice = if writable { Advice::LinuxPopulateWrite } else { Advice::LinuxPopulateRead };
        loop {
            match self.mapping.advise(advice) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR | Errno::AGAIN) => {}
                // Kernels before 5.14 do not know the advice.
                Err(Errno::INVAL) => {
                    self.touch(writable);
                    return Ok(());
                }
                Err(source) => {
                    return Err(MemoryError::Populate { len: self.len(), source: source.into() });
                }
            }
        }
    }

    /// The memory: all of it, rounding included.
    #[must_use]
    pub fn memory(&self) -> RacyMem {
        self.memory.clone()
    }

    /// The memfd: to pass to another process.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Which pages it got.
    #[must_use]
    pub fn page_kind(&self) -> PageKind {
        self.page_kind
    }

    /// Length in bytes, a multiple of the page size.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.memory.len()
    }

    /// Whether it has no bytes: never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }

    fn create_sealed(
        name: &str,
        len: u64,
        pages: Pages,
        seals: SealFlags,
    ) -> Result<Self, MemoryError> {
        if len == 0 || len > i64::MAX as u64 - HUGE_PAGE_BYTES {
            return Err(MemoryError::Length { len });
        }
        match pages {
            Pages::Small => Self::create_with(name, len, PageKind::Small, seals),
            Pages::Huge => Self::create_with(name, len, PageKind::Huge, seals),
            Pages::Joined | Pages::TryHuge if len < HUGE_PAGE_BYTES => {
                Self::create_with(name, len, PageKind::Small, seals)
            }
            Pages::Joined => {
                let mut memory = Self::create_with(name, len, PageKind::Small, seals)?;
                memory.joins = true;
                // Where `shmem_enabled` allows it, no joining is needed.
                let _ = memory.mapping.advise(Advice::LinuxHugepage);
                Ok(memory)
            }
            Pages::TryHuge => Self::create_with(name, len, PageKind::Huge, seals)
                .or_else(|_| Self::create_sealed(name, len, Pages::Joined, seals)),
        }
    }

    fn create_with(
        name: &str,
        len: u64,
        page_kind: PageKind,
        seals: SealFlags,
    ) -> Result<Self, MemoryError> {
        let huge = page_kind == PageKind::Huge;
        let len = len.next_multiple_of(if huge { HUGE_PAGE_BYTES } else { SMALL_PAGE_BYTES });
        let failed = |errno: Errno| match errno.into() {
            source if huge => {
                MemoryError::NoHugePages { len, pages: len / HUGE_PAGE_BYTES, source }
            }
            source => MemoryError::Create { len, source },
        };
        let fd = create_memfd(name, huge).map_err(failed)?;
        ftruncate(&fd, len).map_err(failed)?;
        // Mapping reserves huge pages, so it is here that a pool is found to be too small. The
        // owner maps before it seals: the seal may forbid writable mappings from then on.
        let mapping = Mapping::shared(fd.as_fd(), len as usize, true).map_err(failed)?;
        fcntl_add_seals(&fd, seals).map_err(failed)?;
        Ok(Self::from_mapping(fd, mapping, Permission::ReadWrite, page_kind))
    }

    fn checked_seals(fd: &OwnedFd) -> Result<SealFlags, MemoryError> {
        let seals =
            fcntl_get_seals(fd).map_err(|errno| MemoryError::NotMemfd { source: errno.into() })?;
        if !seals.contains(SealFlags::SHRINK) {
            let expected = SealFlags::SHRINK.bits();
            return Err(MemoryError::NotSealed { found: seals.bits(), expected });
        }
        Ok(seals)
    }

    fn open_as(
        fd: OwnedFd,
        min_len: u64,
        permission: Permission,
        extent: Extent,
    ) -> Result<Self, MemoryError> {
        let not_memfd = |errno: Errno| MemoryError::NotMemfd { source: errno.into() };
        let found = u64::try_from(fstat(&fd).map_err(not_memfd)?.st_size).unwrap_or(0);
        let expected = min_len.max(1);
        if found < expected {
            return Err(MemoryError::TooSmall { found, expected });
        }
        let filesystem = fstatfs(&fd).map_err(not_memfd)?;
        let is_huge = filesystem.f_type as u64 == HUGETLBFS_MAGIC;
        let page_kind = if is_huge { PageKind::Huge } else { PageKind::Small };
        let page_bytes = if is_huge { HUGE_PAGE_BYTES } else { SMALL_PAGE_BYTES };
        let len = match extent {
            Extent::Asked => expected.next_multiple_of(page_bytes),
            Extent::All => found,
        };
        let writable = permission == Permission::ReadWrite;
        let mapping = Mapping::shared(fd.as_fd(), len as usize, writable)
            .map_err(|errno| MemoryError::Map { len, source: errno.into() })?;
        Ok(Self::from_mapping(fd, mapping, permission, page_kind))
    }

    fn from_mapping(
        fd: OwnedFd,
        mapping: Mapping,
        permission: Permission,
        page_kind: PageKind,
    ) -> Self {
        // A core dump of an engine would otherwise contain every application's regions. A kernel
        // that cannot do it only writes larger dumps.
        let _ = mapping.advise(Advice::LinuxDontDump);
        let mapping = Arc::new(mapping);
        let (base, len) = (mapping.base(), mapping.len() as u64);
        // SAFETY: the pages stay mapped, and as writable as said, until the mapping is dropped; its
        // address is handed to no one else. The file cannot shrink under it.
        let memory = unsafe { RacyMem::from_parts(base, len, permission, mapping.clone()) };
        Self { fd, mapping, memory, page_kind, joins: false }
    }

    /// Touches every small page without changing it.
    fn touch(&self, writable: bool) {
        for offset in (0..self.len()).step_by(SMALL_PAGE_BYTES as usize) {
            if let (true, Ok(word)) = (writable, self.memory.word32(offset)) {
                word.fetch_or(0, core::sync::atomic::Ordering::Relaxed);
            } else {
                let _ = self.memory.load32(offset);
            }
        }
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An empty memfd that can be sealed, and can never be executed where the kernel knows of that.
fn create_memfd(name: &str, huge: bool) -> Result<OwnedFd, Errno> {
    let mut flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    if huge {
        flags |= MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    }
    match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3.
        Err(Errno::INVAL) => memfd_create(name, flags),
        result => result,
    }
}

#[cfg(test)]
mod tests;
