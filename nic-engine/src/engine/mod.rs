//! The engine: one task, single-threaded, never blocking, that owns flows and executes ops.
//!
//! [`Engine::poll`] is one turn: receive a burst, pick commands up, run ops, look at the clock's
//! duties, fill and send packets, publish completions. It makes no system call but the port's one
//! receive and one transmit and a write to the doorbell of an application found asleep; it neither
//! allocates nor locks nor logs, and is told the time.

mod cancel;
mod config;
mod control;
mod core;
mod counters;
mod drain;
mod forward;
mod holds;
mod initiator;
mod lanes;
mod links;
mod live;
mod ops;
mod polite;
mod relief;
mod remotes;
mod session;
mod stages;
mod streams;
mod target;
mod transmit;
mod wheel;
mod work;

pub use config::EngineConfig;
pub use counters::{Counters, Metric, MetricKind};
pub use forward::{Forwarded, Neighbours};
pub use initiator::OP_BYTES_MAX;
pub use live::{Live, LiveFlow, LiveOp, LiveRequest, LiveSession, LiveState, Oldest};
pub use session::SessionError;
pub use stages::{Stage, Stages};
pub use work::{Answer, Answered, Bells, ClientId, Refusal, Released, SessionParts, Work};

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nic_kernels::mapped::{Flushes, MappedMemory, Tables};
use nic_kernels::{Executor, KernelSet, Limits};
use nic_ports::{Burst, Port};
use nic_transport::{Config as FlowConfig, ConfigError, Endpoint};
use nic_wire::Time;
use nic_wire::packet::DEFAULT_PACKET_BYTES;
use nic_wire::session::COMMAND_ARGUMENT_BYTES_MAX;

use self::core::{Acknowledged, Core, FRAMES_PER_PACKET, PLACES_KEPT, Verdict};
use self::holds::Holds;
use self::links::Link;
use self::ops::OpTable;
use self::polite::Polite;
use self::target::TargetTable;
use self::target::cancel::Cancels;
use self::target::shares::{Sharing, accounts};
use self::wheel::Wheel;
use crate::protection::{Crc32, Whole};

/// The least room of the tables for requests: all frames of one packet must fit beside what is kept
/// for others, or it would never be accepted.
const TABLE_MIN: u16 = (2 * FRAMES_PER_PACKET + PLACES_KEPT) as u16;

/// A poll-mode packet engine; see the module's description.
pub struct Engine<P: Port, K: KernelSet> {
    port: P,
    burst: Burst,
    neighbours: Neighbours,
    core: Core<K>,
    last_turn_was_busy: bool,
    /// Whether the last turn asked the port for packets.
    last_turn_received: bool,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Whether it found work.
    pub busy: bool,
}

impl<P: Port, K: KernelSet> Engine<P, K> {
    /// An engine on a port. `seed` is for numbers that peers must not guess: random, except in
    /// simulations.
    ///
    /// # Errors
    /// Settings with which no flow can work.
    pub fn new(port: P, config: EngineConfig, seed: u64, now: Time) -> Result<Self, ConfigError> {
        let capabilities = port.capabilities();
        let capabilities_frames = capabilities.frames as usize;
        let window = config.receive_window_bytes.unwrap_or(capabilities.window_bytes);
        let (protection, longest) = match capabilities.in_memory {
            true => (Whole::InMemory, capabilities.packet_bytes_max),
            false => (Whole::Checked(Crc32), DEFAULT_PACKET_BYTES),
        };
        // What the link does not carry would be refused for ever.
        let packet_bytes =
            config.packet_bytes.unwrap_or(longest).min(capabilities.packet_bytes_max);
        let flow_config = FlowConfig {
            flows_max: config.flows,
            port: port.local_address().port(),
            packet_bytes: packet_bytes as u16,
            receive_window_bytes: window,
            congestion_window_bytes: config.congestion_window_bytes,
            first_packet_number: config.first_packet_number,
            op_credits: config.op_credits,
            reply_credits_kib: config.reply_credits_kib,
            peer_timeout: config.peer_timeout,
            connect_timeout: config.connect_timeout,
            ..FlowConfig::default()
        };
        let endpoint = Endpoint::new(flow_config, config.engine, seed, seed.rotate_left(32))?;
        let tables =
            Tables { domains: config.clients, regions: config.regions, exports: config.exports };
        let (ops_in, holds) = (config.requests(), config.holds.max(TABLE_MIN));
        let mut executor = Executor::new(u32::from(ops_in), Limits::default());
        executor.share_among(accounts(config.flows));
        let core = Core {
            address: port.local_address(),
            endpoint,
            acknowledged: Acknowledged::new(capabilities_frames),
            protection,
            executor,
            memory: MappedMemory::new(tables),
            clients: (0..config.clients).map(|_| None).collect(),
            sessions: (0..config.sessions).map(|_| None).collect(),
            open_sessions: Vec::with_capacity(usize::from(config.sessions)),
            dirty_sessions: Vec::with_capacity(usize::from(config.sessions)),
            ops: OpTable::new(config.ops_out),
            long_arguments: Box::new([0; COMMAND_ARGUMENT_BYTES_MAX]),
            deadlines: Wheel::new(usize::from(config.ops_out), now),
            links: (0..config.flows)
                .map(|_| Link::vacant(usize::from(config.op_credits), usize::from(config.sessions)))
                .collect(),
            opened_for: vec![0; usize::from(config.flows)],
            touched: Vec::with_capacity(usize::from(config.flows)),
            blocked: Vec::with_capacity(usize::from(config.flows)),
            blocked_served: Vec::with_capacity(usize::from(config.flows)),
            target: TargetTable::new(ops_in, now),
            sharing: Sharing::new(),
            cancels: Cancels::new(ops_in, config.flows),
            cancelled_at: nic_wire::Time::NEVER,
            pickup_first: 0,
            holds: Holds::new(holds),
            parked: Vec::with_capacity(64),
            answers: VecDeque::with_capacity(64),
            counters: Counters::default(),
            next_ask: now,
            short_replies_until: now,
            next_long: now,
            wants_relief: false,
            polite: Polite::default(),
            polite_peer: Polite::default(),
            owes_pass: false,
            drain: None,
            now,
            config,
        };
        let burst = Burst::new(core.config.burst);
        let neighbours = Neighbours::none();
        Ok(Engine {
            port,
            burst,
            neighbours,
            core,
            last_turn_was_busy: false,
            last_turn_received: false,
        })
    }

    /// Tells the engine of the other engines of its process.
    pub fn set_neighbours(&mut self, neighbours: Neighbours) {
        self.neighbours = neighbours;
    }

    /// Begins a piece of control work. Its answer comes from [`Engine::next_answer`], perhaps only
    /// after further turns.
    pub fn control(&mut self, now: Time, id: u64, work: Work) {
        self.core.now = now;
        self.core.control(id, work);
    }

    /// The next answer to control work.
    pub fn next_answer(&mut self) -> Option<Answered> {
        self.core.answers.pop_front()
    }

    /// One turn, beginning at `now`.
    #[inline]
    pub fn poll(&mut self, now: Time) -> Turn {
        self.poll_by_stage(now, &mut ())
    }

    /// One turn that says what it is at, for benches.
    #[inline]
    pub fn poll_by_stage<S: Stages>(&mut self, now: Time, stages: &mut S) -> Turn {
        self.account(now);
        self.core.memory.notice_faults();
        let has_commands = self.core.commands_wait();
        // Commands need not wait for a system call that will most likely find nothing, if the turn
        // before has asked.
        self.last_turn_received = !(self.last_turn_received && has_commands);
        let taken = if self.last_turn_received { self.receive(stages) } else { 0 };
        if taken == 0 && !has_commands && !self.core.has_duties() {
            self.port.transmit();
            stages.over(Stage::Idle);
            self.last_turn_was_busy = false;
            return Turn { busy: false };
        }
        if taken > 0 && !has_commands && !self.core.owes_pass && self.core.executor.is_idle() {
            // Only replies and acks: who waits for them need not wait for what is left to do,
            // which the next turn does.
            self.core.owes_pass = true;
            self.core.publish();
            stages.over(Stage::Flow);
            self.last_turn_was_busy = true;
            return Turn { busy: true };
        }
        self.core.owes_pass = false;
        self.core.pickup();
        stages.over(Stage::Flow);
        self.core.execute(&mut self.port);
        stages.over(Stage::Executor);
        self.core.transmit(&mut self.port);
        stages.over(Stage::Reply);
        self.port.transmit();
        stages.over(Stage::Transmit);
        // Packets leave first; what the clock wants is small and can wait for the next turn.
        self.core.timers();
        self.core.flow_events(&mut self.port);
        if self.core.wants_relief {
            self.core.relieve(&mut self.port);
        }
        if !self.core.parked.is_empty() {
            self.core.settle_revocations();
        }
        if self.core.is_draining() {
            self.core.drain(&mut self.port);
        }
        self.core.publish();
        stages.over(Stage::Flow);
        let busy = taken > 0 || has_commands || self.core.executor.ready() > 0;
        self.last_turn_was_busy = busy;
        Turn { busy }
    }

    /// Books the former turn, whose end is this one's beginning.
    #[inline]
    fn account(&mut self, now: Time) {
        let counters = &mut self.core.counters;
        counters.turns += 1;
        if self.last_turn_was_busy {
            let length_ns = now.since(self.core.now).as_ns();
            counters.busy_turns += 1;
            counters.busy_ns += length_ns;
            counters.longest_turn_ns = counters.longest_turn_ns.max(length_ns);
        }
        self.core.now = now;
    }

    /// Takes a burst from the port, and what neighbours have forwarded.
    #[inline]
    fn receive<S: Stages>(&mut self, stages: &mut S) -> usize {
        let Engine { port, burst, neighbours, core, .. } = self;
        let mut taken = port.receive(burst);
        let [receive, flow] = match taken {
            0 => [Stage::Idle; 2],
            _ => [Stage::Receive, Stage::Flow],
        };
        stages.over(receive);
        for view in burst.views() {
            let bytes = port.view(view);
            let verdict = match core.meant_for(view.to_port, bytes) {
                None => core.receive(view.from, bytes),
                Some(engine) => Verdict::Forward { engine },
            };
            if let Verdict::Forward { engine } = verdict {
                let is_forwarded = neighbours.forward(engine, view.from, bytes);
                core.counters.forwarded += u64::from(is_forwarded);
                core.counters.unforwardable += u64::from(!is_forwarded);
            }
        }
        stages.over(flow);
        port.release_burst(burst);
        stages.over(receive);
        while let Some(packet) = neighbours.take() {
            core.counters.taken_over += 1;
            core.receive(packet.from, packet.bytes());
            taken += 1;
        }
        taken
    }

    /// Asks everyone who brings work to wake the engine, and looks once more. True: it may sleep
    /// on [`Engine::wait_descriptor`] and its doorbell until [`Engine::next_timeout`]; afterwards
    /// [`Engine::end_wait`]. False: there is work.
    pub fn prepare_wait(&mut self) -> bool {
        let is_done = self.core.touched.is_empty()
            && !self.core.owes_pass
            && !self.core.endpoint.wants_control();
        let mut may_sleep = self.neighbours.prepare_wait() && is_done;
        for slot in &self.core.open_sessions {
            if let Some(session) = &mut self.core.sessions[usize::from(*slot)] {
                may_sleep &= session.prepare_sleep();
            }
        }
        may_sleep &= self.port.prepare_wait();
        if may_sleep {
            self.core.counters.sleeps += 1;
        } else {
            self.end_wait();
        }
        may_sleep
    }

    /// Ends a sleep, or the attempt.
    pub fn end_wait(&mut self) {
        self.neighbours.end_wait();
        for slot in &self.core.open_sessions {
            if let Some(session) = &mut self.core.sessions[usize::from(*slot)] {
                session.commands.awake();
            }
        }
        self.port.end_wait();
    }

    /// What becomes readable when packets arrive.
    pub fn wait_descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.port.wait_descriptor()
    }

    /// How long it may sleep at most because nothing wakes it when packets arrive.
    pub fn sleep_max(&self) -> Option<Duration> {
        self.port.sleep_max()
    }

    /// When the engine has something to do even if nothing arrives.
    pub fn next_timeout(&self) -> Time {
        self.core.next_timeout()
    }

    /// Whether ops or replies are on their way.
    pub fn is_idle(&self) -> bool {
        self.core.ops.live() == 0 && self.core.target.live() == 0
    }

    /// Where it receives packets.
    pub fn address(&self) -> SocketAddr {
        self.core.address
    }

    /// For who writes its regions to their files: what is done is counted there.
    pub fn flushes(&self) -> Arc<Flushes> {
        self.core.memory.flushes()
    }

    /// Its port.
    pub fn port(&self) -> &P {
        &self.port
    }

    /// What it has counted, the port's and the flows' counts included.
    pub fn counters(&self) -> Counters {
        let port = self.port.counters();
        let flows = self.core.endpoint.counters();
        let flushes = self.core.memory.flushes();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            flushes: count(&flushes.requests),
            flush_syncs: count(&flushes.syncs),
            flushed_bytes: count(&flushes.bytes),
            flush_failures: count(&flushes.failures),
            flows: self.core.endpoint.flows() as u64,
            sessions: self.core.open_sessions.len() as u64,
            ops_out: self.core.ops.live() as u64,
            ops_in: self.core.target.live() as u64,
            ..self.core.counters
        }
        .joined(&port, &flows)
    }
}
