//! Payload that the executor holds until it is whole, in blocks of one pool.
//!
//! An op takes all blocks that its payload will need before the first part comes, or none: what is
//! begun can be brought to its end. Ops under one export have a quarter of the pool at the most, so
//! that payload which never comes holds up nobody else.

use alloc::vec::Vec;

use nic_wire::Status;

use super::Executor;
use super::payload::{Parts, PayloadError};
use super::slot::{EARLY, HOLDS, Op, Slot, State, TAPS};
use super::step::{After, Turn};
use crate::PRIVATE_BYTES;
use crate::kernel::{BadArguments, Extent, Kernel};
use crate::memory::{Access, AccessError, Memory, Request};
use crate::set::{KernelSet, Visit};

/// Bytes of a block: what one step moves at the most.
const BLOCK: usize = crate::FETCH_BYTES_MAX;
/// What an export's ops may have at the most is the pool divided by this.
const SHARES: u32 = 4;
/// The end of a chain.
const NONE: u32 = u32::MAX;

/// The blocks of one payload, and the one that was last looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    first: u32,
    /// Which of the chain's blocks `at` is.
    ordinal: u32,
    at: u32,
}

impl Chain {
    /// No block.
    pub(super) const NONE: Chain = Chain { first: NONE, ordinal: 0, at: NONE };
}

/// A pool of blocks.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// What follows each block, in its payload or in the list of free blocks.
    next: Vec<u32>,
    free: u32,
    free_count: u32,
    /// How many blocks the ops under each export have.
    taken: Vec<u32>,
}

impl Held {
    pub(super) fn new(bytes: u32) -> Self {
        let count = bytes.div_ceil(BLOCK as u32);
        let next = (1..count).chain([NONE]).take(count as usize).collect();
        let free = if count == 0 { NONE } else { 0 };
        let bytes = alloc::vec![0; count as usize * BLOCK];
        // What is zero takes no memory before it is used.
        let taken = alloc::vec![0; usize::from(u16::MAX) + 1];
        Held { bytes, next, free, free_count: count, taken }
    }

    /// Blocks for so many bytes, all zero, for an op under an export, if there are enough.
    pub(super) fn take(&mut self, length: u32, export: u16) -> Option<Chain> {
        let count = length.div_ceil(BLOCK as u32);
        let taken = &mut self.taken[usize::from(export)];
        let share = self.next.len() as u32 / SHARES;
        if count > self.free_count || *taken + count > share {
            return None;
        }
        *taken += count;
        let (first, mut last) = (self.free, NONE);
        for _ in 0..count {
            last = self.free;
            self.free = self.next[last as usize];
        }
        if last == NONE {
            return Some(Chain::NONE);
        }
        self.next[last as usize] = NONE;
        self.free_count -= count;
        Some(Chain { first, ordinal: 0, at: first })
    }

    /// The blocks of a payload are free again, and nobody sees what was there.
    pub(super) fn give_back(&mut self, chain: Chain, export: u16) {
        let mut block = chain.first;
        while block != NONE {
            let next = self.next[block as usize];
            self.taken[usize::from(export)] -= 1;
            self.bytes[block as usize * BLOCK..][..BLOCK].fill(0);
            self.next[block as usize] = self.free;
            self.free = block;
            self.free_count += 1;
            block = next;
        }
    }

    /// The part of the block at `offset` of a payload that begins there. Offsets that ascend are
    /// found at once.
    fn at(&mut self, chain: &mut Chain, offset: u32) -> &mut [u8] {
        let ordinal = offset / BLOCK as u32;
        if ordinal < chain.ordinal {
            (chain.ordinal, chain.at) = (0, chain.first);
        }
        while chain.ordinal < ordinal {
            chain.at = self.next[chain.at as usize];
            chain.ordinal += 1;
        }
        let start = chain.at as usize * BLOCK;
        &mut self.bytes[start + offset as usize % BLOCK..start + BLOCK]
    }

    /// Keeps a part of a payload.
    fn keep(&mut self, chain: &mut Chain, offset: u32, part: &[u8]) {
        let (mut offset, mut rest) = (offset, part);
        while !rest.is_empty() {
            let place = self.at(chain, offset);
            let (now, later) = rest.split_at(rest.len().min(place.len()));
            place[..now.len()].copy_from_slice(now);
            // Within the payload, whose length is 32 bits wide.
            offset += now.len() as u32;
            rest = later;
        }
    }
}

impl<P: Copy> Op<P> {
    /// The kernel wants the payload held.
    #[cold]
    pub(super) fn hold_payload<M: Memory<Pending = P>>(&mut self, turn: &mut Turn<'_, M>) -> After {
        if self.marks & EARLY != 0 {
            self.marks &= !EARLY;
            if self.payload.received == self.payload.length {
                self.state = State::PayloadHeld;
                return After::Queue;
            }
            self.state = State::Holding;
            return After::Park;
        }
        if self.is_strand() || self.marks & (HOLDS | TAPS) != 0 || self.payload.received != 0 {
            return self.finish(Status::Unsupported, true);
        }
        // Better now than when something has been reserved for it.
        if let Err(error) = turn.memory.permit(self.grant(), Access::WRITE) {
            return self.finish(error.status(), false);
        }
        let Some(chain) = turn.facilities.held.take(self.payload.length, self.grant.export())
        else {
            return self.finish(Status::Busy, false);
        };
        self.payload.held = chain;
        self.payload.placed = 0;
        self.marks |= HOLDS;
        if self.payload.length == 0 {
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
        self.store_now(kernel, at, bytes, &mut *turn.memory, &mut *turn.cost)
    }

    /// Stores a part of what is held.
    #[cold]
    pub(super) fn store_held<K: Kernel, M: Memory<Pending = P>>(
        &mut self,
        kernel: &K,
        offset: u32,
        at: Extent,
        turn: &mut Turn<'_, M>,
    ) -> After {
        let Turn { memory, facilities, cost, .. } = turn;
        let end = offset.checked_add(at.length).filter(|end| *end <= self.payload.length);
        if self.marks & HOLDS == 0 || end.is_none() || at.length == 0 {
            return self.finish(Status::Unsupported, false);
        }
        let block = facilities.held.at(&mut self.payload.held, offset);
        let Some(part) = block.get(..at.length as usize) else {
            return self.finish(Status::Unsupported, false);
        };
        let after = self.store_now(kernel, at, part, *memory, cost);
        if matches!(self.state, State::Stored) {
            self.payload.placed = self.payload.placed.saturating_add(at.length);
        }
        after
    }

    /// Stores a few bytes at once.
    fn store_now<K: Kernel, M: Memory<Pending = P>>(
        &mut self,
        kernel: &K,
        at: Extent,
        bytes: &[u8],
        memory: &mut M,
        cost: &mut u64,
    ) -> After {
        *cost += 1 + (bytes.len() >> 6) as u64;
        let stored = memory.submit(self.grant(), &Request::Payload(at)).and_then(|pending| {
            let placed = memory.place(&pending, 0, bytes);
            memory.abandon(&pending);
            placed
        });
        if let Err(error) = stored {
            return self.refused(error.status(), kernel.must_end());
        }
        self.changed = true;
        self.target = at;
        self.state = State::Stored;
        After::Queue
    }

    /// Shows the kernel a block of what is held. Whether there is one.
    pub(super) fn arrange<K: KernelSet, M>(
        &mut self,
        kernel: &mut Option<K>,
        turn: &mut Turn<'_, M>,
        offset: u32,
    ) -> bool {
        let is_there = self.marks & HOLDS != 0
            && offset < self.payload.length
            && offset.is_multiple_of(BLOCK as u32);
        let Some(kernel) = kernel.as_mut().filter(|_| is_there) else { return false };
        let block = turn.facilities.held.at(&mut self.payload.held, offset);
        let count = block.len().min((self.payload.length - offset) as usize);
        let seen = kernel.visit(Arrange { block: &mut block[..count] });
        *turn.cost += 1 + u64::from(seen >> 6);
        true
    }
}

/// Shows a kernel a block of its payload.
struct Arrange<'a> {
    block: &'a mut [u8],
}

impl Visit for Arrange<'_> {
    type Output = u32;

    fn visit<K: Kernel>(self, kernel: &mut K) -> u32 {
        kernel.arrange(self.block)
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

const _: () = assert!(PRIVATE_BYTES <= BLOCK);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn what_is_kept_comes_back_whatever_the_order() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut pool = Held::new(64 * BLOCK as u32);
            let lengths = [0, 1, 4096, 4097, 20_000].map(|most| random.below(most + 1) as u32);
            let mut chains = lengths.map(|length| pool.take(length, 3).unwrap());
            for (number, length) in lengths.iter().enumerate() {
                let mut parts: Vec<u32> = (0..*length).step_by(700).collect();
                for place in 0..parts.len() {
                    let other = random.below(parts.len() as u64) as usize;
                    parts.swap(place, other);
                }
                for offset in parts {
                    let end = (offset + 700).min(*length);
                    let part: Vec<u8> = (offset..end).map(|at| at as u8 ^ number as u8).collect();
                    pool.keep(&mut chains[number], offset, &part);
                }
            }
            for (number, length) in lengths.iter().enumerate() {
                for offset in (0..*length).step_by(BLOCK) {
                    let block = pool.at(&mut chains[number], offset);
                    let count = block.len().min((*length - offset) as usize);
                    let expected = (offset..).map(|at| at as u8 ^ number as u8);
                    assert!(block[..count].iter().zip(expected).all(|(a, b)| *a == b), "{seed}");
                }
            }
            chains.into_iter().for_each(|chain| pool.give_back(chain, 3));
            assert_eq!(pool.free_count, 64, "seed {seed}");
            assert!(pool.take(16 * BLOCK as u32 + 1, 3).is_none());
            let all = pool.take(16 * BLOCK as u32, 3).unwrap();
            assert!(pool.take(1, 3).is_none() && pool.take(0, 3).is_some());
            assert!(pool.take(1, 4).is_some_and(|chain| chain.first != NONE), "others have theirs");
            pool.give_back(all, 3);
            assert!(pool.bytes.iter().all(|byte| *byte == 0), "nobody sees what was there");
        }
    }
}
