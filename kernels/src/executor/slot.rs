//! One op under way.

use nic_wire::{Fate, Status, Time};

use super::apart::Apart;
use super::held::Chain;
use super::step::After;
use super::strands::Strands;
use super::waiting::Awaited;
use super::{Finish, Invocation};
use crate::kernel::{Extent, Pointer};
use crate::memory::{Grant, Memory};
use crate::reply::Gather;

/// How many ranges a reply may have behind what is gathered.
pub(super) const RANGES_MAX: usize = 4;

/// In place of a number of ranges: the reply is that of the op's strands.
pub(super) const SPLIT: u8 = u8::MAX;
/// In place of a number of ranges: the reply is in a long buffer.
pub(super) const KEPT: u8 = SPLIT - 1;
/// In place of a number of ranges: the reply is that of the op's lookups.
pub(super) const LOOKED_UP: u8 = KEPT - 1;

/// In place of a slot's number: the op is a strand, which is not parked.
pub(super) const STRAND: u32 = u32::MAX;

/// Where an op is; see the picture in the executor's module.
#[derive(Clone, Copy, Debug)]
pub(super) enum State<P> {
    /// No op.
    Free,
    /// In the queue; waits for memory.
    Fetching(P),
    /// Among the walks.
    Walking,
    /// In the queue; its walk ends where it begins.
    Nowhere(Pointer),
    /// Parked; waits for payload, which goes to this place.
    Payload(P),
    /// In the queue; the payload is placed.
    PayloadPlaced,
    /// Parked; waits for slots for its strands.
    Waiting,
    /// Its strands are under way.
    Split,
    /// Among the lookups.
    LookingUp,
    /// Parked; waits for payload, which the executor holds.
    Holding,
    /// In the queue; the executor holds the whole payload.
    PayloadHeld,
    /// Parked; waits for the rest of a payload that is held, which goes to this place.
    HoldingFor(P),
    /// In the queue; the payload that was held goes to this place.
    Placing(P),
    /// In the queue; looks at the memory that it has for itself.
    Peeking { offset: u32, length: u32 },
    /// In the queue; shows its kernel a block of the payload that is held.
    Arranging { offset: u32 },
    /// In the queue; words or a part of what is held were stored at once.
    Stored,
    /// In the queue; the word that the op waits for is read.
    Looking(P),
    /// Parked; waits for a word to change.
    Awaiting,
    /// Parked; waits for this flush.
    Flushing(P),
    /// In the queue; asks whether that flush is over.
    Asking(P),
    /// In the queue; memory refused an op that must end by itself.
    Refused(Status),
    /// In the queue; to be reported.
    Finished,
    /// Its owner knows, and makes the reply.
    Reported,
    /// In the queue, to be freed there: its owner went away.
    Cancelled,
}

/// Progress of an op's payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload {
    /// Length of the whole.
    pub(super) length: u32,
    /// How many bytes have come.
    pub(super) received: u32,
    /// The bytes of the last aligned word, kept back.
    pub(super) last_word: [u8; 8],
    /// Place in the list of parked ops.
    pub(super) parked_at: u32,
    /// How many of the bytes that the executor held are placed.
    pub(super) placed: u32,
    /// Where the executor holds it; means something while the op is marked [`HOLDS`] or [`TAPS`].
    pub(super) held: Chain,
}

/// Mark of an op whose payload the executor holds.
pub(super) const HOLDS: u8 = 1;
/// Mark of an op that has memory for itself, in the same place.
pub(super) const TAPS: u8 = 4;
/// Mark of an op whose payload came before its kernel has said where it goes: it is held meanwhile.
pub(super) const EARLY: u8 = 8;
/// Mark of an op that goes to its end though nobody will hear of it.
pub(super) const ORPHANED: u8 = 2;

/// A part of a reply that is copied from memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range<P> {
    pub(super) pending: P,
    /// Length in bytes.
    pub(super) length: u32,
}

/// An op and its kernel.
#[derive(Debug)]
pub(super) struct Slot<K, P> {
    pub(super) op: Op<P>,
    /// Means something while the op is under way.
    pub(super) kernel: Option<K>,
}

/// What the executor knows of an op. What every step touches stands first, and what a new op finds
/// zero stands together.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Op<P> {
    pub(super) state: State<P>,
    pub(super) bytes: u64,
    /// Length of the reply's ranges together.
    pub(super) range_bytes: u32,
    /// How many ranges the reply has, or [`SPLIT`], or [`KEPT`].
    pub(super) ranges: u8,
    /// Whether the op has changed memory.
    pub(super) changed: bool,
    /// [`HOLDS`], [`TAPS`], [`EARLY`], [`ORPHANED`].
    pub(super) marks: u8,
    pub(super) steps: u32,
    pub(super) reply_capacity: u32,
    pub(super) grant: Grant,
    pub(super) deadline: Time,
    pub(super) owner: u64,
    /// Its number, or [`STRAND`].
    pub(super) slot: u32,
    /// Which of the slot's successive ops this is.
    pub(super) generation: u32,
    /// Means something once the op is over.
    pub(super) end: Finish,
    pub(super) payload: Payload,
    /// How it is split, and how many strands are not over. They mean something from
    /// [`State::Waiting`] on.
    pub(super) strands: Strands,
    pub(super) strands_left: u8,
    /// The first of them mean something.
    pub(super) range: [Option<Range<P>>; RANGES_MAX],
    /// What the op changes next, for those who wait for it.
    pub(super) target: Extent,
    /// Means something while the op waits for a word; when to look again, also while it waits for a
    /// flush.
    pub(super) awaited: Awaited,
    /// What is gathered, or the numbers of strands or of the long buffer, or the pointers of lookups.
    pub(super) gather: Gather,
}

impl<K, P: Copy> Slot<K, P> {
    pub(super) fn empty(slot: u32) -> Self {
        Slot { op: Op::empty(slot), kernel: None }
    }
}

impl<P: Copy> Op<P> {
    pub(super) fn empty(slot: u32) -> Self {
        Op {
            state: State::Free,
            bytes: 0,
            range_bytes: 0,
            ranges: 0,
            changed: false,
            marks: 0,
            steps: 0,
            reply_capacity: 0,
            grant: Grant::new(0, 0, 0),
            deadline: Time::NEVER,
            owner: 0,
            slot,
            generation: 0,
            end: Finish { status: Status::Ok, fate: Fate::NotExecuted, reply_length: 0 },
            payload: Payload {
                length: 0,
                received: 0,
                last_word: [0; 8],
                parked_at: 0,
                placed: 0,
                held: Chain::NONE,
            },
            strands: Strands { count: 0, stride: 0 },
            strands_left: 0,
            range: [None; RANGES_MAX],
            target: Extent::named(0, 0, 0),
            awaited: Awaited::NOTHING,
            gather: Gather::EMPTY,
        }
    }

    /// Makes the slot a new op's.
    #[inline(always)]
    pub(super) fn begin(&mut self, grant: Grant, invocation: &Invocation<'_>) {
        self.bytes = 0;
        self.range_bytes = 0;
        self.ranges = 0;
        self.changed = false;
        self.marks = 0;
        self.steps = 0;
        self.reply_capacity = invocation.reply_capacity;
        self.grant = grant;
        self.gather.begin(invocation.reply_capacity);
        self.deadline = invocation.deadline;
        self.owner = invocation.owner;
        self.payload.length = invocation.payload_length;
        self.payload.received = 0;
        self.payload.last_word = [0; 8];
    }

    /// The op is over. `by_kernel`: it came to its own end, and did all that it ever would.
    #[inline(always)]
    pub(super) fn finish(&mut self, status: Status, by_kernel: bool) -> After {
        let replies = matches!(status, Status::Ok | Status::Continues);
        let fate = match (replies, self.changed) {
            (true, _) => Fate::Executed,
            (false, false) => Fate::NotExecuted,
            (false, true) if by_kernel => Fate::Executed,
            (false, true) => Fate::Unknown,
        };
        let reply_length = if replies { self.reply_length() } else { 0 };
        self.end = Finish { status, fate, reply_length };
        self.state = State::Finished;
        After::Over
    }

    /// Memory has refused a step: the op is over, unless it must end by itself.
    #[cold]
    pub(super) fn refused(&mut self, status: Status, must_end: bool) -> After {
        if !must_end {
            return self.finish(status, false);
        }
        self.state = State::Refused(status);
        After::Queue
    }

    /// Gives back what the reply is made of: ranges to the memory, strands, a long buffer.
    #[inline(always)]
    pub(super) fn drop_ranges(
        &mut self,
        memory: &mut impl Memory<Pending = P>,
        apart: &mut Apart<P>,
    ) {
        if self.ranges >= LOOKED_UP {
            apart.release(self, memory);
        }
        self.drop_own_ranges(memory);
    }

    /// The same for what lies in the op itself.
    #[inline(always)]
    pub(super) fn drop_own_ranges(&mut self, memory: &mut impl Memory<Pending = P>) {
        if self.ranges == 0 {
            return;
        }
        for range in self.range.iter().take(usize::from(self.ranges)).flatten() {
            memory.abandon(&range.pending);
        }
        self.ranges = 0;
    }

    /// The op is forgotten; its names are stale from here on.
    #[inline(always)]
    pub(super) fn vacate(&mut self) {
        self.state = State::Free;
        self.generation = self.generation.wrapping_add(1);
    }

    /// The grant, read field by field: a copy of the whole is taken apart with more instructions
    /// than it saves.
    #[inline(always)]
    pub(super) fn grant(&self) -> Grant {
        Grant::new(self.grant.export(), self.grant.generation(), self.grant.home())
    }

    /// Lets go of what an op that is over had besides its slot. Whether that was all: of an orphan
    /// nobody is told, and its slot is vacant.
    #[cold]
    #[inline(never)]
    pub(super) fn close(
        &mut self,
        memory: &mut impl Memory<Pending = P>,
        apart: &mut Apart<P>,
    ) -> bool {
        if self.marks & (HOLDS | TAPS) != 0 {
            apart.facilities.held.give_back(self.payload.held, self.grant.export());
        }
        if self.marks & HOLDS != 0 {
            // Only this much of it ever left the executor.
            self.payload.received = self.payload.placed;
        }
        let is_orphan = self.marks & ORPHANED != 0;
        self.marks = 0;
        if is_orphan {
            self.drop_ranges(memory, apart);
            self.vacate();
        }
        is_orphan
    }

    #[inline(always)]
    pub(super) fn is_strand(&self) -> bool {
        self.slot == STRAND
    }

    #[inline(always)]
    pub(super) fn is_free(&self) -> bool {
        matches!(self.state, State::Free | State::Cancelled)
    }

    /// The reply so far, in bytes.
    #[inline(always)]
    pub(super) fn reply_length(&self) -> u32 {
        // At most 512.
        self.gather.length() as u32 + self.range_bytes
    }
}
