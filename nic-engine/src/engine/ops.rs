//! The initiator's table of ops that are out: from pickup until their completion is posted.

use nic_wire::session::{Command, INLINE_ARGUMENT_BYTES};
use nic_wire::{Fate, KernelId, OpId, Rkey, Status, Time};
use zerocopy::FromZeros;

use super::lanes::Cost;
use super::links::Charge;

/// No op: the end of a queue.
const NONE: u16 = u16::MAX;

/// The session of an op whose session has closed.
pub(super) const NO_SESSION: u16 = u16::MAX;

/// One op that a local session has asked for: what is needed until its completion is posted.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Op {
    /// The application's name for it.
    pub(super) token: u64,
    /// When it was picked up.
    pub(super) started: Time,
    /// When its request first left.
    pub(super) issued: Time,
    /// Where in the arena the reply lands.
    pub(super) reply_offset: u32,
    /// The room there in bytes.
    pub(super) reply_capacity: u32,
    /// How much of the reply has landed.
    pub(super) received: u32,
    /// Its place in the stream, once issued.
    pub(super) sequence: u32,
    /// Its stream on that flow, once issued.
    pub(super) stream: u16,
    /// The session that asked; [`NO_SESSION`] once it has closed.
    pub(super) session: u16,
    /// The flow it travels on.
    pub(super) link: u16,
    /// What to run.
    pub(super) kernel: KernelId,
    /// What it costs its session.
    pub(super) cost: Cost,
    /// What its reply takes of its flow's credits while it is out.
    pub(super) charge: Charge,
    /// Neighbours in its lane: ops with something still to be put into packets.
    next: u16,
    previous: u16,
    /// Goes up each time the slot is freed, so that late replies find nobody.
    generation: u16,
    /// Whether an op lives here.
    live: bool,
    /// Whether it stands in its lane.
    queued: bool,
    /// Where it has got to.
    pub(super) state: OpState,
}

const _: () = assert!(size_of::<Op>() == 64, "an op is one cache line");
const _: () = assert!(INLINE_ARGUMENT_BYTES <= nic_wire::frame::MAX_ARGUMENT_BYTES);

/// What is needed of an op only until its request has left.
#[derive(Clone, Copy)]
pub(super) struct Unsent {
    /// The private copy of what the application wrote; checked at pickup.
    pub(super) command: Command,
    /// The right to the memory.
    pub(super) rkey: Rkey,
    /// How much of the payload has been put into packets.
    pub(super) payload_sent: u32,
    /// When the op ends at the latest.
    pub(super) deadline: Time,
}

/// Where an op has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpState {
    /// Nothing of it has left.
    Waiting,
    /// Some or all of its request has left.
    Out,
    /// Its completion is posted, but the target still holds a credit for it.
    Abandoned,
}

/// How an op ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) status: Status,
    pub(super) fate: Fate,
    pub(super) length: u32,
    pub(super) service_ns: u32,
}

impl Ending {
    /// An end without a reply.
    pub(super) fn failure(status: Status, fate: Fate) -> Self {
        Ending { status, fate, length: 0, service_ns: 0 }
    }
}

impl Op {
    const VACANT: Op = Op {
        token: 0,
        started: Time::ZERO,
        issued: Time::ZERO,
        reply_offset: 0,
        reply_capacity: 0,
        received: 0,
        sequence: 0,
        stream: 0,
        session: 0,
        link: 0,
        kernel: KernelId(0),
        cost: 0,
        charge: 0,
        next: NONE,
        previous: NONE,
        generation: 0,
        live: false,
        queued: false,
        state: OpState::Waiting,
    };

    /// What is known of the op's effect if it ends now without an answer. An op that only reads
    /// changes nothing, so running it again is always safe.
    pub(super) fn fate_unanswered(&self) -> Fate {
        let is_safe = self.state == OpState::Waiting || self.kernel.only_reads();
        if is_safe { Fate::NotExecuted } else { Fate::Unknown }
    }
}

/// Ops by slot; sized at the start.
pub(super) struct OpTable {
    ops: Box<[Op]>,
    /// One more than there are ops: commands are copied straight to where they are needed, and
    /// when the table is full, to the spare place.
    unsent: Box<[Unsent]>,
    free: Vec<u16>,
}

impl OpTable {
    /// Room for `capacity` ops.
    pub(super) fn new(capacity: u16) -> Self {
        assert!(capacity < NONE, "one number names no op");
        let unsent = Unsent {
            command: Command::new_zeroed(),
            rkey: Rkey::new(0, 0, 0),
            payload_sent: 0,
            deadline: Time::NEVER,
        };
        OpTable {
            ops: vec![Op::VACANT; usize::from(capacity)].into(),
            unsent: vec![unsent; usize::from(capacity) + 1].into(),
            free: (0..capacity).rev().collect(),
        }
    }

    /// The slot that the next op will have; the spare one if the table is full.
    #[inline]
    pub(super) fn next_slot(&self) -> u16 {
        self.free.last().copied().unwrap_or(self.ops.len() as u16)
    }

    /// Takes the slot of [`OpTable::next_slot`] for an op that was just picked up. False: the table
    /// is full.
    #[inline]
    pub(super) fn claim(&mut self, slot: u16) -> bool {
        if self.free.pop() != Some(slot) {
            return false;
        }
        let op = &mut self.ops[usize::from(slot)];
        op.live = true;
        op.state = OpState::Waiting;
        op.received = 0;
        true
    }

    /// Whether only an eighth of the places, or less, is free.
    #[inline]
    pub(super) fn is_scarce(&self) -> bool {
        self.free.len() <= self.ops.len() / 8
    }

    /// The unsent part of a slot, the spare one included.
    #[inline]
    pub(super) fn unsent(&mut self, slot: u16) -> &mut Unsent {
        &mut self.unsent[usize::from(slot)]
    }

    /// Both parts of a live slot.
    #[inline]
    pub(super) fn both(&mut self, slot: u16) -> (&mut Op, &mut Unsent) {
        (&mut self.ops[usize::from(slot)], &mut self.unsent[usize::from(slot)])
    }

    /// Frees a slot; whatever still arrives for the op is late.
    #[inline]
    pub(super) fn remove(&mut self, slot: u16) {
        let op = &mut self.ops[usize::from(slot)];
        assert!(op.live && !op.queued, "an op ends once, and leaves its queue first");
        op.live = false;
        op.generation = op.generation.wrapping_add(1);
        self.free.push(slot);
    }

    /// The name under which replies will find the op.
    #[inline]
    pub(super) fn id(&self, slot: u16) -> OpId {
        OpId::new(slot, self.ops[usize::from(slot)].generation)
    }

    /// The op of a live slot.
    #[inline]
    pub(super) fn get(&mut self, slot: u16) -> &mut Op {
        let op = &mut self.ops[usize::from(slot)];
        debug_assert!(op.live, "a slot in use holds a live op");
        op
    }

    /// The slot that a reply names, unless the op has ended.
    #[inline]
    pub(super) fn find(&self, id: OpId) -> Option<u16> {
        let op = self.ops.get(usize::from(id.slot()))?;
        // Built without this check, `bad_input` and the simulation must fail.
        let is_it = cfg!(nic_break = "late_reply") || op.generation == id.generation();
        (op.live && is_it).then_some(id.slot())
    }

    /// Every op that is out. Slow: it looks at every place of the table.
    pub(super) fn each(&self) -> impl Iterator<Item = (&Op, &Unsent)> {
        self.ops.iter().zip(&self.unsent).filter(|(op, _)| op.live)
    }

    /// The first live op from a slot on that `wanted` is true of: for the rare ends of sessions and
    /// flows.
    pub(super) fn next(&self, from: u16, wanted: impl Fn(&Op) -> bool) -> Option<u16> {
        let rest = self.ops.get(usize::from(from)..)?;
        rest.iter().position(|op| op.live && wanted(op)).map(|place| from + place as u16)
    }

    /// Appends an op to a queue.
    #[inline]
    pub(super) fn enqueue(&mut self, queue: &mut OpQueue, slot: u16) {
        let last = queue.last;
        let op = &mut self.ops[usize::from(slot)];
        assert!(op.live && !op.queued, "an op waits in one queue");
        (op.queued, op.previous, op.next) = (true, last, NONE);
        match last {
            NONE => queue.first = slot,
            last => self.ops[usize::from(last)].next = slot,
        }
        queue.last = slot;
    }

    /// Whether an op stands in a queue.
    #[inline]
    pub(super) fn is_queued(&self, slot: u16) -> bool {
        self.ops[usize::from(slot)].queued
    }

    /// What an op costs its session.
    #[inline]
    pub(super) fn cost(&self, slot: u16) -> Cost {
        self.ops[usize::from(slot)].cost
    }

    /// Takes an op out of its queue, if it stands there.
    #[inline]
    pub(super) fn dequeue(&mut self, queue: &mut OpQueue, slot: u16) {
        let op = &mut self.ops[usize::from(slot)];
        if !op.queued {
            return;
        }
        op.queued = false;
        let (previous, next) = (op.previous, op.next);
        match previous {
            NONE => queue.first = next,
            previous => self.ops[usize::from(previous)].next = next,
        }
        match next {
            NONE => queue.last = previous,
            next => self.ops[usize::from(next)].previous = previous,
        }
    }

    /// How many ops are out.
    pub(super) fn live(&self) -> usize {
        self.ops.len() - self.free.len()
    }
}

/// Ops of one session that have something still to be put into packets, in order of pickup.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpQueue {
    first: u16,
    last: u16,
}

impl OpQueue {
    pub(super) const EMPTY: OpQueue = OpQueue { first: NONE, last: NONE };

    /// The op that has waited longest.
    #[inline]
    pub(super) fn first(&self) -> Option<u16> {
        (self.first != NONE).then_some(self.first)
    }
}
