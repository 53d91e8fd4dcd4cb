//! When a peer counts as dead, when nobody cares, and what strangers are told.
// The functions that tests share fail by panicking, too.
#![allow(clippy::unwrap_used)]

mod world;

use nic_transport::{CloseReason, Config, DropReason, FlowEvent, FlowHandle, Handled};
use nic_wire::Span;
use nic_wire::handshake::ResetReason;
use nic_wire::packet::PacketKind;
use world::{Crc, Datagram, Verdict, World, address};

fn closed(flow: FlowHandle, reason: CloseReason) -> FlowEvent {
    FlowEvent::Closed { flow, reason }
}

#[test]
fn a_dead_peer_is_noticed_in_bounded_time() {
    let config = Config::default();
    for seed in 0..20 {
        println!("seed {seed}");
        let mut world = World::pair(seed, &config);
        world.hosts[1].echoes = true;
        let (ours, _) = world.open();
        let before = world.random.below(30) as usize;
        for index in 1..=before {
            world.send(0, ours, b"while it lives");
            world.run_until(|world| world.hosts[0].inbox.len() == index);
        }
        world.hosts[1].dead = true;
        (0..3).for_each(|_| world.send(0, ours, b"into the void"));
        let died = world.now;
        world.run_until(|world| world.hosts[0].events.len() == 2);
        let took = world.now.since(died);
        assert!(took >= config.peer_timeout, "{took:?}");
        assert!(took <= config.peer_timeout + Span::from_us(100), "{took:?}");
        assert_eq!(world.hosts[0].events[1], closed(ours, CloseReason::PeerLost));
        let counters = world.hosts[0].endpoint.counters();
        assert!(counters.flows.retransmissions_timeout >= u64::from(config.probes_max) - 1);
        assert_eq!(counters.endpoint.peers_lost, 1);
        // The flow was removed on that event: nothing is held.
        world.hosts[0].pool.assert_all_free();
        world.run_dry();
    }
}

/// Silence counts from the first unanswered request on: before it there was nothing to answer.
#[test]
fn an_outage_shorter_than_the_time_out_is_survived() {
    let mut world = World::pair(14, &Config::default());
    world.hosts[1].echoes = true;
    let (ours, _) = world.open();
    world.send(0, ours, b"before");
    world.run_dry();
    world.run_for(Span::from_ms(10_000));
    world.send(0, ours, b"in vain for long");
    world.hosts[1].dead = true;
    world.run_for(Span::from_ms(1_500));
    assert!(world.hosts[0].endpoint.counters().flows.retransmissions_timeout > 5);
    world.hosts[1].dead = false;
    world.run_dry();
    assert_eq!((world.hosts[0].inbox.len(), world.hosts[0].events.len()), (2, 1));
}

/// A peer cannot make itself immortal by claiming that its acks take long.
#[test]
fn claimed_slowness_is_not_believed_for_ever() {
    let slow = Config { ack_delay: Span::from_ms(60_000), ..Config::default() };
    let config = Config::default();
    let mut world = World::of(13, &[config.clone(), slow]);
    let (ours, _) = world.open();
    world.hosts[1].dead = true;
    world.send(0, ours, b"into the void");
    let died = world.now;
    world.run_until(|world| world.hosts[0].events.len() == 2);
    assert_eq!(world.hosts[0].events[1], closed(ours, CloseReason::PeerLost));
    assert!(world.now.since(died) <= config.peer_timeout + config.timeout_max);
}

#[test]
fn an_idle_flow_lives_for_ever_and_costs_nothing() {
    let mut world = World::pair(1, &Config::default());
    world.hosts[1].echoes = true;
    let (ours, _) = world.open();
    world.send(0, ours, b"hello");
    world.run_dry();
    let sent = world.log.len();
    world.hosts[1].dead = true;
    world.run_for(Span::from_ms(10_000_000));
    assert_eq!(world.log.len(), sent, "no keepalive");
    assert_eq!(world.hosts[0].events.len(), 1);
    world.hosts[1].dead = false;
    world.send(0, ours, b"again");
    world.run_until(|world| world.hosts[0].inbox.len() == 2);
}

/// A slow answer is not a dead peer: acks count, whenever the reply comes.
#[test]
fn acks_prove_life() {
    let mut world = World::pair(2, &Config::default());
    let (ours, theirs) = world.open();
    world.send(0, ours, b"a long op");
    world.run_for(Span::from_ms(30_000));
    assert_eq!(world.hosts[0].events.len(), 1);
    world.send(1, theirs, b"its reply");
    world.run_dry();
    assert_eq!(world.hosts[0].inbox.len(), 1);
}

#[test]
fn a_target_falls_quiet_and_never_declares_its_initiator_dead() {
    let config = Config::default();
    let mut world = World::pair(3, &config);
    let (ours, theirs) = world.open();
    world.send(0, ours, b"request");
    world.run_dry();
    world.hosts[0].dead = true;
    world.send(1, theirs, b"reply");
    let sent = world.log.len();
    world.run_for(Span::from_ms(59_000));
    // The reply and three probes.
    assert_eq!(world.log.len() - sent, 4);
    assert!(world.hosts[1].endpoint.flow(theirs).unwrap().is_quiet());
    assert_eq!((world.hosts[1].events.len(), world.hosts[1].pool.in_use()), (1, 1));
    // The initiator's next packet brings the target back, and with it the reply.
    world.hosts[0].dead = false;
    world.send(0, ours, b"still here");
    world.run_until(|world| world.hosts[0].inbox.len() == 1);
    assert!(!world.hosts[1].endpoint.flow(theirs).unwrap().is_quiet());
    world.run_dry();
    assert_eq!(world.hosts[1].pool.in_use(), 0);
    assert_eq!(world.hosts[1].endpoint.counters().flows.quieted, 1);
    world.tear_down();
}

#[test]
fn a_quiet_target_gives_up_after_the_idle_time() {
    let config = Config::default();
    let mut world = World::pair(4, &config);
    let (ours, theirs) = world.open();
    world.send(0, ours, b"request");
    world.run_dry();
    let heard = world.log.iter().rfind(|e| e.1.from == address(0)).unwrap().0 + world.latency;
    world.hosts[0].dead = true;
    world.send(1, theirs, b"reply");
    world.run_until(|world| world.hosts[1].events.len() == 2);
    assert_eq!(world.hosts[1].events[1], closed(theirs, CloseReason::Abandoned));
    assert_eq!(world.now, heard + config.idle_timeout);
    world.hosts[1].pool.assert_all_free();
    world.run_dry();
    assert!(world.log.last().unwrap().1.is(PacketKind::Reset), "should it live, it is told");
}

/// A reply that is ready only when the target is quiet already has its own chance to arrive.
#[test]
fn a_late_reply_is_probed_for_as_well() {
    let mut world = World::pair(5, &Config::default());
    let (ours, theirs) = world.open();
    world.send(0, ours, b"two ops");
    world.run_dry();
    world.hosts[0].dead = true;
    world.send(1, theirs, b"first reply");
    world.run_for(Span::from_ms(100));
    assert!(world.hosts[1].endpoint.flow(theirs).unwrap().is_quiet());
    world.hosts[0].dead = false;
    let sent = world.log.len();
    world.script(move |index, _| if index == sent { Verdict::Drop } else { Verdict::Deliver });
    world.send(1, theirs, b"second reply");
    world.run_dry();
    assert_eq!(world.hosts[0].inbox.len(), 2);
    assert_eq!(world.hosts[1].pool.in_use(), 0);
}

#[test]
fn a_restarted_target_resets_what_it_does_not_know() {
    let config = Config::default();
    let mut world = World::pair(6, &config);
    let (ours, _) = world.open();
    world.hosts[1].endpoint = nic_transport::Endpoint::new(config, 0, 999, 2).unwrap();
    world.send(0, ours, b"do you remember?");
    let (start, sent) = (world.now, world.log.len());
    world.run_until(|world| world.hosts[0].events.len() == 2);
    let reason = CloseReason::ResetByPeer(ResetReason::UnknownFlow);
    assert_eq!(world.hosts[0].events[1], closed(ours, reason));
    assert_eq!(world.now.since(start), Span::from_us(20), "a round trip later");
    assert_eq!(world.log.len(), sent + 2, "and the RESET is not answered");
    world.run_dry();
    assert_eq!(world.log.len(), sent + 2);
    assert_eq!(world.hosts[1].endpoint.counters().drops.unknown_flow, 1);
    assert_eq!(world.hosts[1].endpoint.counters().endpoint.resets_sent, 1);
    world.hosts[0].pool.assert_all_free();
}

#[test]
fn a_restarted_initiator_resets_the_targets_flow() {
    let config = Config::default();
    let mut world = World::pair(7, &config);
    let (ours, theirs) = world.open();
    world.send(0, ours, b"request");
    world.run_dry();
    world.hosts[0].endpoint = nic_transport::Endpoint::new(config, 0, 999, 2).unwrap();
    world.send(1, theirs, b"reply");
    world.run_dry();
    let reason = CloseReason::ResetByPeer(ResetReason::UnknownFlow);
    assert_eq!(world.hosts[1].events[1], closed(theirs, reason));
    world.hosts[1].pool.assert_all_free();
}

#[test]
fn strangers_with_the_right_id_are_not_heard() {
    let mut world = World::pair(8, &Config::default());
    let (ours, theirs) = world.open();
    world.send(0, ours, b"genuine");
    world.settle();
    let mut copy = world.log.last().unwrap().1.clone();
    copy.from.set_port(4001);
    let sent = world.log.len();
    world.deliver(&copy);
    let dropped = Handled::Dropped(DropReason::WrongAddress);
    assert_eq!(world.hosts[1].handled.last(), Some(&dropped));
    assert_eq!(world.hosts[1].endpoint.counters().drops.wrong_address, 1);
    world.run_dry();
    assert_eq!(world.hosts[1].inbox.len(), 1, "only the genuine one");
    assert_eq!(world.log.len(), sent + 1, "only its ack");
    assert!(world.hosts[1].endpoint.flow(theirs).unwrap().is_open());
}

#[test]
fn lone_acks_and_resets_to_nobody_are_not_answered() {
    let mut world = World::pair(9, &Config::default());
    let (ours, _) = world.open();
    world.send(0, ours, b"request");
    world.run_dry();
    let ack = world.log.last().unwrap().1.clone();
    assert!(!ack.is_numbered() && ack.is(PacketKind::Data));
    let host = &mut world.hosts[0];
    host.endpoint.remove(ours, &mut host.pool);
    world.run_dry();
    let sent = world.log.len();
    world.deliver(&ack);
    let reset = world.log.last().unwrap().1.clone();
    assert!(reset.is(PacketKind::Reset));
    world.deliver(&reset);
    world.settle();
    assert_eq!(world.log.len(), sent);
    assert_eq!(world.hosts[0].endpoint.counters().drops.unknown_flow, 1);
}

#[test]
fn corrupted_packets_are_counted_and_repaired() {
    let mut world = World::pair(10, &Config::default());
    let (ours, _) = world.open();
    let start = world.log.len();
    world.script(move |index, datagram| {
        if index == start {
            datagram.bytes[70] ^= 4;
        }
        Verdict::Deliver
    });
    world.send(0, ours, b"changed on its way");
    world.run_dry();
    assert_eq!(world.hosts[1].endpoint.counters().drops.not_authentic, 1);
    assert_eq!(world.hosts[1].inbox[0].2, b"changed on its way");
}

/// An initiator whose op waits long for its reply can ask whether the target still knows of it.
#[test]
fn a_probe_finds_out_that_the_target_has_restarted() {
    let config = Config::default();
    let mut world = World::pair(12, &config);
    let (ours, _) = world.open();
    world.send(0, ours, b"acknowledged, and then forgotten");
    world.run_dry();
    world.hosts[1].endpoint = nic_transport::Endpoint::new(config, 0, 999, 2).unwrap();
    world.run_for(Span::from_ms(5_000));
    assert_eq!(world.hosts[0].events.len(), 1, "nothing is unacknowledged");
    let (now, mut bytes) = (world.now, vec![0; 64]);
    let flow = world.hosts[0].endpoint.flow_mut(ours).unwrap();
    flow.write_probe(now, &mut bytes, &mut Crc);
    world.inject(Datagram { from: address(0), to: address(1), bytes });
    world.run_dry();
    let reason = CloseReason::ResetByPeer(ResetReason::UnknownFlow);
    assert_eq!(world.hosts[0].events[1], closed(ours, reason));
}

/// Handles of removed flows find nothing, though their slots are used again.
#[test]
fn old_handles_are_harmless() {
    let config = Config { flows_max: 1, ..Config::default() };
    let mut world = World::pair(11, &config);
    let (old, _) = world.open();
    let host = &mut world.hosts[0];
    host.endpoint.remove(old, &mut host.pool);
    world.run_dry();
    let (new, _) = world.open();
    assert_eq!(new.slot(), old.slot());
    let host = &mut world.hosts[0];
    assert!(host.endpoint.flow(old).is_none() && host.endpoint.flow_mut(old).is_none());
    assert_eq!(host.endpoint.iter().map(|entry| entry.0).collect::<Vec<_>>(), [new]);
    host.endpoint.close(old, ResetReason::Closing);
    host.endpoint.remove(old, &mut host.pool);
    assert!(host.endpoint.flow(new).unwrap().is_open());
}
