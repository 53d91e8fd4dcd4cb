use std::net::{IpAddr, SocketAddr};

use nic_transport::Frames;
use nic_wire::{Span, Time};

use super::*;
use crate::{Burst, Chance, Port, Share};

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 1000))
}

fn host(number: u8) -> IpAddr {
    address(number).ip()
}

fn send(port: &mut SimPort, to: SocketAddr, bytes: &[u8]) {
    let frame = port.allocate(Share::Reply).unwrap();
    port.bytes_mut(frame)[..bytes.len()].copy_from_slice(bytes);
    port.submit(frame, bytes.len(), to);
    port.release(frame);
    port.transmit();
}

fn receive(port: &mut SimPort) -> Vec<Vec<u8>> {
    let mut burst = Burst::new(64);
    let mut packets = Vec::new();
    while port.receive(&mut burst) > 0 {
        packets.extend(burst.views().iter().map(|view| port.view(view).to_vec()));
        port.release_burst(&mut burst);
    }
    packets
}

fn run_out(network: &SimNetwork) {
    while let Some(next) = network.next_event() {
        network.advance_to(next);
    }
}

/// Sends `count` numbered packets over a link and returns what arrives, with the counters.
fn run(seed: u64, link: LinkConfig, count: u32) -> (Vec<Vec<u8>>, SimCounters) {
    let network = SimNetwork::new(seed, SimConfig { link, ..SimConfig::default() });
    let mut left = network.port(address(1)).unwrap();
    let mut right = network.port(address(2)).unwrap();
    let mut arrived = Vec::new();
    for number in 0..count {
        send(&mut left, address(2), &number.to_le_bytes());
        network.advance_to(network.now() + Span::from_us(1));
        arrived.extend(receive(&mut right));
    }
    run_out(&network);
    arrived.extend(receive(&mut right));
    assert_eq!(network.packets_inside(), 0, "seed {seed}");
    (arrived, network.counters())
}

#[test]
fn a_seed_repeats_itself_and_another_differs() {
    let link = LinkConfig::hostile(Chance::percent(10));
    let first = run(5, link, 500);
    assert_eq!(first, run(5, link, 500));
    assert_ne!(first.0, run(6, link, 500).0);
}

#[test]
fn chances_do_what_they_say_and_every_packet_is_accounted_for() {
    for seed in 0..5 {
        let (arrived, counters) = run(seed, LinkConfig::hostile(Chance::percent(10)), 2000);
        let expected = counters.sent - counters.lost + counters.duplicated;
        assert_eq!(arrived.len() as u64, expected, "seed {seed}");
        assert_eq!(counters.delivered, expected, "seed {seed}");
        for (name, count) in [
            ("lost", counters.lost),
            ("duplicated", counters.duplicated),
            ("reordered", counters.reordered),
            ("corrupted", counters.corrupted),
        ] {
            assert!((100..300).contains(&count), "seed {seed}: {count} {name} of 2000");
        }
        let in_order =
            arrived.is_sorted_by_key(|bytes| bytes.iter().rev().copied().collect::<Vec<_>>());
        assert!(!in_order, "seed {seed}: nothing was overtaken");
    }
}

#[test]
fn jitter_alone_keeps_the_order() {
    let link = LinkConfig { jitter: Span::from_us(50), ..LinkConfig::default() };
    let (arrived, _) = run(3, link, 300);
    let expected: Vec<Vec<u8>> = (0..300u32).map(|number| number.to_le_bytes().to_vec()).collect();
    assert_eq!(arrived, expected);
}

#[test]
fn a_packet_arrives_at_its_time_and_not_before() {
    let network = SimNetwork::new(1, SimConfig::default());
    let mut left = network.port(address(1)).unwrap();
    let mut right = network.port(address(2)).unwrap();
    send(&mut left, address(2), b"x");
    assert_eq!(network.next_event(), Some(Time::from_ns(5_000)));
    network.advance_to(Time::from_ns(4_999));
    assert!(receive(&mut right).is_empty());
    network.advance_to(Time::from_ns(5_000));
    assert_eq!(receive(&mut right).len(), 1);
    assert_eq!(network.next_event(), None);
}

#[test]
fn a_slow_link_spaces_packets_and_drops_what_its_queue_cannot_hold() {
    let link = LinkConfig {
        latency: Span::ZERO,
        bytes_per_second: Some(1_000_000),
        queue_bytes: 300,
        ..LinkConfig::default()
    };
    let network = SimNetwork::new(1, SimConfig { link, ..SimConfig::default() });
    let mut left = network.port(address(1)).unwrap();
    let mut right = network.port(address(2)).unwrap();
    for _ in 0..5 {
        send(&mut left, address(2), &[0; 100]);
    }
    assert_eq!(network.counters().overflowed, 2);
    for expected_us in [100, 200, 300] {
        let next = network.next_event().unwrap();
        assert_eq!(next, Time::ZERO + Span::from_us(expected_us));
        network.advance_to(next);
        assert_eq!(receive(&mut right).len(), 1);
    }
}

#[test]
fn partitions_lose_packets_and_pauses_keep_them() {
    let network = SimNetwork::new(1, SimConfig::default());
    let mut left = network.port(address(1)).unwrap();
    let mut right = network.port(address(2)).unwrap();

    send(&mut left, address(2), b"on the way");
    network.partition(host(1), host(2));
    send(&mut left, address(2), b"at the gate");
    run_out(&network);
    assert!(receive(&mut right).is_empty());
    assert_eq!(network.counters().partitioned, 2);
    network.heal(host(1), host(2));

    network.cut(host(2), host(1));
    send(&mut right, address(1), b"no");
    send(&mut left, address(2), b"yes");
    run_out(&network);
    assert_eq!((receive(&mut left).len(), receive(&mut right).len()), (0, 1));
    network.heal(host(1), host(2));

    network.pause(host(2));
    send(&mut left, address(2), b"waits");
    send(&mut right, address(1), b"waits too");
    run_out(&network);
    assert!(receive(&mut right).is_empty() && receive(&mut left).is_empty());
    network.resume(host(2));
    right.transmit();
    run_out(&network);
    assert_eq!((receive(&mut left).len(), receive(&mut right).len()), (1, 1));
}

#[test]
fn a_script_decides_each_packet() {
    let verdicts = [
        (Verdict::Deliver, vec![0u8]),
        (Verdict::Drop, vec![]),
        (Verdict::Duplicate, vec![0, 0]),
        (Verdict::Corrupt, vec![0]),
        (Verdict::Delay(Span::from_ms(1)), vec![0]),
    ];
    for (verdict, expected) in verdicts {
        let network = SimNetwork::new(1, SimConfig::default());
        let mut left = network.port(address(1)).unwrap();
        let mut right = network.port(address(2)).unwrap();
        network
            .set_script(move |packet| if packet.number == 0 { verdict } else { Verdict::Deliver });
        send(&mut left, address(2), &[0; 1]);
        send(&mut left, address(2), &[9; 2]);
        run_out(&network);
        let arrived = receive(&mut right);
        let others = arrived.iter().filter(|bytes| bytes.len() == 1);
        assert_eq!(others.clone().count(), expected.len(), "{verdict:?}");
        let harmed = others.clone().filter(|bytes| bytes[0] != 0).count();
        assert_eq!(harmed, usize::from(verdict == Verdict::Corrupt), "{verdict:?}");
        if let Verdict::Delay(_) = verdict {
            assert_eq!(arrived[0], [9; 2], "the second overtook the first");
        }
    }
}

#[test]
fn addresses_are_taken_and_given_back() {
    let network = SimNetwork::new(1, SimConfig::default());
    let mut left = network.port(address(1)).unwrap();
    let right = network.port(address(2)).unwrap();
    let taken = network.port(address(2)).err();
    assert_eq!(taken, Some(SimError::AddressInUse { address: address(2) }));
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 5));
    assert_eq!(network.port(nowhere).err(), Some(SimError::NoAddress { address: nowhere }));

    send(&mut left, address(2), b"arrives, is never read");
    run_out(&network);
    send(&mut left, address(2), b"under way when its port ends");
    drop(right);
    run_out(&network);
    assert_eq!((network.counters().unreachable, network.packets_inside()), (1, 0));

    let mut right = network.port(address(2)).unwrap();
    assert!(receive(&mut right).is_empty(), "a new port does not inherit");
}

#[test]
fn held_frames_stay_queued_until_their_time() {
    let config = SimConfig { transmit_hold: Span::from_us(3), ..SimConfig::default() };
    let network = SimNetwork::new(1, config);
    let mut left = network.port(address(1)).unwrap();
    let _right = network.port(address(2)).unwrap();
    let frame = left.allocate(Share::Request).unwrap();
    left.submit(frame, 10, address(2));
    left.transmit();
    assert!(left.is_queued(frame));
    assert_eq!(network.next_event(), Some(Time::from_ns(3_000)));
    network.advance_to(Time::from_ns(3_000));
    left.transmit();
    assert!(!left.is_queued(frame));
    left.release(frame);
}

#[test]
fn a_full_inbox_drops() {
    let config = SimConfig { inbox_packets: 3, ..SimConfig::default() };
    let network = SimNetwork::new(1, config);
    let mut left = network.port(address(1)).unwrap();
    let mut right = network.port(address(2)).unwrap();
    for _ in 0..5 {
        send(&mut left, address(2), b"x");
    }
    run_out(&network);
    assert_eq!((receive(&mut right).len(), network.counters().overflowed), (3, 2));
}
