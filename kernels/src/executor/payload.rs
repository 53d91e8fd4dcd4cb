//! Payload that arrives in parts, in any order.

use nic_wire::{Status, Time};

use super::apart::Apart;
use super::slot::{EARLY, HOLDS, Op, Slot, State, TAPS};
use super::step::{After, Turn};
use super::{Executor, SlotId};
use crate::memory::{Access, AccessError, Memory};
use crate::set::KernelSet;

/// How many steps a kernel may take with a part of its payload waiting (start).
const SEEK_STEPS_MAX: usize = 64;

/// Why a part of a payload was not placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The op is over, or its payload was whole: drop the part.
    #[error("the op takes no more payload; drop the part")]
    Over,
    /// The part leaves the payload. The op has ended as [`Status::BadArguments`].
    #[error("a part of {found} bytes at {offset} leaves a payload of {length} bytes")]
    Overrun {
        /// Where the part begins.
        offset: u32,
        /// Its length in bytes.
        found: usize,
        /// The payload's length in bytes.
        length: u32,
    },
    /// Memory refused the part, or there is no room to hold it until the kernel has said where its
    /// payload goes ([`Status::Busy`]). The op has ended with this status.
    #[error("the part could not be placed: {0}")]
    Refused(Status),
}

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// Places a part of an op's payload, `offset` bytes into it. Parts come in any order, each byte
    /// once; when all are in, the last aligned word is stored and the kernel goes on.
    ///
    /// A peer that sends overlapping parts spoils its own write and nothing else. A kernel that has
    /// not said yet where its payload goes is advanced until it does: the part is here only now. If
    /// memory has to answer first, the payload is held.
    ///
    /// # Errors
    /// The part was not placed; where the op ended for it, the next [`run`](Self::run) reports it.
    #[inline]
    pub fn payload(
        &mut self,
        slot: SlotId,
        offset: u32,
        part: &[u8],
        memory: &mut M,
    ) -> Result<(), PayloadError> {
        let found = self.find(slot).ok_or(PayloadError::Over)?;
        if found.marks & HOLDS == 0 && found.payload.received < found.payload.length {
            match found.state {
                State::Payload(_) => {}
                State::Fetching(_) | State::Nowhere(_) | State::Stored | State::Looking(_) => {
                    self.seek_place(slot.index, memory)?;
                }
                State::Awaiting | State::Flushing(_) if found.payload.received == 0 => {
                    self.hold_while_parked(slot.index, memory)?;
                }
                _ => {}
            }
        }
        let found = &mut self.slots[slot.index as usize].op;
        if found.marks & HOLDS != 0 {
            return self.hold_part(slot.index, offset, part, memory);
        }
        let State::Payload(pending) = found.state else { return Err(PayloadError::Over) };
        let length = found.payload.length;
        let end = offset as usize + part.len();
        let total = found.payload.received as usize + part.len();
        if end > length as usize || total > length as usize {
            self.end_parked(slot.index, memory, Status::BadArguments);
            return Err(PayloadError::Overrun { offset, found: part.len(), length });
        }
        if part.is_empty() {
            return Ok(());
        }
        self.cost += part.len() as u64 >> 6;
        if found.marks & TAPS != 0 {
            self.tap(slot.index, offset, part, memory)?;
        }
        let found = &mut self.slots[slot.index as usize].op;
        found.payload.received = total as u32;
        let whole = total == length as usize;
        let mut parts = Parts {
            memory,
            pending: &pending,
            kept: &mut found.payload.last_word,
            changed: &mut found.changed,
        };
        let placed = if part.len() == length as usize {
            parts.place_whole(part)
        } else {
            parts.place(offset, part, whole)
        };
        if let Err(error) = placed {
            self.end_parked(slot.index, memory, error.status());
            return Err(PayloadError::Refused(error.status()));
        }
        if whole {
            memory.abandon(&pending);
            self.unpark(slot.index);
            self.slots[slot.index as usize].op.state = State::PayloadPlaced;
            self.ready.push(slot.index);
        }
        Ok(())
    }

    /// Advances an op whose kernel fetches something before it says where its payload goes.
    #[cold]
    fn seek_place(&mut self, index: u32, memory: &mut M) -> Result<(), PayloadError> {
        let Executor { slots, scratch, apart, limits, cost, .. } = self;
        let Slot { op, .. } = &slots[index as usize];
        if op.payload.received == op.payload.length {
            return Err(PayloadError::Over);
        }
        for _ in 0..SEEK_STEPS_MAX {
            let Slot { op, kernel } = &mut slots[index as usize];
            let facilities = &mut apart.facilities;
            let turn = Turn { memory, facilities, limits, cost };
            match op.advance_rare(kernel, turn, scratch) {
                After::Queue => {}
                After::Park => {
                    self.ready.retain(|queued| *queued != index);
                    self.park(index);
                    return self.hold_while_parked(index, memory);
                }
                After::Over => return Err(PayloadError::Over),
                After::NotYet | After::Gone | After::Split | After::Walk => break,
            }
        }
        let op = &mut slots[index as usize].op;
        let is_under_way = matches!(
            op.state,
            State::Fetching(_) | State::Nowhere(_) | State::Stored | State::Looking(_)
        );
        if is_under_way && op.hold_early(apart, memory) {
            return Ok(());
        }
        match &op.state {
            State::Fetching(pending) => memory.abandon(pending),
            State::Looking(pending) => {
                memory.abandon(pending);
                apart.facilities.waiters.remove(index);
            }
            _ => {}
        }
        op.finish(Status::Busy, false);
        Err(PayloadError::Refused(Status::Busy))
    }

    /// An op has parked. If that is not for its payload, the payload is held.
    #[cold]
    fn hold_while_parked(&mut self, index: u32, memory: &mut M) -> Result<(), PayloadError> {
        let op = &mut self.slots[index as usize].op;
        let is_for_payload =
            matches!(op.state, State::Payload(_) | State::Holding | State::HoldingFor(_));
        if is_for_payload || op.hold_early(&mut self.apart, memory) {
            return Ok(());
        }
        self.end_parked(index, memory, Status::Busy);
        Err(PayloadError::Refused(Status::Busy))
    }

    /// Takes an op out of the rounds until its payload is whole, its strands begin, or a word has
    /// changed.
    #[inline]
    pub(super) fn park(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize].op;
        slot.payload.parked_at = self.parked.len() as u32;
        self.parked_deadline = self.parked_deadline.min(slot.due());
        self.parked.push(index);
    }

    #[inline]
    pub(super) fn unpark(&mut self, index: u32) {
        let place = self.slots[index as usize].op.payload.parked_at;
        self.parked.swap_remove(place as usize);
        if let Some(moved) = self.parked.get(place as usize) {
            self.slots[*moved as usize].op.payload.parked_at = place;
        }
    }

    /// Ends parked ops whose deadline has passed, looks again at words and flushes that are waited
    /// for, and finds when that is due for the others.
    #[cold]
    pub(super) fn see_to_parked(&mut self, memory: &mut M, now: Time) {
        let mut earliest = Time::NEVER;
        let mut place = 0;
        while let Some(&index) = self.parked.get(place) {
            let op = &self.slots[index as usize].op;
            let (due, deadline) = (op.due(), op.deadline);
            // Where one leaves, another takes its place.
            if now >= deadline {
                self.end_parked(index, memory, Status::Expired);
            } else if now >= due {
                self.rouse(index, memory);
            } else {
                earliest = earliest.min(due);
                place += 1;
            }
        }
        self.parked_deadline = earliest;
    }

    /// Ends a parked op: its payload is not whole, its strands have not begun, the word did not
    /// change, or the flush is not over.
    #[cold]
    pub(super) fn end_parked(&mut self, index: u32, memory: &mut M, status: Status) {
        let slot = &mut self.slots[index as usize].op;
        match slot.state {
            State::Payload(pending) | State::HoldingFor(pending) | State::Flushing(pending) => {
                memory.abandon(&pending)
            }
            State::Awaiting => self.apart.facilities.waiters.remove(index),
            State::Waiting => self.apart.strands.forget(index),
            _ => {}
        }
        slot.finish(status, false);
        self.unpark(index);
        self.ready.push(index);
    }
}

impl<P: Copy> Op<P> {
    /// Holds a payload whose place is not known yet; whether there is room.
    #[cold]
    fn hold_early(&mut self, apart: &mut Apart<P>, memory: &impl Memory<Pending = P>) -> bool {
        let is_allowed = memory.permit(self.grant(), Access::WRITE).is_ok();
        if !is_allowed || self.marks & TAPS != 0 {
            return false;
        }
        let held = &mut apart.facilities.held;
        let Some(chain) = held.take(self.payload.length, self.grant.export()) else {
            return false;
        };
        self.payload.held = chain;
        self.payload.placed = 0;
        self.marks |= HOLDS | EARLY;
        true
    }
}

/// Where the parts of one payload go.
pub(super) struct Parts<'a, M: Memory> {
    pub(super) memory: &'a mut M,
    pub(super) pending: &'a M::Pending,
    /// The bytes of the last aligned word that have come.
    pub(super) kept: &'a mut [u8; 8],
    /// Set as soon as anything is placed.
    pub(super) changed: &'a mut bool,
}

impl<M: Memory> Parts<'_, M> {
    #[inline]
    fn place_whole(&mut self, payload: &[u8]) -> Result<(), AccessError> {
        self.memory.place_whole(self.pending, payload)?;
        *self.changed = true;
        Ok(())
    }

    /// Places a part, keeping back those of its bytes that belong to the last aligned word, which
    /// follows when the part is the `last` to come.
    pub(super) fn place(
        &mut self,
        offset: u32,
        part: &[u8],
        last: bool,
    ) -> Result<(), AccessError> {
        let Some(word) = self.memory.last_word(self.pending) else {
            return self.place_now(offset as usize, part);
        };
        let (start, word) = (offset as usize, word as usize);
        let end = start + part.len();
        let (from, to) = (start.clamp(word, word + 8), end.clamp(word, word + 8));
        self.kept[from - word..to - word].copy_from_slice(within(part, start, from, to));
        self.place_now(start, within(part, start, start, end.min(word)))?;
        let after = start.max(word + 8);
        self.place_now(after, within(part, start, after, end))?;
        if last {
            self.memory.place_last_word(self.pending, *self.kept)?;
            *self.changed = true;
        }
        Ok(())
    }

    fn place_now(&mut self, offset: usize, bytes: &[u8]) -> Result<(), AccessError> {
        if !bytes.is_empty() {
            // Offsets lie within the payload, whose length is 32 bits wide.
            self.memory.place(self.pending, offset as u32, bytes)?;
            *self.changed = true;
        }
        Ok(())
    }
}

/// Of a part that begins at `start`, the bytes between two offsets of the payload.
fn within(part: &[u8], start: usize, from: usize, to: usize) -> &[u8] {
    if from < to { &part[from - start..to - start] } else { &[] }
}
