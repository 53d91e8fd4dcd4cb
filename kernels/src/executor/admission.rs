//! How ops begin, and how their slots become free.

use nic_wire::{Fate, Status, Time};

use super::advance::must_end;
use super::apart::Apart;
use super::slot::{HOLDS, ORPHANED, Slot, State, TAPS};
use super::step::{After, Turn};
use super::{Executor, Invocation, SlotId};
use crate::kernel::{Call, Event, Kernel};
use crate::memory::{Grant, Memory};
use crate::set::{Choice, KernelSet};

/// Begins a kernel.
struct Start<'a, K, M: Memory> {
    slot: &'a mut Slot<K, M::Pending>,
    grant: Grant,
    invocation: &'a Invocation<'a>,
    turn: Turn<'a, M>,
}

impl<S: KernelSet, M: Memory> Choice<S> for Start<'_, S, M> {
    type Output = Result<After, Status>;

    #[inline(always)]
    fn chosen<K: Kernel>(self, wrap: impl FnOnce(K) -> S) -> Result<After, Status> {
        if K::IS_COMMON { self.begin(wrap) } else { self.begin_apart(wrap) }
    }
}

impl<'a> Invocation<'a> {
    /// What its kernel sees of it.
    #[inline(always)]
    fn call(&self, grant: Grant) -> Call<'a> {
        Call {
            arguments: self.arguments,
            home: grant.home(),
            payload_length: self.payload_length,
            reply_capacity: self.reply_capacity,
        }
    }
}

impl<S: KernelSet, M: Memory> Start<'_, S, M> {
    /// The same, for what is not worth code of its own where ops are started.
    #[inline(never)]
    fn begin_apart<K: Kernel>(self, wrap: impl FnOnce(K) -> S) -> Result<After, Status> {
        let Start { slot, grant, invocation, mut turn } = self;
        let call = invocation.call(grant);
        let kernel = K::begin(&call).map_err(|refused| refused.status())?;
        let Slot { op, kernel: place } = slot;
        // Most of these are long, and go on: they are made where they stay.
        let kernel = place.insert(wrap(kernel)).downcast::<K>().expect("it was put there");
        op.begin(grant, invocation);
        let after = op.step(kernel, Event::Start, &mut turn);
        if after == After::Over && !matches!(op.end.status, Status::Ok | Status::Continues) {
            op.drop_own_ranges(turn.memory);
            op.state = State::Free;
            return Err(op.end.status);
        }
        Ok(after)
    }

    /// The first step of an op; an error if it was its last and failed.
    #[inline(always)]
    fn begin<K: Kernel>(self, wrap: impl FnOnce(K) -> S) -> Result<After, Status> {
        let Start { slot, grant, invocation, mut turn } = self;
        let call = invocation.call(grant);
        let mut kernel = K::begin(&call).map_err(|refused| refused.status())?;
        let op = &mut slot.op;
        op.begin(grant, invocation);
        let after = op.step(&mut kernel, Event::Start, &mut turn);
        if after != After::Over {
            slot.kernel = Some(wrap(kernel));
        } else if !matches!(op.end.status, Status::Ok | Status::Continues) {
            op.drop_own_ranges(turn.memory);
            op.state = State::Free;
            return Err(op.end.status);
        }
        Ok(after)
    }
}

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// Begins an op: its arguments are parsed, its first step is taken and its first fetch is under
    /// way. If it is over already, the next [`run`](Self::run) reports it.
    ///
    /// # Errors
    /// The status with which the op ends. It has changed nothing and has no slot.
    #[inline(always)]
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
        let index = *self.free.last().ok_or(Status::Busy)?;
        let Executor { slots, apart, limits, cost, .. } = self;
        let slot = &mut slots[index as usize];
        let id = SlotId { index, generation: slot.op.generation };
        let facilities = &mut apart.facilities;
        facilities.now = now;
        let turn = Turn { memory, facilities, limits, cost };
        let start = Start { slot, grant, invocation, turn };
        let after = K::choose(invocation.kernel, start).unwrap_or(Err(Status::UnknownKernel))?;
        self.free.pop();
        match after {
            After::Walk => {}
            After::Park => self.park(index),
            After::Split => self.await_strands(index),
            _ => self.ready.push(index),
        }
        Ok(id)
    }

    /// Gives the slot of a finished op back; a stale name is ignored. An op that is still under way
    /// is cancelled.
    #[inline]
    pub fn free(&mut self, slot: SlotId, memory: &mut M) {
        let Some(Slot { op: found, .. }) = self.slots.get_mut(slot.index as usize) else { return };
        if found.generation == slot.generation && matches!(found.state, State::Reported) {
            found.drop_ranges(memory, &mut self.apart);
            found.vacate();
            self.free.push(slot.index);
        } else {
            self.cancel(slot, memory);
        }
    }

    /// Stops an op whose owner went away, wherever it is, and frees its slot. Returns what is then
    /// known of its effect; for a stale name, nothing is. An op that
    /// [must end by itself](Kernel::must_end) goes on until it has, and frees its slot then.
    #[cold]
    pub fn cancel(&mut self, slot: SlotId, memory: &mut M) -> Fate {
        if self.find(slot).is_none() {
            return Fate::Unknown;
        }
        if self.orphan(slot.index) {
            return Fate::Unknown;
        }
        let found = &mut self.slots[slot.index as usize].op;
        found.drop_ranges(memory, &mut self.apart);
        let stopped = if found.changed { Fate::Unknown } else { Fate::NotExecuted };
        if found.marks & (HOLDS | TAPS) != 0 {
            self.apart.facilities.held.give_back(found.payload.held, found.grant.export());
            found.marks = 0;
        }
        match found.state {
            State::Reported => {
                found.vacate();
                self.free.push(slot.index);
                found.end.fate
            }
            State::Payload(pending) | State::HoldingFor(pending) | State::Flushing(pending) => {
                memory.abandon(&pending);
                found.vacate();
                self.unpark(slot.index);
                self.free.push(slot.index);
                stopped
            }
            State::Holding | State::Awaiting => {
                found.vacate();
                self.apart.facilities.waiters.remove(slot.index);
                self.unpark(slot.index);
                self.free.push(slot.index);
                stopped
            }
            State::Waiting => {
                found.vacate();
                self.apart.strands.forget(slot.index);
                self.unpark(slot.index);
                self.free.push(slot.index);
                stopped
            }
            State::Fetching(pending) if self.shares.remove(slot.index) => {
                memory.abandon(&pending);
                found.vacate();
                self.free.push(slot.index);
                stopped
            }
            State::Walking if self.shares.remove(slot.index) => {
                found.vacate();
                self.free.push(slot.index);
                stopped
            }
            State::LookingUp => {
                found.state = State::Cancelled;
                stopped
            }
            State::Walking => {
                self.apart.facilities.walks.stop(slot.index);
                found.state = State::Cancelled;
                stopped
            }
            State::Split => {
                found.vacate();
                self.free.push(slot.index);
                stopped
            }
            // The rest are in the queue, and leave it when their turn comes.
            State::Finished => {
                found.state = State::Cancelled;
                found.end.fate
            }
            State::Fetching(pending)
            | State::Placing(pending)
            | State::Looking(pending)
            | State::Asking(pending) => {
                memory.abandon(&pending);
                self.apart.facilities.waiters.remove(slot.index);
                found.state = State::Cancelled;
                stopped
            }
            State::PayloadPlaced
            | State::PayloadHeld
            | State::Stored
            | State::Arranging { .. }
            | State::Peeking { .. }
            | State::Refused(_)
            | State::Nowhere(_)
            | State::Free
            | State::Cancelled => {
                found.state = State::Cancelled;
                stopped
            }
        }
    }

    /// If an op must end by itself, its name is stale from here on and nobody hears of its end.
    fn orphan(&mut self, index: u32) -> bool {
        let Slot { op, kernel } = &mut self.slots[index as usize];
        let is_under_way = !matches!(op.state, State::Finished | State::Reported);
        if !is_under_way || !must_end(kernel) {
            return false;
        }
        op.marks |= ORPHANED;
        op.generation = op.generation.wrapping_add(1);
        true
    }

    /// Lets go of what ops hold whose export has been revoked, so that a revocation need not wait
    /// for peers: finished ops lose their replies, and copying those fails from then on; ops that
    /// wait for payload or for a flush end as revoked. All others end at their next step. Control
    /// work: it looks at every slot.
    pub fn release_revoked(&mut self, memory: &mut M) {
        for index in 0..self.slots.len() {
            let op = &mut self.slots[index].op;
            if op.is_free() || memory.permit(op.grant, crate::Access::empty()).is_ok() {
                continue;
            }
            match op.state {
                State::Finished | State::Reported => op.drop_ranges(memory, &mut self.apart),
                // The table of slots is shorter than a u32 reaches.
                State::Payload(_)
                | State::Holding
                | State::HoldingFor(_)
                | State::Awaiting
                | State::Waiting
                | State::Flushing(_) => {
                    self.end_parked(index as u32, memory, Status::Revoked);
                }
                State::Fetching(pending) if self.shares.remove(index as u32) => {
                    memory.abandon(&pending);
                    op.finish(Status::Revoked, false);
                    self.ready.push(index as u32);
                }
                State::Walking if self.shares.remove(index as u32) => {
                    op.finish(Status::Revoked, false);
                    self.ready.push(index as u32);
                }
                _ => {}
            }
        }
        let Apart { strands, facilities } = &mut self.apart;
        strands.release_revoked(&mut facilities.long_buffers, memory);
    }
}
