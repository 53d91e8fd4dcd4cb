//! What a seed stands for: hosts, links, sizes, and what goes wrong.

use nic_engine::engine::EngineConfig;
use nic_ports::sim::{LinkConfig, SimConfig};
use nic_ports::{Chance, PoolConfig, Random};
use nic_tests::small_engine;
use nic_wire::Span;

/// How bad a world is; each kind has the faults of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing goes wrong, and every op has time.
    Calm,
    /// Links lose, double, reorder, delay and change packets.
    BadLinks,
    /// Links are cut, hosts stand still, packets reach the wrong engine.
    Outages,
    /// Engines and applications die and come back, and exports end.
    Deaths,
}

/// The longest that a host is cut off or stands still, in a world whose flows must survive it.
pub const PAUSE_MAX: Span = Span::from_ms(5);
/// From an op's deadline to the latest moment at which its request may still run: what packets
/// spend in queues and on links is not counted as their age.
pub const SLACK: Span = Span::from_ms(40);
/// How far completions may be behind their deadlines: a tick of the engine's wheel, and the
/// steps of the clock.
pub const OVERRUN: Span = Span::from_us(60);

/// Packet numbers that soon become others in the half of them that packets carry.
pub const NEAR_WRAP: [u64; 4] = [(1 << 32) - 40, (7 << 32) - 300, (1 << 31) - 40, (1 << 62) - 1];

/// See the module's description.
#[derive(Debug)]
pub struct Plan {
    pub kind: Kind,
    /// Ops that are submitted.
    pub ops: u64,
    /// Engines of each process; a process has a host.
    pub processes: Vec<u8>,
    pub network: SimConfig,
    /// Whether engines sleep when they may.
    pub sleepy: bool,
    /// Every op has so much time, and no flow ends, that all must succeed.
    pub patient: bool,
    /// The streams that a session uses.
    pub streams: u16,
    /// Ops in a thousand with a fence, with a short deadline; faults in a million turns.
    pub fenced: u64,
    pub hurried: u64,
    pub faults: u64,
    /// Ops that are large.
    pub bulk: u64,
    peer_timeout: Span,
}

fn pick<T: Copy>(random: &mut Random, choices: &[T]) -> T {
    choices[random.below(choices.len() as u64) as usize]
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(random: &mut Random, ops: u64) -> Self {
        let kind = pick(
            random,
            &[
                Kind::Calm,
                Kind::BadLinks,
                Kind::BadLinks,
                Kind::Outages,
                Kind::Deaths,
                Kind::Deaths,
            ],
        );
        let patient = kind == Kind::Calm || kind < Kind::Deaths && random.below(2) == 0;
        let shapes: [&[u8]; 6] = [&[1, 1], &[1, 1], &[1, 1, 1], &[2, 1], &[2, 2], &[1, 1, 1, 1]];
        let timeouts = [Span::from_ms(20), Span::from_ms(200), Span::from_ms(2_000)];
        Plan {
            kind,
            ops,
            processes: pick(random, &shapes).to_vec(),
            network: network(random, kind),
            sleepy: random.below(4) == 0,
            patient,
            streams: 1 + random.below(4) as u16,
            fenced: pick(random, &[0, 50, 300]),
            hurried: if patient { 0 } else { pick(random, &[20, 200, 500]) },
            faults: if kind < Kind::Outages { 0 } else { pick(random, &[500, 2_000, 8_000]) },
            bulk: pick(random, &[5, 20, 80, 400]),
            peer_timeout: if patient { Span::from_ms(10_000) } else { pick(random, &timeouts) },
        }
    }

    /// The settings of an engine that starts.
    pub fn engine(&self, random: &mut Random, number: u8) -> EngineConfig {
        let first = match random.below(3) {
            0 => Some(pick(random, &NEAR_WRAP)),
            1 => Some(random.below(1 << 40)),
            _ => None,
        };
        EngineConfig {
            engine: number,
            flows: 24,
            ops_out: 128,
            ops_in: 340,
            holds: 340,
            op_credits: pick(random, &[8, 40, 128, 340]),
            reply_credits_kib: pick(random, &[80, 256, 1024]),
            packet_bytes: Some(pick(random, &[1400, 1400, 700, 2048])),
            congestion_window_bytes: pick(random, &[6 << 10, 20 << 10, 160 << 10]),
            pickup_max: pick(random, &[4, 256]),
            peer_timeout: self.peer_timeout,
            connect_timeout: if self.patient { Span::from_ms(10_000) } else { self.peer_timeout },
            first_packet_number: first,
            ..small_engine()
        }
    }

    /// How long a disturbance lasts: a few microseconds as likely as a few milliseconds.
    pub fn duration(&self, random: &mut Random) -> Span {
        let scale = random.below(8);
        let most = (PAUSE_MAX.as_ns() >> scale).max(10_000);
        Span::from_ns(1 + random.below(most))
    }
}

fn network(random: &mut Random, kind: Kind) -> SimConfig {
    let mut config = SimConfig {
        pool: PoolConfig::with_frames(pick(random, &[128, 512])),
        packets_max: 8192,
        inbox_packets: 1024,
        transmit_hold: pick(random, &[Span::ZERO, Span::ZERO, Span::from_us(3)]),
        ..SimConfig::default()
    };
    config.link = link(random, kind);
    config
}

/// A link as bad as links of a world may be.
pub fn link(random: &mut Random, kind: Kind) -> LinkConfig {
    let mut link = LinkConfig {
        latency: Span::from_us(1 + random.below(20)),
        jitter: Span::from_ns(pick(random, &[0, 500, 5_000])),
        ..LinkConfig::default()
    };
    if kind > Kind::Calm {
        let mut chance = |per_million: &[u32]| Chance::per_million(pick(random, per_million));
        link.loss = chance(&[0, 1_000, 10_000, 50_000]);
        link.duplication = chance(&[0, 2_000, 50_000]);
        link.reordering = chance(&[0, 5_000, 100_000]);
        link.corruption = chance(&[0, 500, 10_000]);
        link.reordering_delay = Span::from_us(pick(random, &[5, 50, 2_000]));
        link.bytes_per_second = pick(random, &[None, None, Some(1_000_000_000)]);
        link.queue_bytes = pick(random, &[64 << 10, 1 << 20]);
    }
    link
}
