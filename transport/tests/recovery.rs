//! Lost packets: how each kind of loss is noticed, and what is sent again.
// The functions that tests share fail by panicking, too.
#![allow(clippy::unwrap_used)]

mod world;

use nic_transport::{Config, FlowCounters};
use nic_wire::packet::Packet;
use nic_wire::{Span, Time};
use world::{Verdict, World};

fn flows(world: &World) -> FlowCounters {
    world.hosts[0].endpoint.counters().flows
}

/// Sends `count` packets in one burst, loses those whose place in it is in `lost`, and runs until
/// all have arrived. Returns the world and how long it took.
fn burst(seed: u64, config: &Config, count: usize, lost: &'static [usize]) -> (World, Span) {
    let mut world = World::pair(seed, config);
    let (ours, _) = world.open();
    // A first exchange, so that the round trip is known.
    world.send(0, ours, b"first");
    world.run_dry();
    let start = world.log.len();
    world.script(move |index, _| {
        if index >= start && lost.contains(&(index - start)) {
            Verdict::Drop
        } else {
            Verdict::Deliver
        }
    });
    let began = world.now;
    (0..count).for_each(|index| world.send(0, ours, &[index as u8; 100]));
    world.run_until(|world| world.hosts[1].inbox.len() == count + 1);
    let took = world.now.since(began);
    world.run_dry();
    assert_eq!(world.hosts[0].pool.in_use(), 0);
    (world, took)
}

#[test]
fn a_gap_before_three_others_is_noticed_by_distance() {
    let config = Config { receive_window_bytes: 2_000, ..Config::default() };
    let (world, took) = burst(1, &config, 10, &[2]);
    let counters = flows(&world);
    assert_eq!((counters.retransmissions_fast, counters.retransmissions_probe), (1, 0));
    assert_eq!(counters.retransmissions_timeout, 0);
    // There, back with the ack of half a window, and there again: no timer was waited for.
    assert_eq!(took, Span::from_us(30));
}

#[test]
fn a_gap_before_one_other_is_noticed_by_recency() {
    let (world, took) = burst(2, &Config::default(), 2, &[0]);
    let counters = flows(&world);
    assert_eq!((counters.retransmissions_fast, counters.retransmissions_probe), (1, 0));
    // It took the ack delay and a round trip and a bit, not a probe's time.
    assert!(took < Span::from_us(200), "{took:?}");
}

#[test]
fn reordering_by_less_is_not_a_loss() {
    let mut world = World::pair(3, &Config::default());
    let (ours, _) = world.open();
    let start = world.log.len();
    world.script(move |index, _| {
        let overtaken = index >= start && index % 5 == 0;
        if overtaken { Verdict::Late(Span::from_us(8)) } else { Verdict::Deliver }
    });
    for round in 1..=20 {
        (0..3).for_each(|_| world.send(0, ours, &[1; 50]));
        world.run_until(|world| world.hosts[1].inbox.len() == 3 * round);
    }
    world.run_dry();
    assert_eq!(flows(&world).retransmissions_fast, 0);
    assert_eq!(flows(&world).retransmissions_probe, 0);
}

#[test]
fn a_lost_tail_is_noticed_by_a_probe() {
    let (world, took) = burst(4, &Config::default(), 10, &[8, 9]);
    let counters = flows(&world);
    // The probe brings the last packet; its ack tells that the one before is missing.
    assert_eq!((counters.retransmissions_probe, counters.retransmissions_fast), (1, 1));
    assert_eq!(counters.retransmissions_timeout, 0);
    assert!(took < Span::from_ms(1), "{took:?}");
}

#[test]
fn a_lost_probe_is_followed_by_time_outs_that_back_off() {
    let config = Config::default();
    let (world, _) = burst(5, &config, 1, &[0, 1, 2, 3]);
    let counters = flows(&world);
    assert_eq!((counters.retransmissions_probe, counters.retransmissions_timeout), (1, 3));
    let numbered: Vec<Time> =
        world.log.iter().filter(|entry| entry.1.is_numbered()).map(|entry| entry.0).collect();
    let waits: Vec<Span> = numbered.windows(2).skip(1).map(|pair| pair[1].since(pair[0])).collect();
    let least = config.timeout_min;
    assert_eq!(waits, [config.probe_min, least, least.times(2), least.times(4)]);
}

/// A whole burst lost costs one probe or time-out, not one for each packet.
#[test]
fn a_lost_burst_is_recovered_together() {
    let lost: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    let (world, took) = burst(6, &Config::default(), 10, lost);
    let counters = flows(&world);
    assert_eq!(counters.retransmissions_probe, 1);
    assert_eq!(counters.retransmissions_fast, 9);
    assert!(took < Span::from_ms(2), "{took:?}");
}

/// The same after a time-out, whose packet is the oldest: what was sent before it is lost, too.
#[test]
fn a_lost_burst_and_its_probe_are_recovered_together() {
    let lost: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    let (world, took) = burst(7, &Config::default(), 10, lost);
    let counters = flows(&world);
    assert_eq!((counters.retransmissions_probe, counters.retransmissions_timeout), (1, 1));
    assert_eq!(counters.retransmissions_fast, 9);
    assert!(took < Span::from_ms(10), "{took:?}");
}

/// Retransmissions keep their numbers, carry their age and the newest ack.
#[test]
fn retransmissions_are_written_anew() {
    let (world, _) = burst(8, &Config::default(), 5, &[1]);
    let mut seen = std::collections::BTreeMap::new();
    let mut repeated = 0;
    for (at, datagram) in world.log.iter().filter(|entry| entry.1.is_numbered()) {
        let packet = Packet::parse(&datagram.bytes).unwrap();
        let number = packet.header.packet_number.get();
        assert_eq!(packet.header.send_time_ns.get(), at.truncated());
        if let Some((first, body)) = seen.get(&number) {
            assert_eq!(*body, packet.body);
            assert_eq!(u64::from(packet.header.age_us.get()), at.since(*first).as_us());
            repeated += 1;
        } else {
            assert_eq!(packet.header.age_us.get(), 0);
            seen.insert(number, (*at, packet.body));
        }
    }
    assert_eq!(repeated, 1);
}

/// The ack of a packet that was sent twice may be that of its first sending: it says nothing
/// about what was sent between the two.
#[test]
fn needless_retransmissions_do_not_cause_others() {
    let config = Config { receive_window_bytes: 2_000, ..Config::default() };
    let mut world = World::pair(12, &config);
    let (ours, _) = world.open();
    let start = world.log.len();
    // The first packet is late enough to be sent again at 90 us, and arrives at 91 us. It is long
    // enough to be acknowledged at once.
    world.script(
        move |index, _| {
            if index == start { Verdict::Late(Span::from_us(81)) } else { Verdict::Deliver }
        },
    );
    world.send(0, ours, &[1; 1000]);
    world.send(0, ours, &[2; 100]);
    world.run_for(Span::from_us(85));
    (0..5).for_each(|_| world.send(0, ours, &[3; 1]));
    world.run_for(Span::from_us(6));
    assert_eq!(flows(&world).retransmissions_fast, 1);
    assert_eq!(world.hosts[1].inbox.len(), 2);
    world.run_dry();
    assert_eq!(flows(&world).retransmissions_fast, 1);
    assert_eq!(world.hosts[1].inbox.len(), 7);
    assert_eq!(world.hosts[1].endpoint.counters().flows.duplicates, 1);
}

/// A frame that has not left the port is neither rewritten nor submitted again: the pool of these
/// tests asserts it. And a port that is slow for long does not make the flow fail.
#[test]
fn queued_frames_are_left_alone() {
    let mut world = World::pair(9, &Config::default());
    let (ours, _) = world.open();
    world.hosts[0].pool.sends_per_turn = 0;
    (0..5).for_each(|_| world.send(0, ours, b"stuck"));
    for _ in 0..60 {
        world.settle();
        world.now += Span::from_ms(1);
    }
    assert_eq!(world.hosts[0].pool.waiting(), 5);
    assert_eq!(flows(&world).retransmissions_probe, 0);
    world.hosts[0].pool.sends_per_turn = usize::MAX;
    world.run_dry();
    assert_eq!(world.hosts[1].inbox.len(), 5);
    world.tear_down();
}

/// A packet that the op layer refuses is not acknowledged, and comes again until it is taken.
#[test]
fn what_is_not_accepted_comes_again() {
    let mut world = World::pair(10, &Config::default());
    let (ours, _) = world.open();
    world.hosts[1].refusals = 1000;
    world.send(0, ours, b"not now");
    world.run_for(Span::from_ms(20));
    assert_eq!(world.hosts[1].inbox.len(), 0);
    assert_eq!(world.hosts[0].pool.in_use(), 1);
    assert!(flows(&world).retransmissions_timeout >= 1);
    world.hosts[1].refusals = 0;
    world.run_dry();
    assert_eq!((world.hosts[1].inbox.len(), world.hosts[0].pool.in_use()), (1, 0));
    assert_eq!(world.hosts[1].endpoint.counters().flows.duplicates, 0);
}

/// Packets beyond the reach of acks are dropped and counted, and do no harm.
#[test]
fn out_of_window_packets_are_dropped() {
    let mut world = World::pair(11, &Config::default());
    let (ours, _) = world.open();
    world.send(0, ours, b"good");
    world.settle();
    let good = world.log.last().unwrap().1.clone();
    let mut wild = good.clone();
    wild.forge(|bytes| {
        let number = u32::from_le_bytes(bytes[16..20].try_into().unwrap()).wrapping_add(129);
        bytes[16..20].copy_from_slice(&number.to_le_bytes());
    });
    world.deliver(&wild);
    assert_eq!(world.hosts[1].endpoint.counters().drops.out_of_window, 1);
    // An ack of what was never sent is not believed.
    let mut impossible = good.clone();
    impossible.forge(|bytes| bytes[20] = bytes[20].wrapping_add(1));
    world.deliver(&impossible);
    assert_eq!(world.hosts[1].endpoint.counters().drops.impossible_ack, 1);
    let mut selective = good;
    selective.forge(|bytes| bytes[24] = 1);
    world.deliver(&selective);
    assert_eq!(world.hosts[1].endpoint.counters().drops.impossible_ack, 2);
    world.run_dry();
    assert_eq!(world.hosts[1].inbox.len(), 1);
}
