//! A session as the engine sees it: rings and arena in memory that the application writes at will.
//!
//! Nothing found there is believed: slots are copied once and the copy is checked; the geometry is
//! the engine's own copy; ring words are checked by the cursors.

use nic_shm::{Consumer, Producer, RacyMem, RingError, RingLayout};
use nic_wire::session::{
    BadGeometry, COMMAND_ARGUMENT_BYTES_MAX, Command, Completion, Geometry, Receive, ReceiveFlags,
};
use nic_wire::{Fate, Status, Time};
use zerocopy::{FromZeros, IntoBytes};

use super::initiator::OP_BYTES_MAX;
use super::live::LiveSession;
use super::remotes::Remotes;
use super::work::Bells;

const COMMAND_BYTES: usize = size_of::<Command>();
const COMPLETION_BYTES: usize = size_of::<Completion>();
const RECEIVE_BYTES: usize = size_of::<Receive>();

/// One thread's queues.
pub(super) struct Session {
    /// The application it belongs to.
    pub(super) client: u16,
    pub(super) commands: Consumer<COMMAND_BYTES>,
    completions: Producer<COMPLETION_BYTES>,
    receives: Producer<RECEIVE_BYTES>,
    pub(super) arena: RacyMem,
    buffers: RacyMem,
    receive_buffer_bytes: u32,
    free_buffers: Vec<u32>,
    /// Which buffers the application has.
    lent: Vec<bool>,
    bells: Option<Bells>,
    /// Its ways to regions of other hosts.
    pub(super) remotes: Remotes,
    /// A command taken for which there was no room.
    standing_by: Option<Command>,
    /// Commands taken whose completion is not yet staged.
    pub(super) out: u32,
    /// How many of them are answers that lie in the arena; the others are ops.
    answering: u32,
    /// Ops that have ended for the application, but not for the target: they keep their places in the
    /// engine's table.
    pub(super) abandoned: u32,
    /// What its ops cost that have left and not ended, see [`super::lanes::cost`].
    pub(super) cost_out: u32,
    /// When one of its ops left last.
    pub(super) left: Time,
    depth: u32,
    /// Whether something is staged that has not been published.
    pub(super) dirty: bool,
    /// The application broke the rules of its rings; nothing more is taken from it.
    pub(super) violated: bool,
}

/// Why session memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Its sizes cannot be.
    #[error(transparent)]
    Geometry(#[from] BadGeometry),
    /// The memory is not as long as its geometry says.
    #[error("session memory is too short: {0}")]
    Memory(#[from] nic_shm::OutOfBounds),
    /// A ring does not fit.
    #[error("session ring: {0}")]
    Ring(#[from] RingError),
    /// The memory cannot be written.
    #[error("session memory: {0}")]
    Write(#[from] nic_shm::WriteError),
}

impl Session {
    /// Lays out new session memory and writes its header, the magic last.
    pub(super) fn format(
        client: u16,
        memory: &RacyMem,
        geometry: Geometry,
    ) -> Result<Self, SessionError> {
        let places = geometry.places()?;
        let ring = |at: u64, entries: u32, entry: usize| -> Result<_, SessionError> {
            let layout = RingLayout::new(entries, entry as u32)?;
            let memory = memory.slice(at, layout.bytes())?;
            Ok((layout.words(&memory)?, layout.entries(&memory)?))
        };
        let (words, entries) = ring(places.commands, geometry.depth, COMMAND_BYTES)?;
        let commands = Consumer::new(words, &entries)?;
        let (words, entries) = ring(places.completions, geometry.depth, COMPLETION_BYTES)?;
        let completions = Producer::new(words, &entries)?;
        let buffers = geometry.receive_buffers;
        let (words, entries) = ring(places.receives, buffers.max(2), RECEIVE_BYTES)?;
        let receives = Producer::new(words, &entries)?;
        let header = geometry.header();
        let bytes = header.as_bytes();
        memory.write(8, &bytes[8..])?;
        memory.write_release_tail(0, &bytes[..8])?;
        Ok(Session {
            client,
            commands,
            completions,
            receives,
            arena: memory.slice(places.arena, u64::from(geometry.arena_bytes))?,
            buffers: memory.slice(
                places.buffers,
                u64::from(buffers) * u64::from(geometry.receive_buffer_bytes),
            )?,
            receive_buffer_bytes: geometry.receive_buffer_bytes,
            free_buffers: (0..buffers).rev().collect(),
            lent: vec![false; buffers as usize],
            bells: None,
            remotes: Remotes::new(),
            standing_by: None,
            out: 0,
            answering: 0,
            abandoned: 0,
            cost_out: 0,
            left: Time::ZERO,
            depth: geometry.depth,
            dirty: false,
            violated: false,
        })
    }

    /// With bells, by which it and its application wake each other.
    pub(super) fn with_bells(self, bells: Option<Bells>) -> Self {
        Session { bells, ..self }
    }

    /// What is told of it to who asks.
    pub(super) fn live(&self, session: u16) -> LiveSession {
        let Session { client, depth, violated, .. } = *self;
        LiveSession { session, client, ops: self.ops_out(), depth, violated }
    }

    /// How many of its ops are out.
    #[inline]
    pub(super) fn ops_out(&self) -> u32 {
        self.out - self.answering
    }

    /// Notes that an answer was taken which lies in the arena.
    pub(super) fn answer_taken(&mut self) {
        self.out += 1;
        self.answering += 1;
    }

    /// Whether bytes that a command names lie in the arena.
    #[inline]
    pub(super) fn has_in_arena(&self, offset: u32, length: u32) -> bool {
        length <= OP_BYTES_MAX && u64::from(offset) + u64::from(length) <= self.arena.len()
    }

    /// How many more commands may be taken: every op taken has a place for its completion.
    #[inline]
    pub(super) fn room(&mut self) -> u32 {
        let spare = self.depth.saturating_sub(self.out);
        match self.completions.free_for(self.out.saturating_add(1).min(self.depth)) {
            Ok(free) => free.saturating_sub(self.out).min(spare),
            Err(_) => {
                self.violated = true;
                0
            }
        }
    }

    /// Whether [`Session::next_command`] has something that can go on.
    #[inline]
    pub(super) fn has_command(&mut self) -> bool {
        match self.standing_by {
            Some(_) => self.room() > 0,
            None => !matches!(self.commands.available(), Ok(0)),
        }
    }

    /// Copies the next command to `into`: the one that stands by, or one from the ring. False if
    /// there is none.
    #[inline]
    pub(super) fn next_command(&mut self, into: &mut Command) -> bool {
        if let Some(command) = self.standing_by.take() {
            *into = command;
            return true;
        }
        let bytes: &mut [u8; COMMAND_BYTES] = zerocopy::transmute_mut!(into);
        self.commands.take(bytes).unwrap_or_else(|_| {
            self.violated = true;
            false
        })
    }

    /// Copies arguments that did not fit their command; they were found to lie in the arena when it
    /// was picked up.
    #[inline(never)]
    pub(super) fn long_arguments<'a>(
        &self,
        command: &Command,
        into: &'a mut [u8; COMMAND_ARGUMENT_BYTES_MAX],
    ) -> &'a [u8] {
        let into = &mut into[..usize::from(command.argument_length)];
        let is_read = self.arena.read(command.arguments_offset().into(), into).is_ok();
        assert!(is_read, "the arguments' place is checked at pickup");
        into
    }

    /// Keeps a command for which there is no room until the application takes completions.
    pub(super) fn stand_by(&mut self, command: Command) {
        self.standing_by = Some(command);
    }

    /// Whether the engine may sleep as far as this session goes: it will be woken for the next
    /// command, but not for completions that the application takes.
    pub(super) fn prepare_sleep(&mut self) -> bool {
        self.violated || (self.standing_by.is_none() && self.commands.prepare_sleep())
    }

    /// Stages a completion; published at the end of the turn.
    #[inline]
    pub(super) fn complete(&mut self, completion: &Completion) {
        self.out -= 1;
        self.dirty = true;
        let bytes: &[u8; COMPLETION_BYTES] = zerocopy::transmute_ref!(completion);
        // Room was reserved at pickup, unless the application scribbles over its ring words: then
        // nobody honest waits for the completion.
        if self.completions.stage(bytes) != Ok(true) {
            self.violated = true;
        }
    }

    /// Stages the completion of an answer that lies in the arena: it is read no more.
    pub(super) fn answer_done(&mut self, token: u64, status: Status) {
        self.answering -= 1;
        let mut completion = Completion::new_zeroed();
        completion.token = token.into();
        completion.status = status.code().into();
        completion.fate = Fate::Executed.code();
        self.complete(&completion);
    }

    /// Copies a call's request into a free receive buffer and stages its slot. Returns the buffer;
    /// `None` if there is none or it is too small.
    pub(super) fn deliver(&mut self, request: &[u8], mut receive: Receive) -> Option<u32> {
        if request.len() > self.receive_buffer_bytes as usize {
            return None;
        }
        let buffer = self.free_buffers.pop()?;
        receive.buffer = buffer.into();
        receive.length = (request.len() as u32).into();
        let bytes: &[u8; RECEIVE_BYTES] = zerocopy::transmute_ref!(&receive);
        let is_written = self.buffers.write(self.buffer_at(buffer), request).is_ok();
        let staged = self.receives.stage(bytes);
        self.violated |= staged.is_err();
        if !(is_written && staged == Ok(true)) {
            self.free_buffers.push(buffer);
            return None;
        }
        self.lent[buffer as usize] = true;
        self.dirty = true;
        Some(buffer)
    }

    /// Stages word that the caller of a call does not wait any more. False if there is no room.
    pub(super) fn tell_cancelled(&mut self, call: u32) -> bool {
        let mut receive = Receive::new_zeroed();
        receive.call = call.into();
        receive.flags = ReceiveFlags::CANCELLED.bits().into();
        let bytes: &[u8; RECEIVE_BYTES] = zerocopy::transmute_ref!(&receive);
        let staged = self.receives.stage(bytes);
        self.violated |= staged.is_err();
        self.dirty = true;
        staged == Ok(true)
    }

    /// Copies a part of the answer that lies in a receive buffer.
    #[inline]
    pub(super) fn read_answer(&self, buffer: u32, offset: u32, into: &mut [u8]) {
        let at = self.buffer_at(buffer) + u64::from(offset);
        let fits = offset as usize + into.len() <= self.receive_buffer_bytes as usize;
        let is_read = fits && self.buffers.read(at, into).is_ok();
        assert!(is_read, "an answer's length is checked when it is picked up");
    }

    /// Copies a part of the answer that lies in the arena from `at` on.
    #[inline]
    pub(super) fn read_long_answer(&self, at: u32, offset: u32, into: &mut [u8]) {
        let is_read = self.arena.read(u64::from(at) + u64::from(offset), into).is_ok();
        assert!(is_read, "an answer's place is checked when it is picked up");
    }

    /// The longest answer that a receive buffer holds, in bytes.
    pub(super) fn answer_bytes_max(&self) -> u32 {
        self.receive_buffer_bytes
    }

    /// Takes a receive buffer back; false if the application never had it.
    pub(super) fn free_buffer(&mut self, buffer: u32) -> bool {
        match self.lent.get_mut(buffer as usize) {
            Some(lent) if *lent => {
                *lent = false;
                self.free_buffers.push(buffer);
                true
            }
            _ => false,
        }
    }

    /// Publishes what the turn has staged. True if the application had to be woken.
    #[inline]
    pub(super) fn publish(&mut self) -> bool {
        self.dirty = false;
        // Both rings are asked: either may be slept on.
        let wanted = self.completions.publish() | self.receives.publish();
        if let (true, Some(bells)) = (wanted, &self.bells) {
            bells.application.ring();
        }
        wanted
    }

    #[inline]
    fn buffer_at(&self, buffer: u32) -> u64 {
        u64::from(buffer) * u64::from(self.receive_buffer_bytes)
    }
}
