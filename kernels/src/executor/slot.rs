//! One op under way.

use nic_wire::{Fate, Status, Time};

use super::Finish;
use crate::memory::Grant;

/// Where an op is; see the picture in the executor's module.
#[derive(Clone, Copy, Debug)]
pub(super) enum State<P> {
    /// No op.
    Free,
    /// In the queue; waits for memory.
    Fetching(P),
    /// Parked; waits for payload, which goes to this place.
    Payload(P),
    /// In the queue; the payload is placed.
    PayloadPlaced,
    /// In the queue; to be reported.
    Finished(Finish),
    /// Its owner knows, and makes the reply.
    Reported(Finish),
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
}

/// A part of a reply that is copied from memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range<P> {
    pub(super) pending: P,
    /// Length in bytes.
    pub(super) length: u32,
}

/// An op, its kernel's state, and what the executor knows of it.
#[derive(Debug)]
pub(super) struct Slot<K, P> {
    pub(super) state: State<P>,
    pub(super) kernel: Option<K>,
    pub(super) grant: Grant,
    /// Which of the slot's successive ops this is.
    pub(super) generation: u32,
    pub(super) owner: u64,
    pub(super) deadline: Time,
    pub(super) steps: u32,
    pub(super) reply_capacity: u32,
    pub(super) bytes: u64,
    /// Length of the reply's ranges together.
    pub(super) range_bytes: u32,
    /// Length of what is gathered.
    pub(super) gathered: u16,
    /// How many ranges the reply has.
    pub(super) ranges: u8,
    /// Whether the op has changed memory.
    pub(super) changed: bool,
    pub(super) payload: Payload,
}

impl<K, P> Slot<K, P> {
    pub(super) fn empty() -> Self {
        Slot {
            state: State::Free,
            kernel: None,
            grant: Grant::new(0, 0, 0),
            generation: 0,
            owner: 0,
            deadline: Time::NEVER,
            steps: 0,
            reply_capacity: 0,
            bytes: 0,
            range_bytes: 0,
            gathered: 0,
            ranges: 0,
            changed: false,
            payload: Payload { length: 0, received: 0, last_word: [0; 8], parked_at: 0 },
        }
    }

    #[inline]
    pub(super) fn is_free(&self) -> bool {
        matches!(self.state, State::Free | State::Cancelled)
    }

    /// The reply so far, in bytes.
    #[inline]
    pub(super) fn reply_length(&self) -> u32 {
        u32::from(self.gathered) + self.range_bytes
    }

    /// The op is over. `by_kernel`: it came to its own end, and did all that it ever would.
    #[inline]
    pub(super) fn finish(&mut self, status: Status, by_kernel: bool) {
        let replies = matches!(status, Status::Ok | Status::Continues);
        let fate = match (replies, self.changed) {
            (true, _) => Fate::Executed,
            (false, false) => Fate::NotExecuted,
            (false, true) if by_kernel => Fate::Executed,
            (false, true) => Fate::Unknown,
        };
        let reply_length = if replies { self.reply_length() } else { 0 };
        self.state = State::Finished(Finish { status, fate, reply_length });
    }
}
