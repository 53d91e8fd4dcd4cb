//! An application that writes anything into the memory that it shares with its engine while the
//! engine works with it, and anything to its socket. It sleeps between bursts: what is measured is
//! the engine, not the scheduler.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use nic_host::Ticket;
use nic_kernels::{read, write};
use nic_ports::Random;
use nic_shm::{ControlSocket, Incoming, RacyMem, SharedMemory, wait_any};
use nic_wire::KernelId;
use nic_wire::control::{self, ControlReply, ControlRequest, MAX_CONTROL_BYTES};
use nic_wire::session::{Command, Geometry, LAYOUT_VERSION, Places, RING_WORDS_BYTES};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zerocopy::{FromZeros, IntoBytes};

use super::link::{Link, Worker};
use super::owner::{SAND_BYTES, is_marked};
use super::roles::{Options, Order};

const GEOMETRY: Geometry =
    Geometry { depth: 64, arena_bytes: 64 << 12, receive_buffers: 4, receive_buffer_bytes: 64 };
/// Room for each reply, far from the arena's end.
const REPLY_BYTES: u32 = 2048;
/// Between two bursts, and how many words each writes.
const NAP: Duration = Duration::from_micros(100);
const BURST: u32 = 48;
/// Bursts of a life.
const LIFE: u32 = 100;
/// How long the engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What it has done.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Deeds {
    /// Sessions that it has spoiled.
    pub(super) lives: u64,
    /// Words written.
    pub(super) words: u64,
    /// Messages to the engine's socket that are none.
    pub(super) messages: u64,
    /// Times that the engine has given it no session.
    pub(super) refusals: u64,
    /// Sessions whose memory has held bytes of a canary in the end.
    pub(super) leaks: u64,
}

struct Vandal {
    options: Options,
    sand: Ticket,
    random: Random,
    is_going: bool,
    life: Option<Life>,
    deeds: Deeds,
}

/// A session, of which nothing is left but its memory.
struct Life {
    memory: RacyMem,
    places: Places,
    remote: u16,
    published: u32,
    bursts: u32,
    /// Whether the words of the rings are spoiled as well: then the engine soon gives it up.
    is_thorough: bool,
    /// Closed at the end, which nothing else announces.
    _socket: ControlSocket,
}

pub(super) fn run(link: &Link, options: &Options) -> Result<()> {
    let [_, _, sand] = options.tickets()?;
    link.drive(&mut Vandal {
        options: options.clone(),
        sand,
        random: Random::new(options.seed),
        is_going: false,
        life: None,
        deeds: Deeds::default(),
    })
}

impl Worker for Vandal {
    fn obey(&mut self, order: Order) -> Result<Value> {
        match order {
            Order::Go(_) => self.is_going = true,
            Order::Rest => {
                self.is_going = false;
                self.end_life()?;
            }
            other => bail!("found the order {other:?}, expected Go or Rest"),
        }
        Ok(serde_json::to_value(self.deeds)?)
    }

    fn work(&mut self) -> Result<Option<Duration>> {
        if !self.is_going {
            return Ok(None);
        }
        match &mut self.life {
            None => {
                self.deeds.messages += rude_messages(&self.options.socket, &mut self.random)?;
                let is_thorough = self.random.below(4) == 0;
                match Life::begin(&self.options.socket, &self.sand, is_thorough) {
                    Ok(life) => self.life = Some(life),
                    // It may well be told that there is no room just now.
                    Err(_) => self.deeds.refusals += 1,
                }
            }
            Some(life) => {
                self.deeds.words += life.burst(&mut self.random)?;
                if life.bursts == LIFE {
                    self.end_life()?;
                }
            }
        }
        Ok(Some(NAP))
    }
}

impl Vandal {
    fn end_life(&mut self) -> Result<()> {
        if let Some(life) = self.life.take() {
            let mut bytes = vec![0; life.memory.len() as usize];
            life.memory.read(0, &mut bytes)?;
            self.deeds.leaks += u64::from(is_marked(&bytes));
            self.deeds.lives += 1;
        }
        Ok(())
    }
}

impl Life {
    fn begin(path: &Path, sand: &Ticket, is_thorough: bool) -> Result<Life> {
        let socket = ControlSocket::connect(path)?;
        let (name, engine) = ("vandal".to_owned(), None);
        ask(&socket, &ControlRequest::Hello { layout_version: LAYOUT_VERSION, name, engine })?;
        let request = ControlRequest::OpenSession { geometry: GEOMETRY };
        let (reply, memory) = ask(&socket, &request)?;
        let (ControlReply::Session { session }, Some(memory)) = (reply, memory) else {
            bail!("no session was opened");
        };
        let rkey = (sand.rkey.export.get(), sand.rkey.generation.get(), sand.rkey.secret.get());
        let (reply, _) =
            ask(&socket, &ControlRequest::Connect { session, engine: sand.engine, rkey })?;
        let ControlReply::Connected { remote } = reply else { bail!("no way: {reply:?}") };
        Ok(Life {
            memory: memory.memory(),
            places: GEOMETRY.places()?,
            remote,
            published: 0,
            bursts: 0,
            is_thorough,
            _socket: socket,
        })
    }

    /// Some commands, and some words where none belong. How many words.
    fn burst(&mut self, random: &mut Random) -> Result<u64> {
        self.bursts += 1;
        if !self.is_thorough {
            // The completions that it was given count as taken, so that there is room for more.
            let [completed, drained] = [0, 64].map(|at| self.places.completions + at);
            let completed = self.memory.word32(completed)?.load(Ordering::Acquire);
            self.memory.word32(drained)?.store(completed, Ordering::Release);
            for _ in 0..4 {
                self.publish(random)?;
            }
        }
        for _ in 0..BURST {
            let at = self.place(random);
            self.memory.word32(at)?.store(word(random), Ordering::Relaxed);
        }
        Ok(BURST.into())
    }

    /// Most words lie in the header and the arena; most of the writes do not.
    fn place(&self, random: &mut Random) -> u64 {
        let Places { commands, completions, receives, arena, .. } = self.places;
        let words = RING_WORDS_BYTES as u64;
        loop {
            let (start, end) = match random.below(8) {
                0 => (0, self.memory.len()),
                _ => (commands, arena),
            };
            let at = start + 4 * random.below((end - start) / 4);
            let in_words = |ring: &u64| (*ring..*ring + words).contains(&at);
            if self.is_thorough || ![commands, completions, receives].iter().any(in_words) {
                return at;
            }
        }
    }

    /// Has the engine take a command that makes sense, until the next words are written.
    fn publish(&mut self, random: &mut Random) -> Result<()> {
        let address = random.below(SAND_BYTES + 4096);
        let mut command = Command::new_zeroed();
        command.remote = self.remote.into();
        command.reply_offset = (GEOMETRY.arena_bytes / 2).into();
        command.reply_capacity = REPLY_BYTES.into();
        command.budget_us = 2_000.into();
        let (kernel, arguments) = if random.below(2) == 0 {
            let arguments = read::Arguments::home(address, random.below(4096) as u32).encode();
            (KernelId::READ, arguments.to_vec())
        } else {
            command.payload_length = 64.into();
            (KernelId::WRITE, write::Arguments::home(address).encode().to_vec())
        };
        command.kernel = kernel.0.into();
        command.argument_length = arguments.len() as u8;
        command.arguments[..arguments.len()].copy_from_slice(&arguments);
        let slot = u64::from(self.published % GEOMETRY.depth) * size_of::<Command>() as u64;
        let at = self.places.commands + RING_WORDS_BYTES as u64 + slot;
        self.memory.write(at, command.as_bytes())?;
        self.published += 1;
        self.memory.word32(self.places.commands)?.store(self.published, Ordering::Release);
        Ok(())
    }
}

fn word(random: &mut Random) -> u32 {
    match random.below(5) {
        0 => 0,
        1 => random.below(64) as u32,
        2 => 1 << random.below(32),
        3 => u32::MAX - random.below(16) as u32,
        _ => random.next() as u32,
    }
}

/// Asks the control plane. A memory that comes with the answer is mapped.
fn ask(
    socket: &ControlSocket,
    request: &ControlRequest,
) -> Result<(ControlReply, Option<SharedMemory>)> {
    let mut buffer = vec![0; MAX_CONTROL_BYTES];
    let length = control::encode(request, &mut buffer)?;
    socket.send(&buffer[..length], &[])?;
    ensure!(!wait_any(&[socket.as_fd()], Some(PATIENCE))?.is_empty(), "the engine is silent");
    let Incoming::Message { len, descriptors } = socket.receive(&mut buffer)? else {
        bail!("the engine has closed the socket");
    };
    let reply = control::decode(&buffer[..len])?;
    let memory = match descriptors.into_iter().next() {
        Some(descriptor) => Some(SharedMemory::open(descriptor, GEOMETRY.places()?.total)?),
        None => None,
    };
    Ok((reply, memory))
}

/// Says to the engine what is no message, or none at this time, and does not wait for what it says
/// to that. How many messages.
fn rude_messages(path: &Path, random: &mut Random) -> Result<u64> {
    let socket = ControlSocket::connect(path)?;
    socket.set_nonblocking(true)?;
    let mut said = 0;
    for _ in 0..8 {
        let mut bytes = vec![0; 1 + random.below(300) as usize];
        bytes.iter_mut().for_each(|byte| *byte = random.next() as u8);
        if random.below(2) == 0 {
            let lengths = [0, 1, 1 << 40, u64::MAX];
            let length = lengths[random.below(4) as usize];
            let request = ControlRequest::Register { length, base: random.next() };
            let mut encoded = [0; 64];
            let used = control::encode(&request, &mut encoded)?.min(bytes.len());
            bytes[..used].copy_from_slice(&encoded[..used]);
        }
        // The socket itself is no memory.
        let descriptors = if random.below(2) == 0 { vec![socket.as_fd()] } else { Vec::new() };
        if socket.send(&bytes, &descriptors).is_err() {
            break;
        }
        said += 1;
    }
    Ok(said)
}
