//! Replies, made just in time.

use nic_wire::Status;

use super::apart::Apart;
use super::slot::{LOOKED_UP, Op, State};
use super::{Executor, SlotId};
use crate::memory::Memory;
use crate::set::KernelSet;

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// Length of a finished op's reply in bytes: zero if it failed, is under way, or the name is
    /// stale.
    #[inline]
    pub fn reply_length(&self, slot: SlotId) -> u32 {
        match self.find(slot) {
            Some(Op { state: State::Finished | State::Reported, end, .. }) => end.reply_length,
            _ => 0,
        }
    }

    /// Copies the part of a finished op's reply that begins at `offset`: what the kernel gathered,
    /// then the ranges that it added, straight from memory. A part may be copied again; what comes
    /// from memory may then differ.
    ///
    /// # Errors
    /// [`Status::OutOfBounds`] if the part leaves the reply; [`Status::Revoked`] if its memory was
    /// revoked meanwhile. `into` then holds anything.
    #[inline]
    pub fn copy_reply(
        &self,
        slot: SlotId,
        memory: &M,
        offset: u32,
        into: &mut [u8],
    ) -> Result<(), Status> {
        match self.find(slot) {
            Some(found) if matches!(found.state, State::Finished | State::Reported) => {
                found.copy_reply(memory, &self.apart, offset, into)
            }
            _ => Err(Status::OutOfBounds),
        }
    }
}

impl<P: Copy> Op<P> {
    /// Copies a part of the reply of an op that is over.
    #[inline(always)]
    pub(super) fn copy_reply(
        &self,
        memory: &impl Memory<Pending = P>,
        apart: &Apart<P>,
        offset: u32,
        into: &mut [u8],
    ) -> Result<(), Status> {
        if u64::from(offset) + into.len() as u64 > u64::from(self.end.reply_length) {
            return Err(Status::OutOfBounds);
        }
        if self.ranges >= LOOKED_UP {
            return apart.copy(self, memory, offset, into);
        }
        self.copy_own(memory, offset, into)
    }

    /// Copies a part of what the op itself replies, which must lie within its reply.
    #[inline(always)]
    pub(super) fn copy_own(
        &self,
        memory: &impl Memory<Pending = P>,
        offset: u32,
        into: &mut [u8],
    ) -> Result<(), Status> {
        let gathered = self.gather.length();
        let mut offset = offset as usize;
        let mut rest = into;
        if offset < gathered {
            let from = self.gather.bytes().get(offset..gathered).unwrap_or_default();
            let (place, behind) = rest.split_at_mut(from.len().min(rest.len()));
            place.copy_from_slice(&from[..place.len()]);
            if behind.is_empty() {
                return Ok(());
            }
            (offset, rest) = (gathered, behind);
        }
        if rest.is_empty() {
            return Ok(());
        }
        self.copy_ranges(memory, offset - gathered, rest)
    }

    /// Copies from the ranges, `offset` bytes into them.
    #[inline(always)]
    fn copy_ranges(
        &self,
        memory: &impl Memory<Pending = P>,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), Status> {
        let mut offset = offset;
        let mut rest = into;
        for range in self.range.iter().take(usize::from(self.ranges)).flatten() {
            let length = range.length as usize;
            if offset >= length {
                offset -= length;
                continue;
            }
            let count = rest.len().min(length - offset);
            let (part, after) = rest.split_at_mut(count);
            memory.copy_out(&range.pending, offset as u32, part).map_err(|error| error.status())?;
            rest = after;
            offset = 0;
            if rest.is_empty() {
                return Ok(());
            }
        }
        // Only revocation takes ranges from a reply.
        Err(Status::Revoked)
    }
}
