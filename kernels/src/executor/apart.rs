//! What few ops need, apart from their slots.

use nic_wire::{Status, Time};

use super::Limits;
use super::held::Held;
use super::long_buffers::LongBuffers;
use super::lookups::LookupTable;
use super::slot::{KEPT, Op, SPLIT};
use super::strands::StrandTable;
use super::waiting::Waiters;
use super::walks::Walks;
use crate::memory::Memory;

/// Strands, and what steps of few kernels need.
#[derive(Debug)]
pub(super) struct Apart<P> {
    pub(super) strands: StrandTable<P>,
    pub(super) facilities: Facilities,
}

/// What a step of few kernels needs besides its op.
#[derive(Debug)]
pub(super) struct Facilities {
    /// When the executor was called last.
    pub(super) now: Time,
    pub(super) waiters: Waiters,
    pub(super) walks: Walks,
    pub(super) lookups: LookupTable,
    pub(super) held: Held,
    pub(super) long_buffers: LongBuffers,
}

impl<P: Copy> Apart<P> {
    /// For an executor of so many ops. All memory is taken here.
    pub(super) fn new(capacity: usize, limits: &Limits) -> Self {
        let facilities = Facilities {
            now: Time::ZERO,
            waiters: Waiters::with_capacity(capacity),
            walks: Walks::new(capacity),
            lookups: LookupTable::new(capacity),
            held: Held::new(limits.held_bytes),
            long_buffers: LongBuffers::new(),
        };
        Apart { strands: StrandTable::new(capacity), facilities }
    }

    /// Takes back what an op has here: its reply is lost.
    #[cold]
    pub(super) fn release(&mut self, op: &mut Op<P>, memory: &mut impl Memory<Pending = P>) {
        match op.ranges {
            SPLIT => self.strands.release(op, &mut self.facilities.long_buffers, memory),
            KEPT => self.facilities.long_buffers.release(op),
            _ => {}
        }
        op.ranges = 0;
    }

    /// Copies a part of a reply that is here.
    #[inline(never)]
    pub(super) fn copy(
        &self,
        op: &Op<P>,
        memory: &impl Memory<Pending = P>,
        offset: u32,
        into: &mut [u8],
    ) -> Result<(), Status> {
        match op.ranges {
            SPLIT => op.copy_strands(memory, self, offset, into),
            KEPT => self.facilities.long_buffers.copy(op, offset, into),
            _ => op.copy_lookups(memory, self, offset, into),
        }
    }
}
