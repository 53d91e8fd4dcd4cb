//! Engines on a simulated network, and the clock that moves them all.

use std::net::SocketAddr;

use nic_engine::Builtin;
use nic_engine::engine::{Answer, Counters, Engine, EngineConfig};
use nic_ports::sim::{SimConfig, SimNetwork};
use nic_ports::{Chance, Port, PortCounters};
use nic_wire::{Span, Time};

use crate::port::{Misdirection, TestPort};

/// Turns of all engines at one moment before the clock moves on nevertheless.
const ROUNDS_MAX: u32 = 256;
/// How far the clock moves when an engine wants to look again at once; twice as far each time
/// that it finds nothing, up to the most.
const SPIN: Span = Span::from_us(1);
const SPIN_MAX: Span = Span::from_us(16);
/// How far it moves at most.
const STEP_MAX: Span = Span::from_ms(1);

/// Names an engine of a [`World`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(pub usize);

/// An engine, and the answers to control work that nobody has asked for yet.
pub struct SimHost {
    /// The engine.
    pub engine: Engine<TestPort, Builtin>,
    /// Leads its packets astray.
    pub misdirection: Misdirection,
    pub(crate) answers: Vec<(u64, Answer)>,
    /// It has been given work since its last turn.
    pub(crate) woken: bool,
    /// Its process stands still.
    paused: bool,
}

impl SimHost {
    /// Whether an engine that sleeps when it can would be asleep now: nothing has arrived, and what
    /// it waits for has not come.
    fn sleeps(&mut self, now: Time) -> bool {
        if std::mem::take(&mut self.woken) || !self.engine.prepare_wait() {
            return false;
        }
        let sleeps = self.engine.next_timeout() > now;
        if !sleeps {
            self.engine.end_wait();
        }
        sleeps
    }
}

/// Engines, the network between them, and the virtual clock.
pub struct World {
    /// The network.
    pub network: SimNetwork,
    /// `None` where an engine has died.
    hosts: Vec<Option<SimHost>>,
    addresses: Vec<SocketAddr>,
    seed: u64,
    spin: Span,
    /// Whether engines sleep when they may, instead of taking a turn at each step of the clock.
    sleepy: bool,
    pub(crate) next_work: u64,
}

/// An engine with tables that are large enough for tests and quickly made.
pub fn small_engine() -> EngineConfig {
    EngineConfig {
        flows: 8,
        clients: 8,
        sessions: 8,
        regions: 32,
        exports: 32,
        ops_out: 1024,
        ops_in: 1024,
        holds: 256,
        op_credits: 256,
        ..EngineConfig::default()
    }
}

impl World {
    /// A network of good links without hosts. Whatever is left to chance follows from `seed`.
    pub fn new(seed: u64) -> Self {
        World::with_network(seed, SimConfig::default())
    }

    /// Links that lose, double and reorder packets, each with this chance.
    pub fn lossy(seed: u64, chance: Chance) -> Self {
        let mut config = SimConfig::default();
        config.link.loss = chance;
        config.link.duplication = chance;
        config.link.reordering = chance;
        config.link.jitter = Span::from_us(2);
        World::with_network(seed, config)
    }

    /// Any network.
    pub fn with_network(seed: u64, config: SimConfig) -> Self {
        let network = SimNetwork::new(seed, config);
        // Not at zero, so that nothing takes an unset time for a real one.
        network.advance_to(Time::from_ns(1_000_000_000));
        World {
            network,
            hosts: Vec::new(),
            addresses: Vec::new(),
            seed,
            spin: SPIN,
            sleepy: false,
            next_work: 0,
        }
    }

    /// From now on engines sleep whenever they may, as blocking ones do, so that a wake-up or a
    /// timer that an engine forgets is missed.
    pub fn let_engines_sleep(&mut self, sleepy: bool) {
        self.sleepy = sleepy;
    }

    /// An engine on a host of its own.
    pub fn add_host(&mut self) -> HostId {
        self.add_host_with(small_engine())
    }

    /// An engine with these settings on a host of its own.
    pub fn add_host_with(&mut self, config: EngineConfig) -> HostId {
        let number = self.hosts.len() as u8 + 1;
        self.add_engine_at(SocketAddr::from(([10, 0, 0, number], 4791)), config)
    }

    /// An engine at an address.
    pub fn add_engine_at(&mut self, address: SocketAddr, config: EngineConfig) -> HostId {
        let host = HostId(self.hosts.len());
        self.hosts.push(None);
        self.addresses.push(address);
        self.start(host, config);
        host
    }

    /// A new incarnation of an engine at the address of the former one, which is gone if it was
    /// still there, and all that it knew with it.
    pub fn restart(&mut self, host: HostId, config: EngineConfig) {
        self.kill(host);
        self.start(host, config);
    }

    fn start(&mut self, host: HostId, config: EngineConfig) {
        let port = self.network.port(self.addresses[host.0]).unwrap();
        let misdirection = Misdirection::default();
        let port = TestPort::new(port, misdirection.clone());
        self.seed = self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e);
        let engine = Engine::new(port, config, self.seed, self.now()).unwrap();
        self.hosts[host.0] =
            Some(SimHost { engine, misdirection, answers: Vec::new(), woken: true, paused: false });
    }

    /// The engine dies without a word.
    pub fn kill(&mut self, host: HostId) {
        self.hosts[host.0] = None;
    }

    /// The engine's process stands still: it takes no turns, and what arrives waits.
    pub fn pause(&mut self, host: HostId) {
        self.host(host).paused = true;
    }

    /// The engine's process goes on.
    pub fn resume(&mut self, host: HostId) {
        self.host(host).paused = false;
        self.host(host).woken = true;
    }

    /// A host whose engine lives.
    pub fn host(&mut self, host: HostId) -> &mut SimHost {
        self.hosts[host.0].as_mut().expect("the host's engine lives")
    }

    /// Whether an engine lives.
    pub fn is_alive(&self, host: HostId) -> bool {
        self.hosts[host.0].is_some()
    }

    /// Where an engine receives, dead or alive.
    pub fn address(&self, host: HostId) -> SocketAddr {
        self.addresses[host.0]
    }

    /// What an engine has counted.
    pub fn counters(&self, host: HostId) -> Counters {
        self.hosts[host.0].as_ref().expect("the host's engine lives").engine.counters()
    }

    /// What an engine's port has counted.
    pub fn port_counters(&self, host: HostId) -> PortCounters {
        self.hosts[host.0].as_ref().expect("the host's engine lives").engine.port().counters()
    }

    /// The virtual clock.
    pub fn now(&self) -> Time {
        self.network.now()
    }

    /// Lets every engine take turns until none finds work, then moves the clock to what happens
    /// next, at most 1 ms away.
    pub fn step(&mut self) {
        self.step_until(self.now() + STEP_MAX);
    }

    /// The same, but the clock moves no further than `latest`.
    pub fn step_until(&mut self, latest: Time) {
        let now = self.now();
        self.spin = self.spin.times(2).min(SPIN_MAX);
        for _ in 0..ROUNDS_MAX {
            let mut busy = false;
            for host in self.hosts.iter_mut().flatten().filter(|host| !host.paused) {
                if self.sleepy && host.sleeps(now) {
                    continue;
                }
                busy |= host.engine.poll(now).busy;
                while let Some(answered) = host.engine.next_answer() {
                    host.answers.push((answered.id, answered.answer));
                }
            }
            if !busy {
                break;
            }
            self.spin = SPIN;
        }
        let mut next = latest.min(self.network.next_event().unwrap_or(Time::NEVER));
        for host in self.hosts.iter().flatten().filter(|host| !host.paused) {
            let timeout = host.engine.next_timeout();
            next = next.min(if timeout > now { timeout } else { now + self.spin });
        }
        self.network.advance_to(next.max(now + Span::from_ns(1)));
    }

    /// Lets this much time pass.
    pub fn run_for(&mut self, span: Span) {
        let end = self.now() + span;
        while self.now() < end {
            self.step_until(end);
        }
    }

    /// Lets time pass until `done` says so.
    ///
    /// # Panics
    /// If that takes longer than `limit` of virtual time.
    pub fn run_until(&mut self, what: &str, limit: Span, mut done: impl FnMut(&mut World) -> bool) {
        let end = self.now() + limit;
        while !done(self) {
            assert!(self.now() < end, "{what}: not within {} us", limit.as_us());
            self.step();
        }
    }

    /// Lets time pass until no packet is under way and no engine has an op in hand.
    pub fn run_until_idle(&mut self) {
        self.run_until("all ops end", Span::from_ms(10_000), |world| {
            world.hosts.iter().flatten().all(|host| host.engine.is_idle())
        });
        // Lone acks and what else is still to be said.
        self.run_for(Span::from_ms(20));
    }
}
