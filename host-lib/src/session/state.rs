//! What a session keeps: its ends of the rings, the arena, the slots.

use std::collections::VecDeque;
use std::time::Duration;

use nic_engine::engine::OP_BYTES_MAX;
use nic_shm::{
    Arena, BlockSizes, Consumer, LeaseArena, Producer, RacyMem, RingLayout, SharedMemory,
};
use nic_wire::session::{
    Command, CommandFlags, Completion, Geometry, INLINE_ARGUMENT_BYTES, Receive, ReceiveFlags,
};
use nic_wire::{Fate, Status};
use zerocopy::FromZeros;

use super::slots::{Slot, Slots, Stage, Token};
use crate::error::{NicError, OpError, OpPart};
use crate::operation::{Ask, Judgement, Op, Operation, Reply};

/// The smallest piece of an arena, in bytes.
const BLOCK_LEAST: u32 = 256;

pub(super) struct State {
    commands: Producer<64>,
    completions: Consumer<32>,
    pub(super) receives: Consumer<32>,
    pub(super) arena: LeaseArena,
    pub(super) buffers: RacyMem,
    pub(super) buffer_bytes: u32,
    pub(super) slots: Slots,
    /// Ops that are over and that [`Session::poll`](super::Session::poll) has yet to report.
    pub(super) ready: VecDeque<Token>,
    /// Room for one answer to a call, if calls are served.
    pub(super) answer_room: Vec<u8>,
    /// Calls that are answered later, and whether their callers wait as far as is known.
    pub(super) deferred: Vec<(u32, bool)>,
    /// Whether the last command found no place in the ring: answers to calls have places there, too.
    is_ring_full: bool,
    /// Replies that were torn and asked for again.
    pub(super) retries: u64,
    /// Whether the engine is known to be gone.
    pub(super) is_lost: bool,
}

/// Where the parts of an op lie in its piece of the arena: a note, arguments that do not fit the
/// command, then the payload, then the reply.
struct Extent {
    arguments_start: u32,
    payload_start: u32,
    reply_start: u32,
    needed: u32,
}

fn misfit(error: impl std::fmt::Display) -> NicError {
    NicError::Session(error.to_string())
}

impl State {
    /// Maps session memory and checks that it is what was agreed.
    pub(super) fn new(shared: &SharedMemory, geometry: Geometry) -> Result<Self, NicError> {
        let places = geometry.places()?;
        let memory = shared.memory();
        let header: [u8; 32] = memory.read_array(0).map_err(misfit)?;
        if zerocopy::IntoBytes::as_bytes(&geometry.header()) != header {
            return Err(nic_wire::session::BadGeometry::Header.into());
        }
        let ring = |at: u64, entries: u32, entry: u32| {
            let layout = RingLayout::new(entries, entry).map_err(misfit)?;
            let memory = memory.slice(at, layout.bytes()).map_err(misfit)?;
            Ok::<_, NicError>((
                layout.words(&memory).map_err(misfit)?,
                layout.entries(&memory).map_err(misfit)?,
            ))
        };
        let (words, entries) = ring(places.commands, geometry.depth, 64)?;
        let commands = Producer::new(words, &entries).map_err(misfit)?;
        let (words, entries) = ring(places.completions, geometry.depth, 32)?;
        let completions = Consumer::new(words, &entries).map_err(misfit)?;
        let (words, entries) = ring(places.receives, geometry.receive_buffers.max(2), 32)?;
        let receives = Consumer::new(words, &entries).map_err(misfit)?;
        let arena_memory =
            memory.slice(places.arena, u64::from(geometry.arena_bytes)).map_err(misfit)?;
        let greatest = (1 << 21).min(1u32 << geometry.arena_bytes.ilog2());
        let sizes = BlockSizes { least: BLOCK_LEAST, greatest };
        let arena = LeaseArena::new(Arena::new(arena_memory, sizes).map_err(misfit)?);
        let receive_bytes =
            u64::from(geometry.receive_buffers) * u64::from(geometry.receive_buffer_bytes);
        let mut state = State {
            commands,
            completions,
            receives,
            arena,
            buffers: memory.slice(places.buffers, receive_bytes).map_err(misfit)?,
            buffer_bytes: geometry.receive_buffer_bytes,
            slots: Slots::new(geometry.depth),
            ready: VecDeque::with_capacity(geometry.depth as usize),
            answer_room: Vec::new(),
            deferred: Vec::with_capacity(geometry.receive_buffers as usize),
            is_ring_full: false,
            retries: 0,
            is_lost: false,
        };
        if geometry.receive_buffers > 0 {
            state.answer_room = vec![0; state.answer_bytes_max() as usize];
        }
        Ok(state)
    }

    /// Stages an op. `None`: there is no room for it now.
    #[inline]
    pub(super) fn submit<O: Operation>(
        &mut self,
        op: &Op<O>,
        reported: bool,
    ) -> Result<Option<Token>, OpError> {
        self.is_ring_full = false;
        let Some(token) = self.slots.reserve() else { return Ok(None) };
        match self.fill(op, token, reported) {
            Ok(true) => Ok(Some(token)),
            Ok(false) => {
                self.slots.unreserve(token);
                Ok(None)
            }
            Err(error) => {
                self.slots.unreserve(token);
                Err(error)
            }
        }
    }

    /// Fills a slot and stages its command. False: no piece of the arena is free.
    #[inline]
    fn fill<O: Operation>(
        &mut self,
        op: &Op<O>,
        token: Token,
        reported: bool,
    ) -> Result<bool, OpError> {
        let ask = op.operation.ask();
        let Extent { arguments_start, payload_start, reply_start, needed } = self.extent(&ask)?;
        let note_length = ask.note.len() as u32;
        let Some(mut lease) = self.arena.lease(needed) else { return Ok(false) };
        let fits = "a lease is as long as was asked for";
        if note_length > 0 {
            lease.write(0, ask.note).expect(fits);
        }
        if !ask.payload.is_empty() {
            lease.write(payload_start, ask.payload).expect(fits);
        }
        let mut command = Command::new_zeroed();
        command.token = token.into();
        command.kernel = ask.kernel.0.into();
        command.remote = ask.remote.into();
        command.stream = op.stream.into();
        command.flags = if op.fence { CommandFlags::FENCE.bits() } else { 0 };
        command.argument_length = ask.arguments.len() as u8;
        command.payload_offset = (lease.offset() + payload_start).into();
        command.payload_length = (ask.payload.len() as u32).into();
        command.reply_offset = (lease.offset() + reply_start).into();
        command.reply_capacity = ask.reply_capacity.into();
        command.budget_us = budget_us(op.deadline).into();
        match command.arguments.get_mut(..ask.arguments.len()) {
            Some(place) => place.copy_from_slice(ask.arguments),
            None => {
                command.set_arguments_offset(lease.offset() + arguments_start);
                lease.write(arguments_start, ask.arguments).expect(fits);
            }
        }
        if !self.stage(&command) {
            return Ok(false);
        }
        let slot = self.slots.get(token).expect("a reserved slot has its token");
        slot.stage = Stage::Out(lease);
        slot.wanted = true;
        slot.reported = reported;
        slot.is_cancelled = false;
        slot.command = command;
        slot.judge = O::judge;
        slot.facts = ask.facts;
        slot.note_length = note_length;
        slot.reply_start = reply_start;
        Ok(true)
    }

    /// Where the parts of an op lie in its piece of the arena.
    #[inline]
    fn extent(&self, ask: &Ask<'_>) -> Result<Extent, OpError> {
        let within = |part, found: u64, most: u64| {
            if found <= most { Ok(()) } else { Err(OpError::TooLong { part, found, most }) }
        };
        let (note, payload) = (ask.note.len() as u64, ask.payload.len() as u64);
        let reply = u64::from(ask.reply_capacity);
        within(OpPart::Payload, payload, OP_BYTES_MAX.into())?;
        within(OpPart::Reply, reply, OP_BYTES_MAX.into())?;
        let most = u64::from(self.arena.lease_len_max());
        within(OpPart::Piece, note.saturating_add(payload), most)?;
        let arguments_start = note.next_multiple_of(8);
        let long =
            if ask.arguments.len() > INLINE_ARGUMENT_BYTES { ask.arguments.len() } else { 0 };
        let payload_start = (arguments_start + long as u64).next_multiple_of(8);
        let reply_start = (payload_start + payload).next_multiple_of(16);
        let needed = (reply_start + reply).max(1);
        within(OpPart::Piece, needed, most)?;
        // No lease is longer than 4 GiB.
        let [arguments_start, payload_start, reply_start, needed] =
            [arguments_start, payload_start, reply_start, needed].map(|bytes| bytes as u32);
        Ok(Extent { arguments_start, payload_start, reply_start, needed })
    }

    /// The longest piece of the arena in bytes.
    pub(super) fn lease_bytes_max(&self) -> u32 {
        self.arena.lease_len_max()
    }

    /// Whether a session that was full just now need not stay so if the caller does nothing: an op
    /// that nobody wants is out, the engine has yet to take commands, or it is gone.
    pub(super) fn makes_room_by_itself(&self) -> bool {
        self.is_lost || self.is_ring_full || self.slots.any_unwanted()
    }

    /// What keeps an op from being taken.
    #[cold]
    pub(super) fn no_room<O: Operation>(&self, op: &Op<O>) -> OpError {
        let needed = match self.extent(&op.operation.ask()) {
            Ok(extent) => extent.needed,
            Err(error) => return error,
        };
        let arena = self.arena.memory().len();
        OpError::NoRoom {
            needed,
            in_use: self.slots.in_use() as u16,
            over: self.slots.over() as u16,
            depth: self.commands.capacity() as u16,
            held: arena.saturating_sub(self.arena.free_bytes()) as u32,
            arena: arena as u32,
        }
    }

    /// Stages a command that is answered by no completion, or one whose slot is filled.
    #[inline]
    pub(super) fn stage(&mut self, command: &Command) -> bool {
        let bytes: &[u8; 64] = zerocopy::transmute_ref!(command);
        match self.commands.stage(bytes) {
            Ok(is_staged) => {
                self.is_ring_full |= !is_staged;
                is_staged
            }
            // An engine that breaks the rules of its rings is as good as dead.
            Err(_) => {
                self.engine_lost();
                false
            }
        }
    }

    /// Publishes what is staged. True: the engine sleeps and has to be woken.
    #[inline]
    pub(super) fn publish(&mut self) -> bool {
        self.commands.publish()
    }

    /// Takes the completions that have come; judges their replies. Returns whether any had.
    #[inline]
    pub(super) fn drain(&mut self) -> bool {
        let mut completion = Completion::new_zeroed();
        let mut any = false;
        // Once the engine is lost all ops are over, and what else is found here is of no use.
        while !self.is_lost {
            let bytes: &mut [u8; 32] = zerocopy::transmute_mut!(&mut completion);
            match self.completions.take(bytes) {
                Ok(true) => {
                    any = true;
                    self.completed(completion);
                }
                Ok(false) => break,
                // An engine that breaks the rules of its rings is as good as dead.
                Err(_) => {
                    self.engine_lost();
                    break;
                }
            }
        }
        self.completions.release();
        any
    }

    #[inline]
    fn completed(&mut self, completion: Completion) {
        let token = completion.token.get();
        let Some(slot) = self.slots.get(token).filter(|slot| slot.is_out()) else { return };
        let Stage::Out(lease) = std::mem::replace(&mut slot.stage, Stage::Free) else { return };
        let length = slot.reply_start.saturating_add(completion.length.get());
        // A length beyond the lease is an engine's fault: nothing of the reply is shown.
        if length > lease.capacity() {
            slot.stage = Stage::Out(lease);
            return self.engine_lost();
        }
        let Ok(lease) = lease.completed(length) else { return };
        if matches!(completion.status(), Status::Ok | Status::Continues) && slot.wanted {
            let bytes = lease.bytes();
            let note = &bytes[..slot.note_length as usize];
            let reply = &bytes[slot.reply_start as usize..];
            if (slot.judge)(&slot.facts, note, reply) == Judgement::Again {
                return self.again(token, completion, lease.into_lease());
            }
        }
        if slot.wanted {
            slot.end(completion, Some(lease));
            if slot.reported {
                self.ready.push_back(token);
            }
        } else {
            self.slots.release(token);
        }
    }

    /// Issues an op anew with what is left of its time, unless its application has cancelled it.
    #[cold]
    fn again(&mut self, token: Token, mut completion: Completion, lease: nic_shm::Lease) {
        self.retries += 1;
        let Some(slot) = self.slots.get(token) else { return };
        let spent_us = completion.total_delay_ns.get().div_ceil(1000).max(1);
        let left_us = slot.command.budget_us.get().saturating_sub(spent_us);
        slot.command.budget_us = left_us.into();
        let (command, is_cancelled) = (slot.command, slot.is_cancelled);
        slot.stage = Stage::Out(lease);
        if is_cancelled || left_us == 0 || !self.stage(&command) {
            let status = if is_cancelled { Status::Cancelled } else { Status::Torn };
            completion.status = status.code().into();
            completion.fate = Fate::NotExecuted.code();
            completion.length = 0.into();
            self.over(token, completion);
        }
    }

    /// Notes that an op is over that has no reply.
    #[cold]
    fn over(&mut self, token: Token, completion: Completion) {
        let Some(slot) = self.slots.get(token) else { return };
        if !slot.wanted {
            return self.slots.release(token);
        }
        slot.end(completion, None);
        if slot.reported {
            self.ready.push_back(token);
        }
    }

    /// The engine has died: ops that it completed before are taken in, the others end here.
    pub(super) fn engine_died(&mut self) {
        self.drain();
        self.engine_lost();
    }

    /// The engine is gone: its ops end here.
    fn engine_lost(&mut self) {
        self.is_lost = true;
        for token in self.slots.out() {
            let mut completion = Completion::new_zeroed();
            let only_reads = |slot: &Slot| slot.command.kernel().only_reads();
            let is_safe = self.slots.get(token).is_some_and(|slot| only_reads(slot));
            let fate = if is_safe { Fate::NotExecuted } else { Fate::Unknown };
            completion.token = token.into();
            completion.status = Status::EngineLost.code().into();
            completion.fate = fate.code();
            self.over(token, completion);
        }
    }

    /// Whether an op is over; `None` for a token that names nothing.
    #[inline]
    pub(super) fn completion(&mut self, token: Token) -> Option<Completion> {
        match self.slots.get(token)?.stage {
            Stage::Over(completion, _) => Some(completion),
            _ => None,
        }
    }

    /// Takes the result of an op that is over; its slot is free again.
    #[inline]
    pub(super) fn take<O: Operation>(
        &mut self,
        token: Token,
    ) -> Option<Result<O::Output, OpError>> {
        let slot = self.slots.get(token)?;
        if !matches!(slot.stage, Stage::Over(..)) {
            return None;
        }
        let facts = slot.facts;
        let (start, note_length) = (slot.reply_start, slot.note_length);
        let stage = slot.vacate();
        self.slots.free(token);
        let Stage::Over(completion, lease) = stage else { return None };
        let (status, fate) = (completion.status(), completion.fate());
        match (status, lease) {
            (Status::Ok | Status::Continues, Some(lease)) => {
                Some(O::result(&facts, Reply { lease, start, note_length, status, fate }))
            }
            (_, lease) => {
                let refusal = self.slots.last_of(token).refusal(status, lease.as_ref());
                Some(Err(OpError::Failed { status, fate, refusal }))
            }
        }
    }

    /// The engine was asked to end an op.
    pub(super) fn cancelled(&mut self, token: Token) {
        if let Some(slot) = self.slots.get(token) {
            slot.is_cancelled = true;
        }
    }

    /// The way that an op went that is out.
    pub(super) fn remote_of(&mut self, token: Token) -> Option<u16> {
        let slot = self.slots.get(token).filter(|slot| slot.is_out())?;
        Some(slot.command.remote.get())
    }

    /// Nobody wants an op's result any more: its slot is free once it is over.
    pub(super) fn abandon(&mut self, token: Token) {
        let Some(slot) = self.slots.get(token) else { return };
        slot.wanted = false;
        slot.waker = None;
        if matches!(slot.stage, Stage::Over(..)) {
            self.slots.release(token);
        }
    }

    /// Whether completions or calls wait, by the rings' words.
    #[inline]
    pub(super) fn has_arrivals(&mut self) -> bool {
        !matches!(self.completions.available(), Ok(0))
            || !matches!(self.receives.available(), Ok(0))
    }

    /// Asks to be woken and looks once more. True: may sleep.
    pub(super) fn prepare_sleep(&mut self) -> bool {
        let may_sleep = self.completions.prepare_sleep() && self.receives.prepare_sleep();
        if !may_sleep {
            self.awake();
        }
        may_sleep
    }

    pub(super) fn awake(&mut self) {
        self.completions.awake();
        self.receives.awake();
    }

    /// The next call to serve. What is told of earlier ones is taken in.
    pub(super) fn receive(&mut self) -> Option<Receive> {
        let mut receive = Receive::new_zeroed();
        loop {
            let bytes: &mut [u8; 32] = zerocopy::transmute_mut!(&mut receive);
            let is_taken = self.receives.take(bytes).unwrap_or(false);
            self.receives.release();
            if !is_taken {
                return None;
            }
            let flags = ReceiveFlags::from_bits_truncate(receive.flags.get());
            if !flags.contains(ReceiveFlags::CANCELLED) {
                return Some(receive);
            }
            // A call that was answered at once has no use for it.
            let call = receive.call.get();
            if let Some(deferred) = self.deferred.iter_mut().find(|deferred| deferred.0 == call) {
                deferred.1 = false;
            }
        }
    }
}

fn budget_us(deadline: Duration) -> u32 {
    u32::try_from(deadline.as_micros()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests;
