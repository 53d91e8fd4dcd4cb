//! How ops begin, and how their slots become free.

use nic_wire::{Fate, Status, Time};

use super::advance::After;
use super::slot::{Payload, State};
use super::{Executor, Invocation, SlotId};
use crate::kernel::{Call, Event};
use crate::memory::{Grant, Memory};
use crate::set::KernelSet;

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// Begins an op: its arguments are parsed, its first step is taken and its first fetch is under
    /// way. If it is over already, the next [`run`](Self::run) reports it.
    ///
    /// # Errors
    /// The status with which the op ends. It has changed nothing and has no slot.
    #[inline]
    pub fn start(
        &mut self,
        memory: &mut M,
        now: Time,
        grant: Grant,
        invocation: &Invocation<'_>,
    ) -> Result<SlotId, Status> {
        if now >= invocation.deadline {
            return Err(Status::Expired);
        }
        let call = Call {
            arguments: invocation.arguments,
            home: grant.home(),
            payload_length: invocation.payload_length,
            reply_capacity: invocation.reply_capacity,
        };
        let kernel = K::begin(invocation.kernel, &call).map_err(|refused| refused.status())?;
        let index = self.free.pop().ok_or(Status::Busy)?;
        let slot = &mut self.slots[index as usize];
        slot.kernel = Some(kernel);
        slot.grant = grant;
        slot.owner = invocation.owner;
        slot.deadline = invocation.deadline;
        slot.steps = 0;
        slot.reply_capacity = invocation.reply_capacity;
        slot.bytes = 0;
        slot.range_bytes = 0;
        slot.gathered = 0;
        slot.ranges = 0;
        slot.changed = false;
        slot.payload = Payload {
            length: invocation.payload_length,
            received: 0,
            last_word: [0; 8],
            parked_at: 0,
        };
        let id = SlotId { index, generation: slot.generation };
        let after = self.step(index, memory, Event::Start);
        if let State::Finished(finish) = self.slots[index as usize].state
            && !matches!(finish.status, Status::Ok | Status::Continues)
        {
            self.drop_ranges(index as usize, memory);
            self.vacate(index);
            return Err(finish.status);
        }
        match after {
            After::Park => self.park(index),
            _ => self.ready.push(index),
        }
        Ok(id)
    }

    /// Gives the slot of a finished op back; a stale name is ignored. An op that is still under way
    /// is cancelled.
    #[inline]
    pub fn free(&mut self, slot: SlotId, memory: &mut M) {
        self.cancel(slot, memory);
    }

    /// Stops an op whose owner went away, wherever it is, and frees its slot. Returns what is then
    /// known of its effect; for a stale name, nothing is.
    pub fn cancel(&mut self, slot: SlotId, memory: &mut M) -> Fate {
        let Some(index) = self.find(slot) else { return Fate::Unknown };
        let changed = self.slots[index].changed;
        let stopped = if changed { Fate::Unknown } else { Fate::NotExecuted };
        self.drop_ranges(index, memory);
        match self.slots[index].state {
            State::Reported(finish) => {
                self.vacate(slot.index);
                finish.fate
            }
            State::Payload(pending) => {
                memory.abandon(&pending);
                self.unpark(slot.index);
                self.vacate(slot.index);
                stopped
            }
            // The rest are in the queue, and leave it when their turn comes.
            State::Finished(finish) => {
                self.slots[index].state = State::Cancelled;
                finish.fate
            }
            State::Fetching(pending) => {
                memory.abandon(&pending);
                self.slots[index].state = State::Cancelled;
                stopped
            }
            State::PayloadPlaced | State::Free | State::Cancelled => {
                self.slots[index].state = State::Cancelled;
                stopped
            }
        }
    }

    /// Lets go of what ops hold whose export has been revoked, so that a revocation need not wait
    /// for peers: finished ops lose their replies, and copying those fails from then on; ops that
    /// wait for payload end as revoked. All others end at their next step. Control work: it looks
    /// at every slot.
    pub fn release_revoked(&mut self, memory: &mut M) {
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if slot.is_free() || memory.permit(slot.grant, crate::Access::empty()).is_ok() {
                continue;
            }
            match slot.state {
                State::Finished(_) | State::Reported(_) => self.drop_ranges(index, memory),
                // The table of slots is shorter than a u32 reaches.
                State::Payload(_) => self.end_payload(index as u32, memory, Status::Revoked),
                _ => {}
            }
        }
    }

    /// Gives the ranges of a reply back to the memory.
    #[inline]
    pub(super) fn drop_ranges(&mut self, index: usize, memory: &mut M) {
        let count = usize::from(self.slots[index].ranges);
        for range in self.ranges[index][..count].iter_mut().filter_map(Option::take) {
            memory.abandon(&range.pending);
        }
        self.slots[index].ranges = 0;
    }

    #[inline]
    pub(super) fn vacate(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.state = State::Free;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
    }
}
