//! Memory that others change at any time, and what two parties need to work through it.
//!
//! The core (no_std + alloc) knows nothing of the operating system: [`RacyMem`] copies in and out
//! of memory that other processes, engines or devices write meanwhile; the ring ([`Producer`],
//! [`Consumer`]) is the one queue of the project; [`Arena`] and [`Lease`] hand out pieces of a
//! session's memory; [`Mailbox`] brings an engine work. The feature `os` (default, Linux only) adds
//! what maps, passes and guards such memory: memfds, Unix sockets, doorbells, process handles.
//!
//! This crate knows no formats and no other crate of the workspace. Nothing here logs, and nothing
//! on the data path (copies, rings, leases) allocates, locks or calls the system.
//!
//! ```
//! use nic_shm::RacyMem;
//! use std::sync::atomic::Ordering;
//!
//! let memory = RacyMem::allocate(4096);
//! memory.write(64, b"payload")?;
//! memory.word64(0)?.store(1, Ordering::Release); // "it is there"
//!
//! let mut copy = [0; 7];
//! if memory.word64(0)?.load(Ordering::Acquire) == 1 {
//!     memory.read(64, &mut copy)?;
//! }
//! assert_eq!(&copy, b"payload");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![no_std]
// This crate exists to hold the workspace's dealings with memory that the language knows nothing
// of: shared mappings, in-place atomics, and copies that race by design.
#![allow(unsafe_code)]

#[cfg(all(feature = "os", not(target_os = "linux")))]
compile_error!("the feature `os` of nic-shm needs Linux; build with --no-default-features");

#[cfg(not(target_pointer_width = "64"))]
compile_error!("nic-shm needs 64-bit addresses: offsets and lengths are 64-bit");

extern crate alloc;
#[cfg(any(feature = "os", test))]
extern crate std;

mod arena;
mod errors;
mod mailbox;
#[cfg(feature = "os")]
mod os;
mod racy;
mod ring;
#[cfg(test)]
mod seeded;
mod sync;

pub use arena::{Arena, ArenaError, Block, BlockSizes, CompletedLease, Lease, LeaseArena};
pub use errors::{OutOfBounds, ReadOnly, WordError, WriteError};
pub use mailbox::Mailbox;
#[cfg(feature = "os")]
pub use os::*;
pub use racy::{
    CACHE_LINE_BYTES, Lines, MemoryOwner, PREFETCH_BYTES_MAX, Permission, Places, RacyMem, Sight,
    Word32, faults,
};
pub use ring::{
    Consumer, ConsumerCursor, CursorWord, Producer, ProducerCursor, RingError, RingLayout,
    RingViolation, RingWord, RingWords,
};
