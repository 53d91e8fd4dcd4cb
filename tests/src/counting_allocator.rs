//! Counts what watched threads allocate and free.
//!
//! An engine and a session take their memory when they are made; afterwards no op may allocate. A
//! thread is watched once it is warm, and from then on every call of the allocator in it is
//! counted. Other threads of the process may allocate as they like.
//!
//! A program that wants the counts makes this its allocator:
//!
//! ```
//! use nic_tests::counting_allocator::{self, CountingAllocator};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator;
//!
//! counting_allocator::watch_this_thread();
//! drop(Box::new(7));
//! let seen = counting_allocator::seen();
//! assert_eq!((seen.allocations, seen.frees), (1, 1));
//! ```
// Whoever implements `GlobalAlloc` implements an unsafe trait; everything is passed on unchanged.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, with counters for watched threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

/// What the watched threads of this process have done since they are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Calls that allocate, growth of what there is included.
    pub allocations: u64,
    /// Calls that free.
    pub frees: u64,
    /// Bytes asked for by the first call that allocated; 0 if there was none.
    pub first_bytes: u64,
}

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static FREES: AtomicU64 = AtomicU64::new(0);
static FIRST_BYTES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    // Constant and without a destructor: it can be read while a thread begins or ends.
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// Counts what the calling thread allocates from now on.
pub fn watch_this_thread() {
    IS_WATCHED.set(true);
}

/// What has been counted so far.
pub fn seen() -> Seen {
    Seen {
        allocations: ALLOCATIONS.load(Ordering::Relaxed),
        frees: FREES.load(Ordering::Relaxed),
        first_bytes: FIRST_BYTES.load(Ordering::Relaxed),
    }
}

fn allocated(bytes: usize) {
    if IS_WATCHED.get() && ALLOCATIONS.fetch_add(1, Ordering::Relaxed) == 0 {
        FIRST_BYTES.store(bytes as u64, Ordering::Relaxed);
    }
}

fn freed() {
    if IS_WATCHED.get() {
        FREES.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator with its arguments unchanged, so whatever the
// system's allocator promises holds here; counting touches no allocated memory and cannot unwind.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size());
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        allocated(bytes);
        // SAFETY: the caller passes a place that came from here, hence from `System`, with the
        // layout that it was asked for with.
        unsafe { System.realloc(place, layout, bytes) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        freed();
        // SAFETY: as for `realloc`.
        unsafe { System.dealloc(place, layout) }
    }
}
