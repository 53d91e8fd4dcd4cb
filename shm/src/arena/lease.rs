//! Blocks that give themselves back.

use super::{Arena, Block};
use crate::errors::{OutOfBounds, WriteError};
use crate::racy::RacyMem;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::fmt;
use core::ops::Range;

/// An arena that several leases of one thread give themselves back to. Clones are the same arena.
#[derive(Debug, Clone)]
pub struct LeaseArena {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    memory: RacyMem,
    arena: RefCell<Arena>,
}

impl LeaseArena {
    /// Leases of this arena's blocks.
    #[must_use]
    pub fn new(arena: Arena) -> Self {
        let memory = arena.memory().clone();
        Self { shared: Rc::new(Shared { memory, arena: RefCell::new(arena) }) }
    }

    /// A lease of at least `len` bytes, or `None` if the arena has no such block. Its bytes are
    /// whatever was there before.
    #[inline]
    #[must_use]
    pub fn lease(&self, len: u32) -> Option<Lease> {
        let block = self.shared.arena.borrow_mut().allocate(len)?;
        Some(Lease { offset: block.offset, capacity: block.len, shared: Rc::clone(&self.shared) })
    }

    /// Bytes that no lease holds; they need not be in one piece.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.shared.arena.borrow().free_bytes()
    }

    /// The largest lease in bytes.
    #[must_use]
    pub fn lease_len_max(&self) -> u32 {
        self.shared.arena.borrow().block_len_max()
    }

    /// The memory that leases are pieces of.
    #[must_use]
    pub fn memory(&self) -> &RacyMem {
        &self.shared.memory
    }
}

/// A piece of an arena that one op owns: payload goes in by [`write`](Self::write); a reply is seen
/// through [`completed`](Self::completed). Dropping it gives the piece back, so whoever issues an
/// op keeps its lease until the completion; forgetting it leaks the piece and aliases nothing.
///
/// The engine may write to it at any time until the op has completed, so there is no `&[u8]` yet.
pub struct Lease {
    offset: u32,
    capacity: u32,
    shared: Rc<Shared>,
}

impl Lease {
    /// Where it begins, in bytes from the start of the arena.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// Its length in bytes.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Copies `from` to byte `at` of the lease.
    #[inline]
    pub fn write(&mut self, at: u32, from: &[u8]) -> Result<(), WriteError> {
        self.check(at, from.len() as u64)?;
        self.shared.memory.write(u64::from(self.offset) + u64::from(at), from)
    }

    /// Copies bytes from `at` on out of the lease, whatever state the op is in.
    #[inline]
    pub fn read(&self, at: u32, into: &mut [u8]) -> Result<(), OutOfBounds> {
        self.check(at, into.len() as u64)?;
        self.shared.memory.read(u64::from(self.offset) + u64::from(at), into)
    }

    /// The first `len` bytes, now that the op has completed.
    ///
    /// # Contract
    /// To be called by the session layer alone, and only when both hold:
    /// - the op's completion was taken from the completion ring by this thread: the engine wrote
    ///   the reply before it published the completion, so all of it is visible;
    /// - no op that names this lease is outstanding: the engine writes a lease only between an
    ///   op's submission and its completion (a late reply fails the slot's generation check).
    ///
    /// So nobody writes the bytes while [`CompletedLease::bytes`] lends them, provided that the
    /// engine keeps its word. An application trusts its own engine as it trusts the operating
    /// system that maps its pages; no other process maps the arena.
    pub fn completed(self, len: u32) -> Result<CompletedLease, OutOfBounds> {
        self.check(0, u64::from(len))?;
        Ok(CompletedLease { lease: self, len })
    }

    #[inline(always)]
    fn check(&self, at: u32, len: u64) -> Result<(), OutOfBounds> {
        if u64::from(at) + len > u64::from(self.capacity) {
            let memory_len = u64::from(self.capacity);
            return Err(OutOfBounds { offset: u64::from(at), len, memory_len });
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let block = Block { offset: self.offset, len: self.capacity };
        self.shared.arena.borrow_mut().free(block);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Lease")
            .field("offset", &self.offset)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// A lease whose op has completed: its bytes rest and can be lent.
#[derive(Debug)]
pub struct CompletedLease {
    lease: Lease,
    len: u32,
}

impl CompletedLease {
    /// The completed bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let base = self.lease.shared.memory.as_ptr();
        // SAFETY: the arena handed the block out, so it lies within the memory, which the lease
        // keeps mapped, and `len` was checked against the block. No other lease has the block. The
        // bytes do not change while they are lent: in this process they are only written through
        // the lease, which this value holds and does not lend out for writing, and the contract of
        // `Lease::completed`, kept by the session layer, excludes the engine.
        unsafe {
            core::slice::from_raw_parts(base.add(self.lease.offset as usize), self.len as usize)
        }
    }

    /// The completed bytes in `range`, or `None` if it leaves them.
    #[inline]
    #[must_use]
    pub fn get(&self, range: Range<u32>) -> Option<&[u8]> {
        self.bytes().get(range.start as usize..range.end as usize)
    }

    /// How many bytes are complete.
    #[inline]
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether no byte is complete.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The lease again, for the next op.
    #[must_use]
    pub fn into_lease(self) -> Lease {
        self.lease
    }
}
