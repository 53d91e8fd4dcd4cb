//! What few ops need, apart from their slots.

use nic_wire::Status;

use super::long_buffers::LongBuffers;
use super::slot::{Op, SPLIT};
use super::strands::StrandTable;
use crate::memory::Memory;

/// Strands, and buffers for long replies.
#[derive(Debug)]
pub(super) struct Apart<P> {
    pub(super) strands: StrandTable<P>,
    pub(super) long_buffers: LongBuffers,
}

impl<P: Copy> Apart<P> {
    /// For an executor of so many ops. All memory is taken here.
    pub(super) fn new(capacity: usize) -> Self {
        Apart { strands: StrandTable::new(capacity), long_buffers: LongBuffers::new() }
    }

    /// Takes back what an op has here: its reply is lost.
    #[cold]
    pub(super) fn release(&mut self, op: &mut Op<P>, memory: &mut impl Memory<Pending = P>) {
        if op.ranges == SPLIT {
            self.strands.release(op, &mut self.long_buffers, memory);
        } else {
            self.long_buffers.release(op);
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
        if op.ranges == SPLIT {
            op.copy_strands(memory, self, offset, into)
        } else {
            self.long_buffers.copy(op, offset, into)
        }
    }
}
