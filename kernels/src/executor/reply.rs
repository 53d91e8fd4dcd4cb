//! Replies, made just in time.

use nic_wire::Status;

use super::slot::State;
use super::{Executor, SlotId};
use crate::memory::Memory;
use crate::set::KernelSet;

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// Length of a finished op's reply in bytes: zero if it failed, is under way, or the name is
    /// stale.
    #[inline]
    pub fn reply_length(&self, slot: SlotId) -> u32 {
        match self.find(slot).map(|index| self.slots[index].state) {
            Some(State::Finished(finish) | State::Reported(finish)) => finish.reply_length,
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
        let index = self.find(slot).ok_or(Status::OutOfBounds)?;
        let length = u64::from(self.reply_length(slot));
        if u64::from(offset) + into.len() as u64 > length {
            return Err(Status::OutOfBounds);
        }
        let found = &self.slots[index];
        let gathered = &self.gathered[index][..usize::from(found.gathered)];
        let rest = match gathered.get(offset as usize..) {
            Some(from) => {
                let count = from.len().min(into.len());
                let (place, rest) = into.split_at_mut(count);
                place.copy_from_slice(&from[..count]);
                rest
            }
            None => into,
        };
        if rest.is_empty() {
            return Ok(());
        }
        let beyond = (offset as usize).saturating_sub(gathered.len());
        self.copy_ranges(index, memory, beyond, rest)
    }

    /// Copies from the ranges, `offset` bytes into them.
    #[inline]
    fn copy_ranges(
        &self,
        index: usize,
        memory: &M,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), Status> {
        let slot = &self.slots[index];
        let mut offset = offset;
        let mut rest = into;
        for range in self.ranges[index][..usize::from(slot.ranges)].iter().flatten() {
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
