//! Runs many ops at once, in rounds, so that their cache misses overlap.
//!
//! An op lives in a slot from [`Executor::start`] to [`Executor::free`]. Starting takes the
//! kernel's first step and sets its first fetch going; [`Executor::run`] then polls every op in
//! turn, hands the kernel what came and sets the next fetch going. A lone op runs straight through
//! in the same loop. A finished op keeps its slot, because its reply is made just in time: what the
//! kernel gathered, then the ranges that it added, copied straight from memory into packets.
//!
//! ```text
//! start ──▶ Fetching ◀──▶ (step) ──▶ Finished ──run reports──▶ Reported ──free──▶ Free
//!             │   ▲                     ▲
//!             ▼   └─ PayloadPlaced ─────┘
//!          Payload ──payload()──▲
//! ```
//!
//! An op may split into strands ([`strands`]), walk ([`walks`]) or look up ([`lookups`]), all in the
//! same rounds. Some
//! kernels want the payload in memory of the executor's own until it is whole ([`holding`], out of
//! the pool in [`held`]), or to wait until a word of memory changes ([`waiting`]) or a range is in
//! its region's file ([`flushing`]). Long ones share the executor by account where several compete
//! ([`shares`]).

mod admission;
mod advance;
mod apart;
mod burst;
mod flushing;
mod held;
mod holding;
mod long_buffers;
mod lookups;
mod payload;
mod reply;
mod shares;
mod slot;
mod step;
mod strands;
mod waiting;
mod walks;

use alloc::boxed::Box;
use alloc::vec::Vec;

use nic_wire::{Fate, KernelId, Span, Status, Time};

use crate::FETCH_BYTES_MAX;
use crate::memory::Memory;
use crate::set::KernelSet;
pub use advance::{Answer, Ended};
use apart::Apart;
pub use payload::PayloadError;
use shares::Shares;
use slot::{Op, Slot, State};
use strands::STRAND_SLOTS;
pub use strands::{STRANDS_MAX, StrandHeader, Strands};

/// What one op may use, whatever its kernel.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Steps (start: 64 Ki).
    pub steps: u32,
    /// Bytes fetched into private copies (start: 64 MiB).
    pub bytes: u64,
    /// How often a word is looked at that an op waits for and that nobody here has changed
    /// (start: every millisecond).
    pub look_again: Span,
    /// For all ops together: how many may wait for a word (start: 256). Every change of memory looks
    /// at all of them while there are any, and none of them makes room for another op.
    pub waits: u32,
    /// For all ops together: how many bytes of payload the executor can hold until they are whole
    /// (start: 8 MiB); ops under one export a quarter of them. Memory is taken from the system as it
    /// is first used.
    pub held_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            steps: 64 << 10,
            bytes: 64 << 20,
            look_again: Span::from_ms(1),
            waits: 256,
            held_bytes: 8 << 20,
        }
    }
}

/// What one call of [`Executor::run`] may spend.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// How often each op is advanced (start: 64).
    pub rounds: u32,
    /// Cost, counted as fetches plus bytes/64 (start: 4096).
    pub cost: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { rounds: 64, cost: 4096 }
    }
}

/// What one call of [`Executor::run`] did. Strands count as ops here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Ops that were reported as finished.
    pub finished: u32,
    /// Ops that could go on at once, with more budget or when their memory answers.
    pub ready: u32,
    /// Ops that wait for payload, for slots for their strands, for a word to change or for a flush.
    pub waiting: u32,
    /// Cost since the end of the last run, as [`Budget::cost`] counts it.
    pub cost: u64,
}

/// What an op brings.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    /// The caller's name for the op, given back when it finishes.
    pub owner: u64,
    /// What to run.
    pub kernel: KernelId,
    /// The kernel's arguments; untrusted.
    pub arguments: &'a [u8],
    /// Length of the whole payload in bytes.
    pub payload_length: u32,
    /// How many bytes of reply the initiator has a place for.
    pub reply_capacity: u32,
    /// When the op is stopped; [`Time::NEVER`] if not at all.
    pub deadline: Time,
}

/// Names an op from its start until it is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotId {
    index: u32,
    generation: u32,
}

impl SlotId {
    /// The slot, below the executor's capacity: for tables beside it. Ops that follow each other
    /// in a slot share it.
    #[inline]
    pub const fn index(self) -> usize {
        self.index as usize
    }
}

/// How an op ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    /// [`Status::Ok`], or what went wrong.
    pub status: Status,
    /// What is known of its effect.
    pub fate: Fate,
    /// Length of its reply in bytes; zero unless the status is `Ok` or `Continues`.
    pub reply_length: u32,
}

/// Runs the ops of one engine: many at once, in rounds, so that their cache misses overlap.
///
/// An op lives in a slot from [`start`](Self::start) to [`free`](Self::free); in between, every
/// [`run`](Self::run) advances it until it is over, and [`copy_reply`](Self::copy_reply) makes its
/// reply just in time.
#[derive(Debug)]
pub struct Executor<K: KernelSet, M: Memory> {
    slots: Vec<Slot<K, M::Pending>>,
    free: Vec<u32>,
    /// Ops that [`Executor::run`] advances, in order; each at most once, so it never grows.
    ready: Vec<u32>,
    /// Ops, and after them strands, that are over in this round; empty between rounds.
    over: Vec<u32>,
    /// Ops that wait for payload, for strands, for a word to change or for a flush; each slot knows
    /// its place here.
    parked: Vec<u32>,
    /// No parked op has to be seen to earlier.
    parked_deadline: Time,
    /// [`Memory::flushes_over`] when it was last looked at.
    flushes_over: u64,
    /// What few ops need.
    apart: Apart<M::Pending>,
    /// Long ops that stand aside; see [`shares`].
    shares: Shares,
    /// Of the strands there.
    strand_kernels: Vec<Option<K>>,
    /// Where private copies are made; their contents mean nothing between steps.
    scratch: Box<[u8; FETCH_BYTES_MAX]>,
    limits: Limits,
    /// Cost since the end of the last run.
    cost: u64,
}

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// An executor for at most `capacity` ops at a time, finished ones included. All memory is
    /// taken here.
    pub fn new(capacity: u32, limits: Limits) -> Self {
        let count = capacity as usize;
        let slots = (0..capacity).map(Slot::empty).collect();
        let mut strand_kernels = Vec::new();
        strand_kernels.resize_with(STRAND_SLOTS, || None);
        Executor {
            slots,
            // The lowest slots are taken first and again: they stay in the cache.
            free: (0..capacity).rev().collect(),
            ready: Vec::with_capacity(count),
            over: Vec::with_capacity(count.max(STRAND_SLOTS)),
            parked: Vec::with_capacity(count),
            parked_deadline: Time::NEVER,
            flushes_over: 0,
            apart: Apart::new(count, &limits),
            shares: Shares::none(),
            strand_kernels,
            scratch: Box::new([0; FETCH_BYTES_MAX]),
            limits,
            cost: 0,
        }
    }

    /// How many ops could start now.
    #[inline]
    pub fn room(&self) -> usize {
        self.free.len()
    }

    /// Whether no op has a slot.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.free.len() == self.slots.len() && !self.apart.strands.are_ready()
    }

    /// How many ops and strands [`run`](Self::run) would advance now, those that stand aside included.
    #[inline]
    pub fn ready(&self) -> usize {
        self.ready.len()
            + self.shares.aside()
            + self.apart.facilities.walks.queue.len()
            + self.apart.facilities.lookups.queue.len()
            + self.apart.strands.ready()
            + usize::from(self.can_split())
    }

    /// When [`run`](Self::run) has to be called though nothing else happens: the deadline of an op
    /// that waits for payload or for strands passes, or a word or a flush is to be looked at again.
    /// Perhaps earlier than that, never later.
    #[inline]
    pub fn next_deadline(&self) -> Time {
        self.parked_deadline
    }

    /// Whether an op waits for a word to change; for a stale name, no.
    #[inline]
    pub fn waits(&self, slot: SlotId) -> bool {
        self.find(slot).is_some_and(|op| matches!(op.state, State::Awaiting | State::Looking(_)))
    }

    /// Whether an op goes to its [own end](crate::Kernel::must_end) whatever becomes of whoever waits
    /// for it; for a stale name, no.
    #[cold]
    pub fn must_end(&mut self, slot: SlotId) -> bool {
        self.find(slot).is_some() && advance::must_end(&mut self.slots[slot.index()].kernel)
    }

    /// The op, if the name is not stale.
    #[inline(always)]
    fn find(&self, slot: SlotId) -> Option<&Op<M::Pending>> {
        let found = &self.slots.get(slot.index as usize)?.op;
        (found.generation == slot.generation && !found.is_free()).then_some(found)
    }
}

#[cfg(test)]
mod tests;
