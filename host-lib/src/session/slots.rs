//! The ops that a session has out: slots with a generation, so that nothing is taken for another.

use std::collections::BTreeSet;
use std::task::Waker;

use nic_kernels::{BadArguments, Builtin, Call, examine};
use nic_shm::{CompletedLease, Lease};
use nic_wire::Status;
use nic_wire::session::{ANSWER, Command, Completion};

use crate::operation::{Facts, Judgement};

/// Names an op of a session: slot in the low half, generation in the high half.
pub type Token = u64;

/// Decides about a reply without knowing its operation's type.
pub(super) type Judge = fn(&Facts, &[u8], &[u8]) -> Judgement;

/// How far an op has got, as its session sees it.
pub(super) enum Stage {
    /// Nobody lives here.
    Free,
    /// The engine has it.
    Out(Lease),
    /// It is over.
    Over(Completion, Option<CompletedLease>),
}

/// One op.
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) stage: Stage,
    /// Whether somebody still wants the result.
    pub(super) wanted: bool,
    /// Whether [`poll`](super::Session::poll) reports it, or a waiter takes it by itself.
    pub(super) reported: bool,
    /// The engine was asked to end it: it is not issued anew.
    pub(super) is_cancelled: bool,
    /// As it was given to the engine, to issue it anew.
    pub(super) command: Command,
    pub(super) judge: Judge,
    pub(super) facts: Facts,
    /// Length of what lies in the lease before the payload.
    pub(super) note_length: u32,
    /// Where in the lease the reply begins.
    pub(super) reply_start: u32,
    pub(super) waker: Option<Waker>,
}

impl Slot {
    /// Whether the engine has it.
    #[inline]
    pub(super) fn is_out(&self) -> bool {
        matches!(self.stage, Stage::Out(_))
    }

    /// Its op is over; whoever waits for it is told.
    #[inline]
    pub(super) fn end(&mut self, completion: Completion, lease: Option<CompletedLease>) {
        self.stage = Stage::Over(completion, lease);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// What its kernel did not take of the op that was here last, if the target said so and a kernel
    /// of that number here says the same. Arguments that had no place in the command lie in the lease.
    #[cold]
    pub(super) fn refusal(
        &self,
        status: Status,
        lease: Option<&CompletedLease>,
    ) -> Option<BadArguments> {
        let command = &self.command;
        let length = usize::from(command.argument_length);
        let start = self.note_length.next_multiple_of(8) as usize;
        let arguments = match command.arguments() {
            Some(arguments) => arguments,
            None => lease?.bytes().get(start..start + length)?,
        };
        let call = Call {
            arguments,
            home: 0,
            payload_length: command.payload_length.get(),
            reply_capacity: command.reply_capacity.get(),
        };
        let refusal = examine::<Builtin>(command.kernel(), &call).err()?;
        (refusal.status() == status).then_some(refusal)
    }

    /// Empties it, so that its token names nothing any more. Returns how far its op had got.
    #[inline]
    pub(super) fn vacate(&mut self) -> Stage {
        self.generation = self.generation.wrapping_add(1);
        self.waker = None;
        std::mem::replace(&mut self.stage, Stage::Free)
    }
}

/// All slots of a session.
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u16>,
}

impl Slots {
    pub(super) fn new(depth: u32) -> Self {
        let slot = |_| Slot {
            generation: 0,
            stage: Stage::Free,
            wanted: false,
            reported: false,
            is_cancelled: false,
            command: zerocopy::FromZeros::new_zeroed(),
            judge: |_, _, _| Judgement::Keep,
            facts: [0; 3],
            note_length: 0,
            reply_start: 0,
            waker: None,
        };
        Slots { slots: (0..depth).map(slot).collect(), free: (0..depth as u16).rev().collect() }
    }

    /// A free slot's token; the slot is the caller's to fill.
    #[inline]
    pub(super) fn reserve(&mut self) -> Option<Token> {
        let slot = self.free.pop()?;
        Some(u64::from(self.slots[usize::from(slot)].generation) << 32 | u64::from(slot))
    }

    /// Has the engine read a piece of the arena, by a command whose completion gives it back.
    pub(super) fn lend(&mut self, token: Token, lease: Lease, command: Command) {
        let Some(slot) = self.get(token) else { return };
        slot.stage = Stage::Out(lease);
        slot.command = command;
        (slot.wanted, slot.reported) = (false, false);
        (slot.note_length, slot.reply_start) = (0, 0);
    }

    /// Whether another op may be out.
    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// The slot of a token, if it is still that op's.
    #[inline]
    pub(super) fn get(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token as u32 as usize)?;
        (slot.generation == (token >> 32) as u32).then_some(slot)
    }

    /// The slot that a token named, which was just vacated.
    pub(super) fn last_of(&self, token: Token) -> &Slot {
        &self.slots[token as u32 as usize]
    }

    /// Empties a slot; its token names nothing any more.
    #[inline]
    pub(super) fn release(&mut self, token: Token) {
        if let Some(slot) = self.get(token) {
            slot.vacate();
            self.free(token);
        }
    }

    /// Gives the place of a token back whose slot was just vacated.
    #[inline]
    pub(super) fn free(&mut self, token: Token) {
        self.free.push(token as u16);
    }

    /// Gives a reserved slot back unused.
    pub(super) fn unreserve(&mut self, token: Token) {
        self.free.push(token as u16);
    }

    /// How many ops may be out.
    pub(super) fn depth(&self) -> usize {
        self.slots.len()
    }

    /// How many ops are out or over and not yet taken.
    pub(super) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many ops are over and not yet taken.
    pub(super) fn over(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot.stage, Stage::Over(..))).count()
    }

    /// Whether an op is out whose slot is free as soon as it is over: nobody wants its result.
    pub(super) fn any_unwanted(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.stage, Stage::Out(_)) && !slot.wanted)
    }

    /// The ways that ops are out on.
    pub(super) fn ways_in_use(&self) -> BTreeSet<u16> {
        // Answers take none.
        let is_out = |slot: &&Slot| slot.is_out() && slot.command.kernel() != ANSWER;
        self.slots.iter().filter(is_out).map(|slot| slot.command.remote.get()).collect()
    }

    /// Tokens of ops that the engine has: for when it died.
    pub(super) fn out(&self) -> Vec<Token> {
        let is_out = |(_, slot): &(usize, &Slot)| matches!(slot.stage, Stage::Out(_));
        let token = |(index, slot): (usize, &Slot)| u64::from(slot.generation) << 32 | index as u64;
        self.slots.iter().enumerate().filter(is_out).map(token).collect()
    }
}
