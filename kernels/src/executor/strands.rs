//! Strands: independent parts of one op, which advance side by side so that their cache misses
//! overlap.
//!
//! A kernel that answers [`Step::Split`](crate::Step::Split) makes the kernel of each strand. A
//! strand is run like an op: it has a slot, a kernel, a reply, the op's deadline and rights, and
//! takes its turn in every round. The op itself does nothing until all of its strands are over; its
//! reply is theirs, each at a fixed distance from the one before, headed by a [`StrandHeader`].
//!
//! Slots of strands are apart from those of ops, so that strands never keep an op from starting. An
//! op takes all that it needs at once, or waits with none; those that wait take their turn in
//! order. So whoever holds slots needs no more of them to finish, and nothing can deadlock. An op
//! that waits is parked: its deadline and a revocation end it there.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use nic_wire::{Fate, KernelId, Status};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::apart::Apart;
use super::burst::{self, Round, Table};
use super::long_buffers::LongBuffers;
use super::slot::{KEPT, Op, SPLIT, STRAND, State};
use super::step::{After, Happened, Turn};
use super::{Budget, Executor, Finish, Invocation};
use crate::kernel::Event;
use crate::memory::Memory;
use crate::set::KernelSet;

/// The most strands of one op.
pub const STRANDS_MAX: usize = 64;
/// How many strands an executor has slots for (start).
pub(super) const STRAND_SLOTS: usize = 512;
const _: () = assert!(STRAND_SLOTS >= STRANDS_MAX && STRAND_SLOTS <= 1 << 16);
// The numbers of an op's strands stand where other ops gather.
const _: () = assert!(2 * STRANDS_MAX <= crate::GATHER_BYTES_MAX);

/// How an op is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strands {
    /// How many: 1 to [`STRANDS_MAX`].
    pub count: u8,
    /// Distance of the strands' places in the op's reply, in bytes: the header, and the longest
    /// reply of a strand.
    pub stride: u32,
}

impl Strands {
    /// Length of the op's reply in bytes.
    #[inline]
    pub const fn reply_bytes(&self) -> u64 {
        self.count as u64 * self.stride as u64
    }

    /// Copies a part of such a reply by its strands' parts: `copy` hears of the strand, of how far
    /// into its part to begin, and of where that goes.
    #[inline(always)]
    pub(super) fn each_part(
        &self,
        offset: u32,
        into: &mut [u8],
        mut copy: impl FnMut(usize, usize, &mut [u8]) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let stride = self.stride as usize;
        let (mut place, mut within) = (offset as usize / stride, offset as usize % stride);
        let mut rest = into;
        while !rest.is_empty() {
            let (part, behind) = rest.split_at_mut(rest.len().min(stride - within));
            copy(place, within, part)?;
            (place, within, rest) = (place + 1, 0, behind);
        }
        Ok(())
    }
}

/// What stands before each strand's part of a reply. Behind the part there are zeros.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct StrandHeader {
    /// How the strand ended: a [`Status`].
    pub status: U16,
    /// Zero.
    pub reserved: U16,
    /// Length of its reply in bytes; zero if it failed.
    pub length: U32,
}

impl StrandHeader {
    /// Length in bytes.
    pub const BYTES: usize = 8;

    /// The parts of a reply, strand by strand: how each ended, and its own reply. The last may be
    /// `None`: what is there is no reply of strands.
    pub fn parts(
        reply: &[u8],
        stride: usize,
    ) -> impl ExactSizeIterator<Item = Option<(Status, &[u8])>> {
        reply.chunks(stride.max(1)).map(|part| {
            let (header, rest) = StrandHeader::read_from_prefix(part).ok()?;
            let status = Status::from_code(header.status.get()).ok()?;
            Some((status, rest.get(..header.length.get() as usize)?))
        })
    }
}

const _: () = assert!(size_of::<StrandHeader>() == StrandHeader::BYTES);

/// Writes what stands around a strand's reply of `length` bytes, `within` bytes into its part: header
/// and zeros. What is left is the place of its reply, so many bytes into that.
#[inline(always)]
pub(super) fn around(
    status: Status,
    length: u32,
    within: usize,
    into: &mut [u8],
) -> (u32, &mut [u8]) {
    let header =
        StrandHeader { status: status.code().into(), reserved: 0.into(), length: length.into() };
    let bytes = header.as_bytes();
    // Nearly always it is whole: two stores, and nothing is called.
    let rest = if within == 0 && into.len() >= StrandHeader::BYTES {
        let (place, rest) = into.split_at_mut(StrandHeader::BYTES);
        place.copy_from_slice(bytes);
        rest
    } else {
        let from = bytes.get(within..).unwrap_or_default();
        let (place, rest) = into.split_at_mut(from.len().min(into.len()));
        place.copy_from_slice(&from[..place.len()]);
        rest
    };
    let within = within.max(StrandHeader::BYTES) - StrandHeader::BYTES;
    let left = (length as usize).saturating_sub(within);
    let (reply, behind) = rest.split_at_mut(left.min(rest.len()));
    if !behind.is_empty() {
        behind.fill(0);
    }
    // Within a reply, whose length is 32 bits wide.
    (within as u32, reply)
}

/// The strands under way of an executor, but for their kernels.
#[derive(Debug)]
pub(super) struct StrandTable<P> {
    ops: Vec<Op<P>>,
    free: Vec<u16>,
    /// Strands that are advanced, in order; each at most once, so it never grows.
    ready: Vec<u32>,
    /// Ops that wait for slots, in order; each at most once.
    waiting: VecDeque<u32>,
}

impl<P: Copy> StrandTable<P> {
    /// Room for the strands of `capacity` ops; all memory is taken here.
    pub(super) fn new(capacity: usize) -> Self {
        let mut ops = Vec::new();
        ops.resize_with(STRAND_SLOTS, || Op::empty(STRAND));
        StrandTable {
            ops,
            // The lowest are taken first.
            free: (0..STRAND_SLOTS).rev().map(|number| number as u16).collect(),
            ready: Vec::with_capacity(STRAND_SLOTS),
            waiting: VecDeque::with_capacity(capacity),
        }
    }

    /// Whether a strand is in the rounds.
    #[inline(always)]
    pub(super) fn are_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether there is anything to do or to wait for.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.waiting.is_empty()
    }

    /// How many strands are in the rounds.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The next op that waits.
    pub(super) fn first_waiting(&self) -> Option<u32> {
        self.waiting.front().copied()
    }

    /// An op no longer waits.
    pub(super) fn forget(&mut self, index: u32) {
        self.waiting.retain(|waiting| *waiting != index);
    }

    /// Gives the slots of an op's strands back, wherever they are, with all that they hold.
    #[cold]
    pub(super) fn release(
        &mut self,
        op: &mut Op<P>,
        long_buffers: &mut LongBuffers,
        memory: &mut impl Memory<Pending = P>,
    ) {
        for place in 0..usize::from(op.strands.count) {
            let number = op.strand(place);
            let strand = &mut self.ops[usize::from(number)];
            op.changed |= strand.changed;
            strand.drop_reply(long_buffers, memory);
            match strand.state {
                State::Reported => {
                    strand.vacate();
                    self.free.push(number);
                }
                // The others are in the rounds, and leave them when their turn comes.
                State::Fetching(pending) => {
                    memory.abandon(&pending);
                    strand.state = State::Cancelled;
                }
                _ => strand.state = State::Cancelled,
            }
        }
    }

    /// Lets go of what finished strands hold whose export has been revoked.
    pub(super) fn release_revoked(
        &mut self,
        long_buffers: &mut LongBuffers,
        memory: &mut impl Memory<Pending = P>,
    ) {
        for op in &mut self.ops {
            let is_over = matches!(op.state, State::Finished | State::Reported);
            if is_over && memory.permit(op.grant, crate::Access::empty()).is_err() {
                op.drop_reply(long_buffers, memory);
            }
        }
    }
}

/// Strands and their kernels.
struct StrandsAt<'a, K, P> {
    ops: &'a mut [Op<P>],
    kernels: &'a mut [Option<K>],
}

impl<K, P> Table<K, P> for StrandsAt<'_, K, P> {
    #[inline(always)]
    fn at(&mut self, number: u32) -> (&mut Op<P>, &mut Option<K>) {
        (&mut self.ops[number as usize], &mut self.kernels[number as usize])
    }
}

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// Parks an op until there are slots for all of its strands.
    #[cold]
    pub(super) fn await_strands(&mut self, index: u32) {
        self.park(index);
        self.apart.strands.waiting.push_back(index);
    }

    /// Whether the next op that waits for strands could have them.
    pub(super) fn can_split(&self) -> bool {
        self.apart.strands.first_waiting().is_some_and(|index| {
            usize::from(self.slots[index as usize].op.strands.count)
                <= self.apart.strands.free.len()
        })
    }

    /// One round of the strands. Whatever ops have spent, they get a quarter of a budget. Returns
    /// whether any of them moved.
    #[inline(never)]
    pub(super) fn advance_strands(&mut self, memory: &mut M, budget: Budget) -> bool {
        let mut moved = false;
        while self.can_split() {
            self.split_first(memory);
            moved = true;
        }
        let cost_max = budget.cost.max(self.cost + 1 + budget.cost / 4);
        let mut round = Round::new(0, cost_max);
        memory.begin_round(self.apart.strands.ready.len());
        while let Some((number, after)) = self.advance_some_strands(memory, &mut round) {
            if after == After::Gone {
                let strands = &mut self.apart.strands;
                strands.ops[number as usize].vacate();
                // Numbers of strands have 16 bits.
                strands.free.push(number as u16);
            } else {
                self.strand_over(number as u16, after, memory);
            }
        }
        for place in 0..self.over.len() {
            self.strand_over(self.over[place] as u16, After::Over, memory);
        }
        self.over.clear();
        memory.end_round();
        round.close(&mut self.apart.strands.ready);
        moved | round.has_moved
    }

    fn advance_some_strands(&mut self, memory: &mut M, round: &mut Round) -> Option<(u32, After)> {
        let Apart { strands, facilities } = &mut self.apart;
        let turn = Turn { memory, facilities, limits: &self.limits, cost: &mut self.cost };
        let table = StrandsAt { ops: &mut strands.ops, kernels: &mut self.strand_kernels };
        burst::advance(table, &mut strands.ready, &mut self.over, round, turn, &mut self.scratch)
    }

    /// The first op that waits gets slots for all of its strands, and each takes its first step.
    fn split_first(&mut self, memory: &mut M) {
        let Some(index) = self.apart.strands.waiting.pop_front() else { return };
        self.unpark(index);
        let op = &mut self.slots[index as usize].op;
        op.state = State::Split;
        op.ranges = SPLIT;
        op.strands_left = op.strands.count;
        let count = op.strands.count;
        for place in 0..count {
            if let Some(number) = self.apart.strands.free.pop() {
                self.slots[index as usize].op.set_strand(usize::from(place), number);
            }
        }
        memory.begin_round(usize::from(count));
        for place in 0..count {
            self.begin_strand(index, place, memory);
        }
        memory.end_round();
    }

    fn begin_strand(&mut self, index: u32, place: u8, memory: &mut M) {
        let slot = &self.slots[index as usize];
        let number = slot.op.strand(usize::from(place));
        let op = &mut self.apart.strands.ops[usize::from(number)];
        let invocation = Invocation {
            owner: index.into(),
            // The kernel is at hand.
            kernel: KernelId(0),
            arguments: &[],
            payload_length: 0,
            reply_capacity: slot.op.strands.stride - StrandHeader::BYTES as u32,
            deadline: slot.op.deadline,
        };
        op.begin(slot.op.grant, &invocation);
        let kernel = slot.kernel.as_ref().and_then(|kernel| kernel.strand(place));
        let place = &mut self.strand_kernels[usize::from(number)];
        *place = kernel;
        let after = match place {
            Some(kernel) => {
                let turn = Turn {
                    memory,
                    facilities: &mut self.apart.facilities,
                    limits: &self.limits,
                    cost: &mut self.cost,
                };
                kernel.visit(Happened { op, event: Event::Start, turn })
            }
            None => op.finish(Status::Unsupported, false),
        };
        match after {
            After::Queue => self.apart.strands.ready.push(number.into()),
            after => self.strand_over(number, after, memory),
        }
    }

    /// A strand is over, or wants what strands do not have: payload, or strands of its own. With
    /// the last strand its op is over.
    fn strand_over(&mut self, number: u16, after: After, memory: &mut M) {
        let strand = &mut self.apart.strands.ops[usize::from(number)];
        if after != After::Over {
            if let State::Payload(pending) = strand.state {
                memory.abandon(&pending);
            }
            strand.finish(Status::Unsupported, false);
        }
        strand.state = State::Reported;
        if strand.end.reply_length == 0 {
            strand.drop_reply(&mut self.apart.facilities.long_buffers, memory);
        }
        let (index, changed) = (strand.owner as u32, strand.changed);
        let op = &mut self.slots[index as usize].op;
        op.changed |= changed;
        op.strands_left -= 1;
        if op.strands_left == 0 {
            // No more than the op's room for a reply, which is 32 bits wide.
            let reply_length = op.strands.reply_bytes() as u32;
            op.end = Finish { status: Status::Ok, fate: Fate::Executed, reply_length };
            op.state = State::Finished;
            self.ready.push(index);
        }
    }
}

impl<P: Copy> Op<P> {
    /// The number of a strand's slot.
    fn strand(&self, place: usize) -> u16 {
        let bytes = self.gather.bytes();
        u16::from_le_bytes([bytes[2 * place], bytes[2 * place + 1]])
    }

    fn set_strand(&mut self, place: usize, number: u16) {
        self.gather.bytes_mut()[2 * place..2 * place + 2].copy_from_slice(&number.to_le_bytes());
    }

    /// Gives back what the reply of a strand is made of.
    fn drop_reply(
        &mut self,
        long_buffers: &mut LongBuffers,
        memory: &mut impl Memory<Pending = P>,
    ) {
        if self.ranges == KEPT {
            long_buffers.release(self);
            self.ranges = 0;
        }
        self.drop_own_ranges(memory);
    }

    /// Copies a part of a reply that is strands'.
    pub(super) fn copy_strands(
        &self,
        memory: &impl Memory<Pending = P>,
        apart: &Apart<P>,
        offset: u32,
        into: &mut [u8],
    ) -> Result<(), Status> {
        self.strands.each_part(offset, into, |place, within, part| {
            let number = usize::from(self.strand(place));
            apart.strands.ops[number].copy_as_strand(memory, apart, within, part)
        })
    }

    /// Copies a part of what a strand has in its op's reply: header, reply, zeros.
    fn copy_as_strand(
        &self,
        memory: &impl Memory<Pending = P>,
        apart: &Apart<P>,
        within: usize,
        into: &mut [u8],
    ) -> Result<(), Status> {
        let (offset, reply) = around(self.end.status, self.end.reply_length, within, into);
        if reply.is_empty() {
            return Ok(());
        }
        if self.ranges == KEPT {
            return apart.facilities.long_buffers.copy(self, offset, reply);
        }
        self.copy_own(memory, offset, reply)
    }
}
