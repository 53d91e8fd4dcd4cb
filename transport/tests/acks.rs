//! When acks leave, what they cost, and what they tell: round trips, credits, windows.
// The functions that tests share fail by panicking, too.
#![allow(clippy::unwrap_used)]

mod world;

use nic_transport::{AckDue, Config};
use nic_wire::Span;
use nic_wire::packet::{Packet, PacketFlags, PacketKind};
use world::{Crc, Datagram, Verdict, World, address};

fn rtt(world: &World, host: usize) -> Span {
    let flow = world.opened(host).unwrap();
    world.hosts[host].endpoint.flow(flow).unwrap().rtt().expect("measured")
}

/// A request and its reply, one at a time: two packets each, and one lone ack at the very end.
#[test]
fn window_one_costs_two_packets() {
    let mut world = World::pair(1, &Config::default());
    world.hosts[1].echoes = true;
    let (flow, _) = world.open();
    let start = world.log.len();
    let exchanges = 500;
    for index in 1..=exchanges {
        world.send(0, flow, b"request");
        world.run_until(|world| world.hosts[0].inbox.len() == index);
    }
    assert_eq!(world.log.len() - start, 2 * exchanges);
    assert!(world.log[start..].iter().all(|entry| entry.1.is_numbered()));
    // Everything but the last reply has been acknowledged already.
    assert_eq!((world.hosts[0].pool.in_use(), world.hosts[1].pool.in_use()), (0, 1));
    world.run_dry();
    assert_eq!(world.log.len() - start, 2 * exchanges + 1);
    assert!(!world.log.last().unwrap().1.is_numbered());
    let flows = |host: usize| world.hosts[host].endpoint.counters().flows;
    assert_eq!((flows(0).lone_acks_sent, flows(1).lone_acks_received), (1, 1));
    assert_eq!((flows(0).retransmissions_probe, flows(1).retransmissions_probe), (0, 0));
    world.tear_down();
}

#[test]
fn a_lone_ack_waits_for_the_agreed_delay() {
    let config = Config { ack_delay: Span::from_us(70), ..Config::default() };
    let mut world = World::pair(2, &config);
    let (ours, theirs) = world.open();
    world.send(0, ours, b"one way");
    world.run_until(|world| world.hosts[1].inbox.len() == 1);
    let (arrived, sent) = (world.now, world.log.len());
    let due = world.hosts[1].endpoint.flow(theirs).unwrap().ack_due(arrived);
    assert_eq!(due, AckDue::ByTimer(arrived + config.ack_delay));
    assert_eq!(world.hosts[1].endpoint.next_timeout(), arrived + config.ack_delay);
    world.run_until(|world| world.log.len() > sent);
    assert_eq!(world.now, arrived + config.ack_delay);
    world.run_dry();
    assert_eq!(world.log.len(), sent + 1);
}

#[test]
fn a_long_round_trip_lets_acks_wait_longer() {
    let mut world = World::pair(3, &Config::default());
    world.latency = Span::from_ms(2);
    world.hosts[1].echoes = true;
    let (ours, _) = world.open();
    let probes = |world: &World| world.hosts[1].endpoint.counters().flows.retransmissions_probe;
    let mut probes_before = 0;
    for index in 1..=20 {
        world.send(0, ours, b"to and fro");
        world.run_until(|world| world.hosts[0].inbox.len() == index);
        if index == 2 {
            // The target knew nothing of the round trip when it sent the first reply.
            probes_before = probes(&world);
        }
    }
    assert_eq!(rtt(&world, 0), Span::from_ms(4));
    let (arrived, sent) = (world.now, world.log.len());
    world.run_until(|world| world.log.len() > sent);
    assert_eq!(world.now, arrived + Span::from_ms(1));
    world.run_dry();
    assert_eq!(probes(&world), probes_before, "the peer knows of the delay");
}

#[test]
fn half_a_window_is_acknowledged_at_once() {
    let config = Config { receive_window_bytes: 8_000, ..Config::default() };
    let mut world = World::pair(4, &config);
    let (ours, theirs) = world.open();
    (0..3).for_each(|_| world.send(0, ours, &[1; 1000]));
    world.run_until(|world| world.hosts[1].inbox.len() == 3);
    let due = |world: &World| world.hosts[1].endpoint.flow(theirs).unwrap().ack_due(world.now);
    assert!(matches!(due(&world), AckDue::ByTimer(_)));
    world.send(0, ours, &[1; 1000]);
    let sent = world.log.len();
    world.run_until(|world| world.hosts[1].inbox.len() == 4);
    // The ack has left in the same turn.
    assert_eq!((world.log.len(), due(&world)), (sent + 2, AckDue::No));
}

#[test]
fn small_packets_do_not_stall_at_the_reach_of_acks() {
    let mut world = World::pair(5, &Config::default());
    let (ours, _) = world.open();
    (0..300).for_each(|_| world.send(0, ours, b"tiny"));
    let start = world.now;
    world.run_until(|world| world.hosts[1].inbox.len() == 300);
    // 128 packets at once, and the rest as acks come back: no ack waited for its timer.
    assert!(world.now.since(start) < Span::from_us(80), "{:?}", world.now.since(start));
}

#[test]
fn duplicates_are_acknowledged_again_at_once() {
    let mut world = World::pair(6, &Config::default());
    let (ours, _) = world.open();
    world.script(
        |_, datagram| {
            if datagram.is_numbered() { Verdict::Twice } else { Verdict::Deliver }
        },
    );
    let sent = world.log.len();
    world.send(0, ours, b"heard twice");
    world.run_until(|world| world.log.len() == sent + 2);
    let flows = world.hosts[1].endpoint.counters().flows;
    assert_eq!((flows.duplicates, flows.data_accepted, flows.lone_acks_sent), (1, 1, 1));
    world.run_dry();
    assert_eq!(world.log.len(), sent + 2, "one ack serves both");
}

/// A probe asks for an ack at once: it does not wait for the delay.
#[test]
fn probes_are_acknowledged_at_once() {
    let config = Config { ack_delay: Span::from_us(400), ..Config::default() };
    let mut world = World::pair(7, &config);
    let (ours, _) = world.open();
    let sent = world.log.len();
    world.script(move |index, _| if index == sent { Verdict::Drop } else { Verdict::Deliver });
    world.send(0, ours, b"lost at first");
    world.run_until(|world| world.hosts[1].inbox.len() == 1);
    let probe = &world.log[sent + 1].1;
    let packet = Packet::parse(&probe.bytes).unwrap();
    assert!(packet.header.flags().contains(PacketFlags::ACK_NOW));
    let age = world.log[sent + 1].0.since(world.log[sent].0);
    assert_eq!(u64::from(packet.header.age_us.get()), age.as_us());
    assert_eq!(world.log.len(), sent + 3, "the ack is on its way");
    // The wait before the probe allowed for the peer's delay.
    assert!(age > config.ack_delay);
}

/// The round trip is measured without the time for which acks are held back.
#[test]
fn dwell_is_not_part_of_the_round_trip() {
    let config = Config { ack_delay: Span::from_ms(3), ..Config::default() };
    let mut world = World::pair(8, &config);
    let (ours, _) = world.open();
    for index in 1..=30 {
        world.send(0, ours, b"one way");
        world.run_until(|world| world.hosts[1].inbox.len() == index);
        world.run_until(|world| world.hosts[0].pool.in_use() == 0);
        assert!(rtt(&world, 0) == Span::from_us(20), "{:?}", rtt(&world, 0));
    }
    assert_eq!(world.hosts[0].endpoint.counters().flows.retransmissions_probe, 0);
}

/// After minutes of silence, the times in packets have wrapped many times over.
#[test]
fn long_pauses_do_not_confuse_the_clocks() {
    let mut world = World::pair(9, &Config::default());
    world.hosts[1].echoes = true;
    let (ours, theirs) = world.open();
    for (index, pause_ms) in [1, 2_500, 4_290, 61_000, 3_000, 600_000].into_iter().enumerate() {
        let credits = 100 + index as u16;
        world.hosts[1].endpoint.flow_mut(theirs).unwrap().grant(world.now, credits, credits);
        world.send(0, ours, b"after a pause");
        world.run_until(|world| world.hosts[0].inbox.len() == index + 1);
        let flow = world.hosts[0].endpoint.flow(ours).unwrap();
        assert_eq!(flow.credits(), (credits, u32::from(credits)));
        world.run_for(Span::from_ms(pause_ms));
        assert_eq!((rtt(&world, 0), rtt(&world, 1)), (Span::from_us(20), Span::from_us(20)));
    }
}

/// Of packets that overtook each other the credits of the newest count.
#[test]
fn the_newest_credits_count() {
    let mut world = World::pair(10, &Config::default());
    let (_, theirs) = world.open();
    let start = world.log.len();
    // The first packet of each burst is overtaken by the others.
    world.script(move |index, _| match index - start {
        0 | 3 => Verdict::Late(Span::from_us(500)),
        _ => Verdict::Deliver,
    });
    for (burst, same_time) in [true, false].into_iter().enumerate() {
        for credit in 1..=3 {
            let credit = credit + 10 * burst as u16;
            world.hosts[1].endpoint.flow_mut(theirs).unwrap().grant(world.now, credit, 2 * credit);
            world.send(1, theirs, b"reply");
            world.settle();
            if !same_time {
                world.run_for(Span::from_ns(100));
            }
        }
        world.run_dry();
        let ours = world.opened(0).unwrap();
        let newest = 3 + 10 * burst as u16;
        let credits = world.hosts[0].endpoint.flow(ours).unwrap().credits();
        assert_eq!(credits, (newest, u32::from(2 * newest)));
    }
    assert_eq!(world.hosts[0].inbox.len(), 6);
}

/// A larger grant reaches an initiator that waits for nothing else; a smaller one can wait.
#[test]
fn larger_grants_are_announced() {
    let config = Config { op_credits: 8, reply_credits_kib: 8, ..Config::default() };
    let mut world = World::pair(20, &config);
    let (ours, theirs) = world.open();
    let start = world.log.len();
    for (ops, kib, packets) in [(8, 8, 0), (2, 1, 0), (8, 8, 0), (9, 8, 1), (9, 9, 2), (1, 9, 2)] {
        let now = world.now;
        world.hosts[1].endpoint.flow_mut(theirs).unwrap().grant(now, ops, kib);
        world.run_dry();
        assert_eq!(world.log.len() - start, packets, "{ops} {kib}");
    }
    let credits = world.hosts[0].endpoint.flow(ours).unwrap().credits();
    assert_eq!(credits, (9, 9), "the smaller one comes with the next packet");
    world.send(0, ours, b"request");
    world.run_dry();
    assert_eq!(world.hosts[0].endpoint.flow(ours).unwrap().credits(), (1, 9));
}

/// Should the ack with the grant be lost, the initiator can ask.
#[test]
fn probes_bring_lost_credits() {
    let config = Config { op_credits: 0, ..Config::default() };
    let mut world = World::pair(21, &config);
    let (ours, theirs) = world.open();
    let start = world.log.len();
    world.script(move |index, _| if index == start { Verdict::Drop } else { Verdict::Deliver });
    let now = world.now;
    world.hosts[1].endpoint.flow_mut(theirs).unwrap().grant(now, 5, 5);
    world.run_dry();
    assert_eq!((world.log.len(), world.hosts[0].handled.len()), (start + 1, 2));
    let mut bytes = vec![0; 64];
    let flow = world.hosts[0].endpoint.flow_mut(ours).unwrap();
    assert_eq!(flow.credits().0, 0);
    assert_eq!(flow.write_probe(now, &mut bytes, &mut Crc), 64);
    world.inject(Datagram { from: address(0), to: address(1), bytes });
    world.run_dry();
    assert_eq!(world.hosts[0].endpoint.flow(ours).unwrap().credits(), (5, 5));
    assert_eq!(world.log.len(), start + 2, "one ack, which is not answered");
}

#[test]
fn windows_of_both_ends_are_kept() {
    let narrow = Config { receive_window_bytes: 5_000, ..Config::default() };
    let wide = Config { receive_window_bytes: 9_000, ..Config::default() };
    let mut world = World::of(11, &[wide, narrow]);
    world.hosts[1].echoes = true;
    let (ours, theirs) = world.open();
    (0..100).for_each(|_| world.send(0, ours, &[3; 900]));
    let (mut most_ours, mut most_theirs) = (0, 0);
    world.run_until(|world| {
        let unacked =
            |host: usize, flow| world.hosts[host].endpoint.flow(flow).unwrap().unacked_bytes();
        most_ours = most_ours.max(unacked(0, ours));
        most_theirs = most_theirs.max(unacked(1, theirs));
        world.hosts[0].inbox.len() == 100
    });
    // Packets of 964 bytes: five and nine of them fit.
    assert_eq!(most_ours, 5 * 964);
    assert!(most_theirs <= 9 * 964 && most_theirs > 0);
    // A window that the peer makes smaller is kept from then on; one packet is always allowed.
    world.hosts[1].endpoint.flow_mut(theirs).unwrap().set_receive_window(0);
    world.send(0, ours, &[3; 900]);
    world.run_dry();
    (0..3).for_each(|_| world.send(0, ours, &[3; 900]));
    world.settle();
    assert_eq!(world.hosts[0].endpoint.flow(ours).unwrap().unacked_packets(), 1);
    world.run_dry();
    assert_eq!(world.hosts[0].inbox.len(), 104);
}

#[test]
fn the_congestion_window_is_kept() {
    let config = Config { congestion_window_bytes: 2_000, ..Config::default() };
    let mut world = World::pair(12, &config);
    let (ours, _) = world.open();
    (0..10).for_each(|_| world.send(0, ours, &[3; 900]));
    world.settle();
    assert_eq!(world.hosts[0].endpoint.flow(ours).unwrap().unacked_packets(), 2);
    assert_eq!(world.hosts[0].outbox.len(), 8);
    world.run_dry();
    assert_eq!(world.hosts[1].inbox.len(), 10);
    assert_eq!(world.sent(0, PacketKind::Reset), 0);
}
