//! Memory that was taken away while it was mapped.

use core::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use super::RacyMem;

/// Counted by the handler that puts zeros where pages are missing.
pub(crate) static FAULTS: AtomicU64 = AtomicU64::new(0);

/// How many accesses to memory that was taken away this process has survived: one load. A number
/// that has changed across an access says that some memory is lost, be it this one or one that
/// another thread touched; [`RacyMem::is_lost`] says which.
#[inline(always)]
#[must_use]
pub fn faults() -> u64 {
    // The handler runs on the accessing thread, within the access: it is enough that the compiler
    // keeps their order.
    compiler_fence(Ordering::SeqCst);
    FAULTS.load(Ordering::Relaxed)
}

impl RacyMem {
    /// Whether pages of it were taken away by whoever made the file behind it, and zeros stand
    /// there now: what it holds is worth nothing any more. Looks through all mappings, so it is
    /// asked only when [`faults`] has changed.
    #[cold]
    #[must_use]
    pub fn is_lost(&self) -> bool {
        #[cfg(feature = "os")]
        return crate::os::fault::is_lost(self.base.addr().get());
        #[cfg(not(feature = "os"))]
        return false;
    }
}
