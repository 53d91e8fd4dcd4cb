//! Each single packet of an exchange is dropped, doubled, delayed and damaged in turn. Whatever
//! happens to it: every op takes effect exactly once, completes exactly once, and the replies are
//! right to the byte.

#![allow(clippy::unwrap_used, clippy::panic)]

use nic_engine::engine::EngineConfig;
use nic_kernels::Access;
use nic_ports::sim::{SimConfig, Verdict};
use nic_shm::RacyMem;
use nic_tests::{AppSession, Ask, Done, HostId, OnFailure, World, small_engine};
use nic_wire::Span;
use nic_wire::session::Geometry;

const COUNTER: u64 = 64;
const COUNTER_BEFORE: u64 = 1_000;
const ADDEND: u64 = 7;
/// Where the WRITE goes and the READ reads.
const RANGE: u64 = 4096;
const REGION_BYTES: u64 = 64 << 10;

/// How the three ops are issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Each after the completion of the one before.
    OneByOne,
    /// All at once.
    Together,
    /// All at once, the READ behind a fence.
    Fenced,
}

/// One exchange.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    order: Order,
    /// Length of the WRITE and of the READ.
    bytes: usize,
    /// The number of each flow's first packet.
    first_number: Option<u64>,
    /// Whether the engines sleep when they may.
    sleepy: bool,
}

impl Exchange {
    fn new(order: Order, bytes: usize, first_number: Option<u64>) -> Self {
        Exchange { order, bytes, first_number, sleepy: false }
    }
}

/// Which packets of the network, by number, meet what.
type Fates = Vec<(u64, Verdict)>;

/// The hosts and the memory of an exchange.
struct Stage {
    world: World,
    target: HostId,
    memory: RacyMem,
    session: AppSession,
    remote: u16,
}

fn old_byte(index: usize) -> u8 {
    (index * 7) as u8 | 1
}

fn new_byte(index: usize) -> u8 {
    (index * 13) as u8 & !1
}

fn set(exchange: &Exchange, fates: Fates) -> Stage {
    // Chance has no part in this: the seed only draws connection ids and the like. The tables of
    // the network are small because it is made anew for each case.
    let network = SimConfig { packets_max: 256, inbox_packets: 256, ..SimConfig::default() };
    let mut world = World::with_network(0xe7ac_71e5, network);
    world.let_engines_sleep(exchange.sleepy);
    let config = || EngineConfig {
        first_packet_number: exchange.first_number,
        ops_out: 16,
        ops_in: 128,
        holds: 128,
        op_credits: 64,
        ..small_engine()
    };
    let (initiator, target) = (world.add_host_with(config()), world.add_host_with(config()));
    let owner = world.add_client(target);
    let (memory, rkey) = world.exported_region(target, owner, REGION_BYTES, Access::all());
    memory.write(COUNTER, &COUNTER_BEFORE.to_le_bytes()).unwrap();
    let old: Vec<u8> = (0..exchange.bytes).map(old_byte).collect();
    memory.write(RANGE, &old).unwrap();
    let depth = 4;
    let arena_bytes = depth * 2 * (exchange.bytes as u32).next_multiple_of(4096);
    let geometry = Geometry { depth, arena_bytes, receive_buffers: 0, receive_buffer_bytes: 0 };
    let session = world.add_session(initiator, geometry);
    let before = world.network.counters().sent;
    assert_eq!(before, 0, "the first packet is the handshake's");
    world.network.set_script(move |packet| {
        let fate = fates.iter().find(|(number, _)| *number == packet.number);
        fate.map_or(Verdict::Deliver, |(_, verdict)| *verdict)
    });
    let remote = world.connect(&session, target, rkey);
    Stage { world, target, memory, session, remote }
}

/// Runs the exchange and returns how many packets it took.
fn run(exchange: &Exchange, fates: Fates) -> u64 {
    let mut stage = set(exchange, fates);
    let new: Vec<u8> = (0..exchange.bytes).map(new_byte).collect();
    let read = Ask::read(stage.remote, RANGE, exchange.bytes as u32);
    let asks = [
        Ask::fetch_add(stage.remote, COUNTER, ADDEND),
        Ask::write(stage.remote, RANGE, &new),
        if exchange.order == Order::Fenced { read.fenced() } else { read },
    ];
    let done = issue(&mut stage, exchange.order, &asks);
    check(exchange, &done, &new);
    // Whatever is still on its way arrives, late and in vain.
    stage.world.run_for(Span::from_ms(400));
    assert!(stage.session.poll().is_empty(), "each op completes once");
    check_memory(&stage, &new);
    check_counts(&stage);
    stage.world.network.counters().sent
}

fn issue(stage: &mut Stage, order: Order, asks: &[Ask; 3]) -> Vec<Done> {
    let Stage { world, session, .. } = stage;
    if order == Order::OneByOne {
        return asks.iter().map(|ask| world.run(session, ask)).collect();
    }
    let tokens = asks.each_ref().map(|ask| session.submit(ask));
    let done = world.wait(session);
    assert_eq!(done.len(), 3);
    let of = |token| done.iter().find(|done| done.token == token).unwrap().clone();
    tokens.map(of).to_vec()
}

fn check(exchange: &Exchange, done: &[Done], new: &[u8]) {
    for done in done {
        assert!(done.is_ok(), "{:?}", done.ended());
    }
    assert_eq!(done[0].word(), COUNTER_BEFORE, "what FETCH_ADD found");
    assert!(done[1].reply.is_empty(), "a WRITE has no reply");
    let read = &done[2].reply;
    assert_eq!(read.len(), exchange.bytes);
    if exchange.order != Order::Together {
        assert!(read == new, "the READ sees the WRITE before it");
    } else {
        // Unordered: each byte is the old one or the new one.
        let possible =
            |(index, byte): (usize, &u8)| *byte == old_byte(index) || *byte == new[index];
        assert!(read.iter().enumerate().all(possible), "bytes that were never there");
    }
}

fn check_memory(stage: &Stage, new: &[u8]) {
    let mut expected = vec![0; REGION_BYTES as usize];
    let counter = COUNTER_BEFORE + ADDEND;
    expected[COUNTER as usize..][..8].copy_from_slice(&counter.to_le_bytes());
    expected[RANGE as usize..][..new.len()].copy_from_slice(new);
    let mut found = vec![0; REGION_BYTES as usize];
    stage.memory.read(0, &mut found).unwrap();
    assert!(found == expected, "memory: the counter is {:?}", &found[64..72]);
}

fn check_counts(stage: &Stage) {
    let target = stage.world.counters(stage.target);
    assert_eq!((target.requests_received, target.executed), (3, 3), "each op ran once");
    assert_eq!((target.refused, target.failed, target.malformed_frames), (0, 0, 0));
    let initiator = stage.world.counters(stage.session.host);
    assert_eq!((initiator.completions, initiator.commands), (3, 3));
    assert_eq!((initiator.expired, initiator.lost, initiator.late_replies), (0, 0, 0));
    assert_eq!((initiator.ops_out, target.ops_in), (0, 0), "nothing is left behind");
}

/// What a packet can meet. The delays reach past the next packets, past the probe, past the
/// retransmission time-out and past everything.
const VERDICTS: [Verdict; 7] = [
    Verdict::Drop,
    Verdict::Duplicate,
    Verdict::Corrupt,
    Verdict::Delay(Span::from_us(80)),
    Verdict::Delay(Span::from_ms(1)),
    Verdict::Delay(Span::from_ms(15)),
    Verdict::Delay(Span::from_ms(300)),
];

/// Just before the low half of packet numbers wraps.
const NEAR_WRAP: u64 = (7 << 32) - 2;

fn every_packet(exchange: Exchange, expected_packets: std::ops::RangeInclusive<u64>) {
    let undisturbed = run(&exchange, Vec::new());
    let context = format!("{exchange:?}: {undisturbed} packets");
    assert!(expected_packets.contains(&undisturbed), "{context}");
    // Repetitions add packets; those that follow the last one undisturbed are also tried.
    for number in 0..undisturbed + 2 {
        for verdict in VERDICTS {
            let shown = OnFailure(format!("{context}; packet {number} meets {verdict:?}"));
            run(&exchange, vec![(number, verdict)]);
            drop(shown);
        }
    }
}

/// Packets of an exchange without faults: four of the handshake, then requests and replies, then
/// the last ack.
#[test]
fn one_by_one() {
    let exchange = Exchange::new(Order::OneByOne, 100, None);
    every_packet(exchange, 11..=11);
}

#[test]
fn one_by_one_near_the_wrap() {
    let exchange = Exchange::new(Order::OneByOne, 100, Some(NEAR_WRAP));
    every_packet(exchange, 11..=11);
}

#[test]
fn all_at_once() {
    let exchange = Exchange::new(Order::Together, 100, None);
    every_packet(exchange, 7..=7);
}

#[test]
fn all_at_once_with_a_fence() {
    let exchange = Exchange::new(Order::Fenced, 100, Some(NEAR_WRAP));
    every_packet(exchange, 7..=9);
}

/// Payload and reply of several packets each.
#[test]
fn long_ops_one_by_one() {
    let exchange = Exchange::new(Order::OneByOne, 4500, Some(NEAR_WRAP));
    every_packet(exchange, 17..=19);
}

#[test]
fn long_ops_all_at_once() {
    let exchange = Exchange::new(Order::Together, 4500, None);
    every_packet(exchange, 12..=16);
}

#[test]
fn long_ops_with_a_fence() {
    let exchange = Exchange::new(Order::Fenced, 4500, None);
    every_packet(exchange, 12..=17);
}

/// Engines that sleep rely on their timers alone to notice a loss.
#[test]
fn engines_that_sleep() {
    let exchange = Exchange { sleepy: true, ..Exchange::new(Order::Fenced, 4500, None) };
    every_packet(exchange, 12..=17);
    let exchange = Exchange { sleepy: true, ..Exchange::new(Order::OneByOne, 100, None) };
    every_packet(exchange, 11..=11);
}

/// Two losses in one exchange: also the repetition of a packet can be lost.
#[test]
fn every_pair_of_packets_lost() {
    let exchange = Exchange::new(Order::Together, 3000, Some(NEAR_WRAP));
    let undisturbed = run(&exchange, Vec::new());
    for first in 0..undisturbed + 2 {
        for second in first + 1..undisturbed + 3 {
            let shown = OnFailure(format!("packets {first} and {second} are lost"));
            run(&exchange, vec![(first, Verdict::Drop), (second, Verdict::Drop)]);
            drop(shown);
        }
    }
}
