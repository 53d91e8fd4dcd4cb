//! Ops whose payload is held, and ops that look at theirs on its way.

use nic_wire::Status;

use super::Executor;
use super::apart::Facilities;
use super::payload::{Parts, PayloadError};
use super::slot::{EARLY, HOLDS, Op, Slot, State, TAPS};
use super::step::{After, Turn};
use crate::kernel::{BadArguments, Extent, Kernel, Pointer, Run};
use crate::memory::{Access, AccessError, Grant, Memory, Request};
use crate::set::{KernelSet, Visit};
use crate::{ARRANGED_BLOCKS, PRIVATE_BYTES, RUNS_MAX};

impl<P: Copy> Op<P> {
    /// The kernel wants the payload held, and perhaps memory for itself.
    #[cold]
    pub(super) fn hold_payload<M: Memory<Pending = P>>(
        &mut self,
        has_private: bool,
        turn: &mut Turn<'_, M>,
    ) -> After {
        let is_early = self.marks & EARLY != 0;
        let is_held = self.marks & (HOLDS | TAPS) != 0 || self.payload.received != 0;
        if self.is_strand() || (is_held && !is_early) {
            return self.finish(Status::Unsupported, true);
        }
        // Better now than when something has been reserved for it.
        if let Err(error) = turn.memory.permit(self.grant(), Access::WRITE) {
            return self.finish(error.status(), false);
        }
        let (held, export) = (&mut turn.facilities.held, self.grant.export());
        if !is_early {
            let Some(chain) = held.take(self.payload.length, export) else {
                return self.finish(Status::Busy, false);
            };
            self.payload.held = chain;
            self.payload.placed = 0;
        }
        if has_private && !held.take_private(&mut self.payload.held, export) {
            if !is_early {
                // An op that fails at its first step is not looked through for what it has.
                held.give_back(self.payload.held, export);
            }
            return self.finish(Status::Busy, false);
        }
        self.marks = self.marks & !EARLY | HOLDS;
        if self.payload.received == self.payload.length {
            self.state = State::PayloadHeld;
            return After::Queue;
        }
        self.state = State::Holding;
        After::Park
    }

    /// The kernel wants to look at the payload on its way.
    #[cold]
    pub(super) fn tap_payload<M: Memory<Pending = P>>(
        &mut self,
        extent: Extent,
        turn: &mut Turn<'_, M>,
    ) -> After {
        if self.is_strand() || self.marks & (HOLDS | TAPS) != 0 {
            return self.finish(Status::Unsupported, true);
        }
        let after = self.await_payload(turn.memory, extent);
        if after == After::Over {
            return after;
        }
        let Some(chain) = turn.facilities.held.take(PRIVATE_BYTES as u32, self.grant.export())
        else {
            if let State::Payload(pending) = self.state {
                turn.memory.abandon(&pending);
            }
            return self.finish(Status::Busy, false);
        };
        self.payload.held = chain;
        self.marks |= TAPS;
        after
    }

    /// A copy of a part of the memory that the op has for itself.
    pub(super) fn peek<'s, M>(
        &mut self,
        turn: &mut Turn<'_, M>,
        offset: u32,
        length: u32,
        scratch: &'s mut [u8; crate::FETCH_BYTES_MAX],
    ) -> Option<&'s [u8]> {
        if self.marks & TAPS == 0 {
            return None;
        }
        let (start, length) = (offset as usize, length as usize);
        let private = turn.facilities.held.at(&mut self.payload.held, 0);
        let part = private.get(start..start.checked_add(length)?)?;
        let copy = scratch.get_mut(..length)?;
        copy.copy_from_slice(part);
        Some(copy)
    }

    /// The kernel has said where the payload goes that was held.
    #[cold]
    pub(super) fn place_held<K: Kernel, M: Memory<Pending = P>>(
        &mut self,
        kernel: &K,
        extent: Extent,
        turn: &mut Turn<'_, M>,
    ) -> After {
        if extent.length != self.payload.length {
            return self.finish(Status::Unsupported, false);
        }
        let pending = match turn.memory.submit(self.grant(), &Request::Payload(extent)) {
            Ok(pending) => pending,
            Err(error) => return self.refused(error.status(), kernel.must_end()),
        };
        self.target = extent;
        self.payload.placed = 0;
        self.marks &= !EARLY;
        if self.payload.received < self.payload.length {
            self.state = State::HoldingFor(pending);
            return After::Park;
        }
        self.state = State::Placing(pending);
        After::Queue
    }

    /// Places one more block of what was held. Whether that was the last; then, and after an error,
    /// the place is given back.
    pub(super) fn place_next<M: Memory<Pending = P>>(
        &mut self,
        pending: &P,
        turn: &mut Turn<'_, M>,
    ) -> Result<bool, AccessError> {
        let (offset, length) = (self.payload.placed, self.payload.length);
        let mut last = offset == length;
        let mut placed = Ok(());
        if !last {
            let block = turn.facilities.held.at(&mut self.payload.held, offset);
            let count = block.len().min((length - offset) as usize);
            *turn.cost += 1 + (count >> 6) as u64;
            self.payload.placed += count as u32;
            last = self.payload.placed == length;
            let mut parts = Parts {
                memory: &mut *turn.memory,
                pending,
                kept: &mut self.payload.last_word,
                changed: &mut self.changed,
            };
            placed = parts.place(offset, &block[..count], last);
        }
        if last || placed.is_err() {
            turn.memory.abandon(pending);
        }
        placed.map(|()| last)
    }

    /// Stores a few words at once.
    #[cold]
    pub(super) fn store_words<K: Kernel, M: Memory<Pending = P>>(
        &mut self,
        kernel: &K,
        at: Extent,
        turn: &mut Turn<'_, M>,
    ) -> After {
        let mut bytes = [0; 32];
        for (place, word) in bytes.chunks_exact_mut(8).zip(kernel.words()) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let Some(bytes) = bytes.get(..at.length as usize).filter(|bytes| bytes.len() % 8 == 0)
        else {
            return self.finish(Status::Unsupported, false);
        };
        *turn.cost += 1;
        if let Err(error) = store(turn.memory, self.grant(), at, bytes) {
            return self.refused(error.status(), kernel.must_end());
        }
        self.changed = true;
        self.target = at;
        self.state = State::Stored;
        After::Queue
    }

    /// Stores parts of a block of what is held.
    #[cold]
    pub(super) fn store_runs<K: Kernel, M: Memory<Pending = P>>(
        &mut self,
        kernel: &mut K,
        offset: u32,
        region: u8,
        turn: &mut Turn<'_, M>,
    ) -> After {
        if self.marks & HOLDS == 0 {
            return self.finish(Status::Unsupported, false);
        }
        let (grant, length) = (self.grant(), self.payload.length);
        let Facilities { held, waiters, .. } = &mut *turn.facilities;
        let Some([block, private]) = held.block_and_private(&mut self.payload.held, offset, length)
        else {
            return self.finish(Status::Unsupported, false);
        };
        for _ in 0..RUNS_MAX {
            let Some(Run { start, length, address }) = kernel.next_run(block, private) else {
                break;
            };
            let end = start.saturating_add(length) as usize;
            let part = block.get(start as usize..end).filter(|part| !part.is_empty());
            let Some(part) = part else { return self.finish(Status::Unsupported, false) };
            *turn.cost += 1 + (part.len() >> 6) as u64;
            let at = Extent::followed(Pointer { region, address }, length);
            if let Err(error) = store(turn.memory, grant, at, part) {
                return self.refused(error.status(), kernel.must_end());
            }
            self.payload.placed = self.payload.placed.saturating_add(length);
            self.changed = true;
            self.target = at;
            if !waiters.is_empty() {
                waiters.wake(&at);
            }
        }
        *turn.cost += 1;
        self.state = State::Stored;
        After::Queue
    }

    /// Shows the kernel a part of what is held. Whether there is one.
    pub(super) fn arrange<K: KernelSet, M>(
        &mut self,
        kernel: &mut Option<K>,
        turn: &mut Turn<'_, M>,
        offset: u32,
    ) -> bool {
        let (held, length) = (&mut turn.facilities.held, self.payload.length);
        let Some(kernel) = kernel.as_mut().filter(|_| self.marks & HOLDS != 0) else {
            return false;
        };
        let Some((blocks, private)) =
            held.blocks_and_private(&mut self.payload.held, offset, length)
        else {
            return false;
        };
        *turn.cost += 1 + u64::from(kernel.visit(Arrange { blocks, private }) >> 6);
        true
    }
}

/// Stores a few bytes at once.
#[inline]
fn store<M: Memory>(
    memory: &mut M,
    grant: Grant,
    at: Extent,
    bytes: &[u8],
) -> Result<(), AccessError> {
    let pending = memory.submit(grant, &Request::Payload(at))?;
    let placed = memory.place(&pending, 0, bytes);
    memory.abandon(&pending);
    placed
}

/// Shows a kernel a part of its payload, and its op's own memory.
struct Arrange<'a> {
    blocks: [&'a mut [u8]; ARRANGED_BLOCKS],
    private: &'a mut [u8],
}

impl Visit for Arrange<'_> {
    type Output = u32;

    fn visit<K: Kernel>(self, kernel: &mut K) -> u32 {
        let Arrange { mut blocks, private } = self;
        kernel.arrange(&mut blocks, private)
    }
}

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// Keeps a part of a payload that is held.
    #[cold]
    pub(super) fn hold_part(
        &mut self,
        index: u32,
        offset: u32,
        part: &[u8],
        memory: &mut M,
    ) -> Result<(), PayloadError> {
        let op = &mut self.slots[index as usize].op;
        let length = op.payload.length;
        let is_over = matches!(op.state, State::Finished | State::Reported);
        if is_over || op.payload.received == length {
            return Err(PayloadError::Over);
        }
        let end = offset as usize + part.len();
        let total = op.payload.received as usize + part.len();
        if end > length as usize || total > length as usize {
            self.refuse_held(index, memory, Status::BadArguments);
            return Err(PayloadError::Overrun { offset, found: part.len(), length });
        }
        // A revoked op takes up no more room.
        if let Err(error) = memory.permit(op.grant, Access::empty()) {
            self.refuse_held(index, memory, error.status());
            return Err(PayloadError::Refused(error.status()));
        }
        self.cost += part.len() as u64 >> 6;
        self.apart.facilities.held.keep(&mut op.payload.held, offset, part);
        op.payload.received = total as u32;
        if total < length as usize {
            return Ok(());
        }
        match op.state {
            State::Holding => op.state = State::PayloadHeld,
            State::HoldingFor(pending) => op.state = State::Placing(pending),
            // Its kernel has not asked for it yet.
            _ => return Ok(()),
        }
        self.unpark(index);
        self.ready.push(index);
        Ok(())
    }

    /// Ends an op whose payload is held and not whole.
    #[cold]
    fn refuse_held(&mut self, index: u32, memory: &mut M, status: Status) {
        let op = &mut self.slots[index as usize].op;
        match op.state {
            State::Holding | State::HoldingFor(_) => self.end_parked(index, memory, status),
            // It is in the queue already.
            State::Fetching(pending) => {
                memory.abandon(&pending);
                op.finish(status, false);
            }
            // Its kernel goes on, and finds no payload.
            _ => {
                op.deadline = nic_wire::Time::ZERO;
                self.parked_deadline = nic_wire::Time::ZERO;
            }
        }
    }
}

/// Shows a kernel a part of its payload.
struct Tap<'a> {
    offset: u32,
    part: &'a [u8],
    private: &'a mut [u8],
}

impl Visit for Tap<'_> {
    type Output = Result<(), BadArguments>;

    fn visit<K: Kernel>(self, kernel: &mut K) -> Result<(), BadArguments> {
        kernel.tap(self.offset, self.part, self.private)
    }
}

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// Shows an op's kernel a part of its payload on the way to memory.
    #[cold]
    pub(super) fn tap(
        &mut self,
        index: u32,
        offset: u32,
        part: &[u8],
        memory: &mut M,
    ) -> Result<(), PayloadError> {
        let Slot { op, kernel } = &mut self.slots[index as usize];
        let private = self.apart.facilities.held.at(&mut op.payload.held, 0);
        let tap = Tap { offset, part, private: &mut private[..PRIVATE_BYTES] };
        let Some(Err(refused)) = kernel.as_mut().map(|kernel| kernel.visit(tap)) else {
            return Ok(());
        };
        self.end_parked(index, memory, refused.status());
        Err(PayloadError::Refused(refused.status()))
    }
}
