//! A peer that sends anything: garbage, headers that are right with nothing behind them, its own
//! traffic changed and played again ([`super::relay`]), and honest packets with dishonest ops: keys
//! that it guesses, addresses beyond regions, writes to what may only be read.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nic_engine::Crc32;
use nic_host::{InlineConfig, Nic, OpError, RemoteRegion, Session, Ticket};
use nic_ports::Random;
use nic_transport::Protection;
use nic_wire::packet::HEADER_BYTES;
use nic_wire::{Rkey, WIRE_VERSION};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::link::{Link, Worker};
use super::owner::SAND_BYTES;
use super::relay::{Relay, Shared, state_length};
use super::roles::{Options, Order};

/// Between two bursts.
const NAP: Duration = Duration::from_micros(500);
/// Packets of garbage, ops through the relay, dishonest ops of each burst.
const PACKETS: u32 = 16;
const OPS: u64 = 4;
const LIES: u32 = 2;
/// Exports that there may be, for guesses that come near.
const EXPORTS_LIKELY: u64 = 12;
const DEADLINE: Duration = Duration::from_millis(20);

/// What it has done.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Deeds {
    /// Packets of garbage.
    pub(super) packets: u64,
    /// Packets of its own conversation, and how many of them were changed.
    pub(super) relayed: u64,
    pub(super) changed: u64,
    /// Keys that it has guessed, and other ops that it has no right to.
    pub(super) guesses: u64,
    pub(super) trespasses: u64,
    /// Of both: those that ended well for it.
    pub(super) granted: u64,
    /// Packets to it in which there were bytes of a canary.
    pub(super) leaks: u64,
}

/// A session of an engine of its own.
struct Presence {
    sand: RemoteRegion,
    shelf: RemoteRegion,
    session: Session,
}

struct Stranger {
    /// Through the relay; none while it has no flow.
    relayed: Option<Presence>,
    direct: Presence,
    relay: SocketAddr,
    sand: Ticket,
    shelf: Ticket,
    sockets: Vec<UdpSocket>,
    victims: [SocketAddr; 2],
    random: Random,
    is_going: bool,
    deeds: Deeds,
    shared: Arc<Shared>,
}

pub(super) fn run(link: &Link, options: &Options) -> Result<()> {
    let [_, shelf, sand] = options.tickets()?;
    let polite = options.polite.context("the polite application's address is missing")?;
    let shared = Arc::new(Shared::default());
    let relay = Relay::begin(sand.engine, polite, options.seed, Arc::clone(&shared))?;
    let sockets: Result<Vec<_>, _> = (0..4).map(|_| UdpSocket::bind("127.0.0.1:0")).collect();
    let mut stranger = Stranger {
        relayed: None,
        direct: Presence::new(&sand, &shelf)?,
        relay,
        sand,
        shelf,
        sockets: sockets?,
        victims: [sand.engine, polite],
        random: Random::new(options.seed),
        is_going: false,
        deeds: Deeds::default(),
        shared: Arc::clone(&shared),
    };
    let outcome = link.drive(&mut stranger);
    shared.is_over.store(true, Ordering::Relaxed);
    outcome
}

impl Presence {
    fn new(sand: &Ticket, shelf: &Ticket) -> Result<Presence> {
        let nic = Nic::inline(InlineConfig::default())?;
        let session = nic.session().depth(64).open()?;
        let (sand, shelf) = (session.connect(sand)?, session.connect(shelf)?);
        Ok(Presence { sand, shelf, session })
    }
}

impl Worker for Stranger {
    fn obey(&mut self, order: Order) -> Result<Value> {
        match order {
            Order::Go(_) => self.is_going = true,
            Order::Rest => self.is_going = false,
            other => bail!("found the order {other:?}, expected Go or Rest"),
        }
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let Shared { passed, changed, leaks, .. } = &*self.shared;
        let deeds = Deeds {
            relayed: count(passed),
            changed: count(changed),
            leaks: count(leaks),
            ..self.deeds
        };
        Ok(serde_json::to_value(deeds)?)
    }

    fn work(&mut self) -> Result<Option<Duration>> {
        if !self.is_going {
            return Ok(None);
        }
        (0..PACKETS).for_each(|_| self.send_garbage());
        self.converse();
        for _ in 0..LIES {
            self.guess()?;
            self.trespass()?;
        }
        Ok(Some(NAP))
    }
}

impl Stranger {
    fn send_garbage(&mut self) {
        let random = &mut self.random;
        let mut packet = vec![0; random.below(1500) as usize];
        packet.iter_mut().for_each(|byte| *byte = random.next() as u8);
        if packet.len() >= HEADER_BYTES && random.below(4) != 0 {
            packet[0] = WIRE_VERSION;
            packet[1] = random.below(8) as u8;
            state_length(&mut packet);
            Crc32.seal(&mut packet);
        }
        let to = self.victims[random.below(2) as usize];
        let socket = &self.sockets[random.below(self.sockets.len() as u64) as usize];
        self.deeds.packets += u64::from(socket.send_to(&packet, to).is_ok());
    }

    /// Ops whose packets are changed on the way: anything may come of them.
    fn converse(&mut self) {
        let (random, relay) = (&mut self.random, self.relay);
        if self.relayed.is_none() {
            let through = |ticket: Ticket| Ticket { engine: relay, ..ticket };
            self.relayed = Presence::new(&through(self.sand), &through(self.shelf)).ok();
        }
        let Some(Presence { sand, shelf, session }) = &self.relayed else { return };
        // Nothing that could be taken for a canary.
        let payload = [random.below(0x80) as u8; 1500];
        for _ in 0..OPS {
            let at = random.below(SAND_BYTES / 4096) * 4096;
            let length = 1 + random.below(4096);
            // Whether it is taken at all is of no interest: results are given up at once.
            match random.below(4) {
                0 => drop(session.submit(sand.read(at..at + length).deadline(DEADLINE))),
                1 => drop(session.submit(sand.write(at, &payload).deadline(DEADLINE))),
                2 => drop(session.submit(sand.fetch_add(at, 1).deadline(DEADLINE))),
                _ => drop(session.submit(shelf.read(at..at + length).deadline(DEADLINE))),
            }
        }
        if random.below(1024) == 0 || session.poll().is_err() {
            // As an engine that was started anew.
            self.relayed = None;
        }
    }

    /// An op with a key that it has made up.
    fn guess(&mut self) -> Result<()> {
        let random = &mut self.random;
        let known = self.sand.rkey;
        let rkey = match random.below(4) {
            // The right one, but for a bit.
            0 => {
                let secret = known.secret.get() ^ 1 << random.below(64);
                Rkey::new(known.export.get(), known.generation.get(), secret)
            }
            // The secret of another export.
            1 => {
                let export = known.export.get().wrapping_add(1 + random.below(8) as u16);
                Rkey::new(export, known.generation.get(), known.secret.get())
            }
            _ => {
                let export = random.below(EXPORTS_LIKELY) as u16;
                Rkey::new(export, random.below(3) as u16, random.next())
            }
        };
        let remote = match self.direct.session.connect(&Ticket { rkey, ..self.sand }) {
            Ok(remote) => remote,
            // The flow was lost among all the garbage: another time.
            Err(_) => return Ok(()),
        };
        self.deeds.guesses += 1;
        let session = &self.direct.session;
        let granted = match random.below(3) {
            0 => is_granted(session.run(remote.read(0..64).deadline(DEADLINE)))?,
            1 => is_granted(session.run(remote.write(0, &[0xee; 64]).deadline(DEADLINE)))?,
            _ => is_granted(session.run(remote.fetch_add(0, 1).deadline(DEADLINE)))?,
        };
        self.deeds.granted += u64::from(granted);
        Ok(())
    }

    /// An op that its key does not allow: beyond the region, or a change of what may only be read.
    fn trespass(&mut self) -> Result<()> {
        let random = &mut self.random;
        let Presence { sand, shelf, session } = &self.direct;
        let beyond = match random.below(4) {
            0 => SAND_BYTES - random.below(64),
            1 => SAND_BYTES + random.below(1 << 20),
            2 => u64::MAX - 1 - random.below(128),
            _ => 1 << (17 + random.below(47)),
        };
        let end = beyond.saturating_add(64 + random.below(4096));
        self.deeds.trespasses += 1;
        let granted = match random.below(5) {
            0 => is_granted(session.run(sand.read(beyond..end).deadline(DEADLINE)))?,
            1 => is_granted(session.run(sand.write(beyond, &[0xee; 128]).deadline(DEADLINE)))?,
            2 => {
                let word = beyond.saturating_add(63) & !7;
                is_granted(session.run(sand.fetch_add(word, 1).deadline(DEADLINE)))?
            }
            3 => is_granted(session.run(shelf.write(beyond % 4096, &[1]).deadline(DEADLINE)))?,
            _ => is_granted(session.run(shelf.compare_swap(0, 0, 1).deadline(DEADLINE)))?,
        };
        self.deeds.granted += u64::from(granted);
        Ok(())
    }
}

/// Whether an op that had to be refused has ended well.
fn is_granted<T>(outcome: Result<T, OpError>) -> Result<bool> {
    match outcome {
        Ok(_) => Ok(true),
        Err(OpError::Failed { .. } | OpError::TooLong { .. } | OpError::NoRoom { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
