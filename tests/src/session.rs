//! The application's side of a session, written down as plainly as can be.

use nic_engine::engine::ClientId;
use nic_shm::{Consumer, Producer, RacyMem, RingLayout};
use nic_wire::session::{ANSWER, AnswerArguments, Command, CommandFlags, Completion, Geometry};
use nic_wire::session::{Places, Receive};
use nic_wire::{Fate, Span, Status};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::ask::Ask;
use crate::world::{HostId, World};

const COMMAND_BYTES: usize = size_of::<Command>();
const COMPLETION_BYTES: usize = size_of::<Completion>();
const RECEIVE_BYTES: usize = size_of::<Receive>();
/// What the landing places of replies hold before.
const UNTOUCHED: u8 = 0xe7;
/// How many bytes behind a reply are looked at.
const GUARD_BYTES: usize = 64;

/// Room for 16 ops of up to 4 KiB of payload and of reply, no receive buffers.
pub fn small_session() -> Geometry {
    Geometry { depth: 16, arena_bytes: 16 * 8192, receive_buffers: 0, receive_buffer_bytes: 0 }
}

/// How an op ended, with the bytes of its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The op's name.
    pub token: u64,
    /// How it ended.
    pub status: Status,
    /// What is known of its effect.
    pub fate: Fate,
    /// The reply.
    pub reply: Vec<u8>,
    /// From pickup until the reply was whole, in nanoseconds.
    pub total_delay_ns: u32,
}

impl Done {
    /// Whether it ran and its reply is whole.
    pub fn is_ok(&self) -> bool {
        self.ended() == (Status::Ok, Fate::Executed)
    }

    /// Status and fate.
    pub fn ended(&self) -> (Status, Fate) {
        (self.status, self.fate)
    }

    /// The reply as a word.
    pub fn word(&self) -> u64 {
        u64::from_le_bytes(self.reply.as_slice().try_into().expect("the reply is a word"))
    }
}

/// A call to be served.
#[derive(Clone, Debug)]
pub struct Served {
    /// The slot as it came.
    pub slot: Receive,
    /// The request.
    pub request: Vec<u8>,
}

/// What an application keeps of a session. The arena is cut into as many equal pieces as ops may
/// be out: an op's payload lies in the first half of its piece, its reply lands in the second.
pub struct AppSession {
    /// Whose engine.
    pub host: HostId,
    /// Whose session.
    pub client: ClientId,
    /// Its number.
    pub id: u32,
    /// All of its memory.
    pub memory: RacyMem,
    /// Where everything lies there.
    pub places: Places,
    geometry: Geometry,
    commands: Producer<COMMAND_BYTES>,
    completions: Consumer<COMPLETION_BYTES>,
    receives: Consumer<RECEIVE_BYTES>,
    arena: RacyMem,
    buffers: RacyMem,
    /// The tokens that are out, by piece of the arena, and the reply's room.
    out: Vec<Option<(u64, u32)>>,
    serial: u64,
}

impl AppSession {
    pub(crate) fn new(
        host: HostId,
        client: ClientId,
        id: u32,
        memory: RacyMem,
        geometry: Geometry,
    ) -> Self {
        let places = geometry.places().unwrap();
        let ring = |at: u64, entries: u32, entry: usize| {
            let layout = RingLayout::new(entries, entry as u32).unwrap();
            let memory = memory.slice(at, layout.bytes()).unwrap();
            (layout.words(&memory).unwrap(), layout.entries(&memory).unwrap())
        };
        let (words, entries) = ring(places.commands, geometry.depth, COMMAND_BYTES);
        let commands = Producer::new(words, &entries).unwrap();
        let (words, entries) = ring(places.completions, geometry.depth, COMPLETION_BYTES);
        let completions = Consumer::new(words, &entries).unwrap();
        let (words, entries) =
            ring(places.receives, geometry.receive_buffers.max(2), RECEIVE_BYTES);
        let receives = Consumer::new(words, &entries).unwrap();
        let buffers =
            u64::from(geometry.receive_buffers) * u64::from(geometry.receive_buffer_bytes);
        AppSession {
            host,
            client,
            id,
            arena: memory.slice(places.arena, u64::from(geometry.arena_bytes)).unwrap(),
            buffers: memory.slice(places.buffers, buffers).unwrap(),
            memory,
            places,
            geometry,
            commands,
            completions,
            receives,
            out: vec![None; geometry.depth as usize],
            serial: 0,
        }
    }

    /// How many ops are out.
    pub fn out(&self) -> usize {
        self.out.iter().flatten().count()
    }

    /// Whether another op can be submitted.
    pub fn has_room(&self) -> bool {
        self.out.iter().any(Option::is_none)
    }

    /// The most payload, and the most reply, of an op in bytes.
    pub fn piece_bytes(&self) -> u32 {
        self.geometry.arena_bytes / self.geometry.depth / 2
    }

    /// Submits an op and returns its token.
    ///
    /// # Panics
    /// If as many ops are out as the session is deep, or the op needs more arena than its piece.
    pub fn submit(&mut self, ask: &Ask) -> u64 {
        let command = self.prepare(ask);
        self.push(&command);
        command.token.get()
    }

    /// Makes a command of an op, whose place in the arena is taken from then on.
    pub fn prepare(&mut self, ask: &Ask) -> Command {
        let piece =
            self.out.iter().position(Option::is_none).expect("fewer ops out than the depth");
        let half = self.piece_bytes();
        assert!(ask.payload.len() as u32 <= half && ask.reply_capacity <= half, "a larger arena");
        let payload_offset = piece as u32 * 2 * half;
        let reply_offset = payload_offset + half;
        self.serial += 1;
        let token = self.serial << 16 | piece as u64;
        self.out[piece] = Some((token, ask.reply_capacity));
        self.arena.write(payload_offset.into(), &ask.payload).unwrap();
        self.arena.fill(reply_offset.into(), half.into(), UNTOUCHED).unwrap();
        let mut command = Command::new_zeroed();
        command.token = token.into();
        command.kernel = ask.kernel.0.into();
        command.remote = ask.remote.into();
        command.stream = ask.stream.into();
        command.flags = if ask.fence { CommandFlags::FENCE.bits() } else { 0 };
        command.argument_length = ask.arguments.len() as u8;
        command.payload_offset = payload_offset.into();
        command.payload_length = (ask.payload.len() as u32).into();
        command.reply_offset = reply_offset.into();
        command.reply_capacity = ask.reply_capacity.into();
        command.budget_us = (ask.budget.as_us() as u32).into();
        match command.arguments.get_mut(..ask.arguments.len()) {
            Some(place) => place.copy_from_slice(&ask.arguments),
            None => {
                // They lie behind the payload.
                let behind = (ask.payload.len() as u32).next_multiple_of(8);
                assert!(behind + ask.arguments.len() as u32 <= half, "a larger arena");
                self.arena.write((payload_offset + behind).into(), &ask.arguments).unwrap();
                command.set_arguments_offset(payload_offset + behind);
            }
        }
        command
    }

    /// Puts a command into the ring as it is.
    pub fn push(&mut self, command: &Command) {
        let bytes: &[u8; COMMAND_BYTES] = command.as_bytes().try_into().unwrap();
        assert_eq!(self.commands.stage(bytes), Ok(true), "the command ring has room");
        let _ = self.commands.publish();
    }

    /// Takes all completions that are there.
    ///
    /// # Panics
    /// If one names no op that is out, or bytes behind its reply were written.
    pub fn poll(&mut self) -> Vec<Done> {
        let taken = self.poll_raw();
        taken.iter().map(|completion| self.finished(completion)).collect()
    }

    /// Takes all completions that are there, whatever they name.
    pub fn poll_raw(&mut self) -> Vec<Completion> {
        let mut taken = Vec::new();
        let mut bytes = [0; COMPLETION_BYTES];
        while self.completions.take(&mut bytes).expect("the engine keeps the ring's rules") {
            taken.push(Completion::read_from_bytes(&bytes).unwrap());
        }
        self.completions.release();
        taken
    }

    fn finished(&mut self, completion: &Completion) -> Done {
        let token = completion.token.get();
        let piece = token as u16 as usize;
        let out = self.out.get(piece).copied().flatten();
        let (_, capacity) = out.filter(|(expected, _)| *expected == token).unwrap_or_else(|| {
            panic!("completion of {token:#x}, which is not out: {completion:?}")
        });
        self.out[piece] = None;
        let (half, length) = (self.piece_bytes(), completion.length.get());
        assert!(length <= capacity, "a reply of {length} bytes where {capacity} fit");
        let at = piece as u64 * 2 * u64::from(half) + u64::from(half);
        let mut reply = vec![0; length as usize];
        self.arena.read(at, &mut reply).unwrap();
        if completion.status() == Status::Ok {
            let mut guard = [UNTOUCHED; GUARD_BYTES];
            let after = (half - length).min(GUARD_BYTES as u32) as usize;
            self.arena.read(at + u64::from(length), &mut guard[..after]).unwrap();
            assert_eq!(guard, [UNTOUCHED; GUARD_BYTES], "bytes behind the reply of {token:#x}");
        }
        Done {
            token,
            status: completion.status(),
            fate: completion.fate(),
            reply,
            total_delay_ns: completion.total_delay_ns.get(),
        }
    }

    /// The second half of an op's piece of the arena, whoever uses it now.
    pub fn landing_place(&self, token: u64) -> Vec<u8> {
        let half = self.piece_bytes();
        let mut bytes = vec![0; half as usize];
        let at = u64::from(token as u16) * 2 * u64::from(half) + u64::from(half);
        self.arena.read(at, &mut bytes).unwrap();
        bytes
    }

    /// Takes all calls that wait to be served.
    pub fn calls(&mut self) -> Vec<Served> {
        let mut taken = Vec::new();
        let mut bytes = [0; RECEIVE_BYTES];
        while self.receives.take(&mut bytes).expect("the engine keeps the ring's rules") {
            let slot = Receive::read_from_bytes(&bytes).unwrap();
            let mut request = vec![0; slot.length.get() as usize];
            self.buffers.read(self.buffer_at(&slot), &mut request).unwrap();
            taken.push(Served { slot, request });
        }
        self.receives.release();
        taken
    }

    /// Answers a call.
    pub fn answer(&mut self, call: &Served, status: Status, answer: &[u8]) {
        self.buffers.write(self.buffer_at(&call.slot), answer).unwrap();
        self.push_answer(&AnswerArguments {
            call: call.slot.call,
            buffer: call.slot.buffer,
            length: (answer.len() as u32).into(),
            status: status.code().into(),
        });
    }

    /// Answers a call out of the arena. The answer takes an op's place until it is over by the name
    /// that is returned.
    pub fn answer_long(&mut self, call: &Served, answer: &[u8]) -> u64 {
        let command = self.long_answer(call, answer);
        self.push(&command);
        command.token.get()
    }

    /// Makes a command of an answer in the arena.
    pub fn long_answer(&mut self, call: &Served, answer: &[u8]) -> Command {
        let ask = Ask::kernel(0, ANSWER, &[], 0);
        let mut command = self.prepare(&Ask { payload: answer.to_vec(), ..ask });
        name_call(
            &mut command,
            &AnswerArguments {
                call: call.slot.call,
                buffer: call.slot.buffer,
                length: 0.into(),
                status: Status::Ok.code().into(),
            },
        );
        command
    }

    /// Answers a call in any words.
    pub fn push_answer(&mut self, answer: &AnswerArguments) {
        let mut command = Command::new_zeroed();
        command.kernel = ANSWER.0.into();
        name_call(&mut command, answer);
        self.push(&command);
    }

    fn buffer_at(&self, slot: &Receive) -> u64 {
        u64::from(slot.buffer.get()) * u64::from(self.geometry.receive_buffer_bytes)
    }
}

fn name_call(command: &mut Command, answer: &AnswerArguments) {
    command.argument_length = size_of::<AnswerArguments>() as u8;
    command.arguments[..size_of::<AnswerArguments>()].copy_from_slice(answer.as_bytes());
}

impl World {
    /// Submits an op and waits for its completion. No other op of the session may be out.
    pub fn run(&mut self, session: &mut AppSession, ask: &Ask) -> Done {
        assert_eq!(session.out(), 0, "only this op is out");
        session.submit(ask);
        self.wait(session).pop().expect("one op was out")
    }

    /// Waits until no op of a session is out, and returns the completions in their order.
    pub fn wait(&mut self, session: &mut AppSession) -> Vec<Done> {
        let mut done = Vec::new();
        self.run_until("every op completes", Span::from_ms(20_000), |_| {
            done.extend(session.poll());
            session.out() == 0
        });
        done
    }

    /// Waits until a call is to be served.
    pub fn next_call(&mut self, session: &mut AppSession) -> Served {
        let mut calls = Vec::new();
        self.run_until("a call arrives", Span::from_ms(5_000), |_| {
            calls.extend(session.calls());
            !calls.is_empty()
        });
        assert_eq!(calls.len(), 1, "one call was expected");
        calls.remove(0)
    }
}
