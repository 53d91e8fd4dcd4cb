//! Every packet that is sent is accepted exactly once, whatever the network does, and every frame
//! comes back.
// The functions that tests share fail by panicking, too.
#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeSet;

use nic_transport::{Config, FlowHandle};
use nic_wire::Span;
use nic_wire::packet::PacketKind;
use world::{Crc, Datagram, Faults, World, address};

const BAD: Faults = Faults { loss: 100, duplication: 100, reordering: 100, corruption: 20 };

fn payload(index: u64) -> Vec<u8> {
    let mut payload = index.to_le_bytes().to_vec();
    payload.resize(8 + (index * 37 % 900) as usize, index as u8);
    payload
}

/// Sends `count` packets that the target sends back, and checks that all arrive once and intact.
fn exchange(seed: u64, config: &Config, faults: Faults, count: u64, unkind: bool) {
    println!("seed {seed}, first packet number {:?}", config.first_packet_number);
    let mut world = World::pair(seed, config);
    world.faults = faults;
    world.hosts[1].echoes = true;
    if unkind {
        // Packets refused by the op layer, and ports that need several turns.
        world.hosts.iter_mut().for_each(|host| {
            host.refusals = 50;
            host.pool.sends_per_turn = 3;
        });
    }
    let (flow, _) = world.open();
    let mut issued = 0;
    while world.hosts[0].inbox.len() < count as usize {
        // Enough to keep the windows full, little enough for the pools.
        while issued < count && world.hosts[0].outbox.len() < 20 {
            world.send(0, flow, &payload(issued));
            issued += 1;
        }
        let received = world.hosts[0].inbox.len();
        let patience = Span::from_ms(200);
        world.run_at_most(patience, |world| world.hosts[0].inbox.len() > received);
        if world.hosts[0].inbox.len() == received {
            ask(&mut world, flow);
        }
        check_windows(&world, config);
    }
    world.run_dry();
    for host in &world.hosts {
        let expected: BTreeSet<_> = (0..count).map(payload).collect();
        let received: BTreeSet<_> = host.inbox.iter().map(|entry| entry.2.clone()).collect();
        assert_eq!(host.inbox.len() as u64, count, "seed {seed}: packets arrived twice");
        assert!(received == expected, "seed {seed}: packets differ");
        assert_eq!(host.pool.in_use(), 0, "seed {seed}: all is acknowledged");
        let numbers: BTreeSet<_> = host.inbox.iter().map(|entry| entry.1).collect();
        let span = numbers.last().unwrap() - numbers.first().unwrap();
        assert_eq!(span + 1, count, "numbers are dense");
    }
    let lost = world.faults.loss > 0;
    let counters = world.hosts[0].endpoint.counters();
    assert_eq!(counters.flows.data_sent, count);
    assert_eq!(counters.flows.retransmissions_fast > 0, lost, "{counters:?}");
    assert_eq!(counters.drops.impossible_ack, 0);
    world.tear_down();
}

/// A reply and three probes may all be lost; the target is quiet then. An op layer whose ops wait
/// long for their replies asks for a sign of life, which brings the target back.
fn ask(world: &mut World, flow: FlowHandle) {
    let (now, mut bytes) = (world.now, vec![0; 64]);
    world.hosts[0].endpoint.flow_mut(flow).unwrap().write_probe(now, &mut bytes, &mut Crc);
    world.inject(Datagram { from: address(0), to: address(1), bytes });
}

fn check_windows(world: &World, config: &Config) {
    for host in 0..2 {
        let Some(handle) = world.opened(host) else { continue };
        let flow = world.hosts[host].endpoint.flow(handle).unwrap();
        assert!(flow.unacked_bytes() <= config.receive_window_bytes);
        assert!(flow.unacked_packets() <= 128);
    }
}

#[test]
fn over_a_perfect_network() {
    exchange(1, &Config::default(), Faults::default(), 3_000, false);
}

#[test]
fn over_a_bad_network() {
    for seed in 0..40 {
        exchange(seed, &Config::default(), BAD, 1_000, false);
    }
}

#[test]
fn with_refusals_and_slow_ports() {
    for seed in 100..120 {
        exchange(seed, &Config::default(), BAD, 600, true);
    }
}

#[test]
fn across_the_wrap_of_truncated_numbers() {
    for (seed, first) in
        [(200, 0xffff_ff00), (201, 0x1_ffff_fff0), (202, 0x7fff_ff80), (203, 0), (204, 1 << 61)]
    {
        let config = Config { first_packet_number: Some(first), ..Config::default() };
        exchange(seed, &config, BAD, 1_000, false);
    }
}

#[test]
fn through_small_windows() {
    let config =
        Config { receive_window_bytes: 3_000, congestion_window_bytes: 2_000, ..Config::default() };
    for seed in 300..320 {
        exchange(seed, &config, BAD, 300, false);
    }
}

/// The same seed gives the same run, packet for packet.
#[test]
fn seeds_replay() {
    let run = || {
        let mut world = World::pair(9, &Config::default());
        world.faults = BAD;
        world.hosts[1].echoes = true;
        let (flow, _) = world.open();
        (0..200).for_each(|index| world.send(0, flow, &payload(index)));
        world.run_dry();
        world.log
    };
    let (first, second) = (run(), run());
    assert!(first.len() > 400 && first == second);
}

/// Many flows between the same two hosts do not disturb each other.
#[test]
fn many_flows() {
    let config = Config { flows_max: 40, ..Config::default() };
    let mut world = World::pair(5, &config);
    world.faults = BAD;
    world.hosts[1].echoes = true;
    let flows: Vec<_> = (0..40).map(|_| world.connect(0, 1)).collect();
    world.run_until(|world| world.hosts[0].events.len() == 40);
    for (index, flow) in flows.iter().enumerate() {
        (0..10).for_each(|i| world.send(0, *flow, &payload(index as u64 * 100 + i)));
    }
    world.run_dry();
    let mut received: Vec<_> = world.hosts[0]
        .inbox
        .iter()
        .map(|(flow, _, payload)| (*flow, u64::from_le_bytes(payload[..8].try_into().unwrap())))
        .collect();
    received.sort();
    let mut expected: Vec<_> = (0..40u64)
        .flat_map(|index| (0..10).map(move |i| (index as usize, index * 100 + i)))
        .map(|(index, value)| (flows[index], value))
        .collect();
    expected.sort();
    assert_eq!(received, expected);
    assert!(world.sent(0, PacketKind::Accept) >= 40);
    world.tear_down();
}
