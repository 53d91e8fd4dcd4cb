//! Opening and closing flows, with packets lost, repeated, forged and misrouted.
// The functions that tests share fail by panicking, too.
#![allow(clippy::unwrap_used)]

mod world;

use nic_transport::{
    CloseReason, Config, ConnectError, ConnectFailure, DropReason, FlowEvent, Handled, Role,
};
use nic_wire::handshake::{Init, MAX_VERSIONS, Reset, ResetReason, Versions};
use nic_wire::packet::{HEADER_BYTES, PacketHeader, PacketKind};
use nic_wire::{ConnectionId, Span, WIRE_VERSION};
use world::{Datagram, Verdict, World, address};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

fn versions(list: &[u8]) -> [u8; MAX_VERSIONS] {
    let mut versions = [0; MAX_VERSIONS];
    versions[..list.len()].copy_from_slice(list);
    versions
}

fn speaking(list: &[u8]) -> Config {
    Config { versions: versions(list), ..Config::default() }
}

fn packet(
    from: usize,
    to: usize,
    kind: PacketKind,
    connection: ConnectionId,
    body: &[u8],
) -> Datagram {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes.extend_from_slice(body);
    PacketHeader::new(kind, connection).write(&mut bytes);
    let mut datagram = Datagram { from: address(from), to: address(to), bytes };
    datagram.forge(|_| {});
    datagram
}

fn reset(from: usize, to: usize, connection: ConnectionId, answered: ConnectionId) -> Datagram {
    let mut body = Reset::new_zeroed();
    body.answered_id = answered.raw().into();
    body.reason = (ResetReason::Closing as u16).into();
    packet(from, to, PacketKind::Reset, connection, body.as_bytes())
}

fn init_of(datagram: &Datagram) -> Init {
    Init::read_from_prefix(&datagram.bytes[HEADER_BYTES..]).unwrap().0
}

/// The first packet of a kind that was sent.
fn first(world: &World, kind: PacketKind) -> Datagram {
    world.log.iter().map(|entry| &entry.1).find(|d| d.is(kind)).unwrap().clone()
}

fn last_event(world: &World, host: usize) -> FlowEvent {
    *world.hosts[host].events.last().expect("an event")
}

#[test]
fn four_packets_open_a_flow() {
    let config = Config { op_credits: 11, reply_credits_kib: 22, ..Config::default() };
    let mut world = World::pair(1, &config);
    let (initiator, target) = world.open();
    let kinds: Vec<_> = world.log.iter().map(|entry| entry.1.kind().unwrap()).collect();
    use PacketKind::{Accept, Init, Retry};
    assert_eq!(kinds, [Init, Retry, Init, Accept]);
    // No answer to an unproven address is longer than its question.
    assert!(world.log[1].1.bytes.len() <= world.log[0].1.bytes.len());
    let ours = world.hosts[0].endpoint.flow(initiator).unwrap();
    let theirs = world.hosts[1].endpoint.flow(target).unwrap();
    assert_eq!((ours.role(), theirs.role()), (Role::Initiator, Role::Target));
    assert_eq!((ours.local_id(), ours.remote_id()), (theirs.remote_id(), theirs.local_id()));
    assert_eq!((ours.peer(), theirs.peer()), (address(1), address(0)));
    assert_eq!((ours.peer_incarnation(), theirs.peer_incarnation()), (8, 7));
    assert_eq!((ours.version(), theirs.version()), (WIRE_VERSION, WIRE_VERSION));
    assert_eq!((ours.credits(), theirs.credits()), ((11, 22), (0, 0)));
    // The handshake measured the round trip; INIT's interval of the world is 10 us each way.
    assert_eq!(ours.rtt(), Some(Span::from_us(20)));
    // Nothing is outstanding: no timer, no packet.
    let packets = world.log.len();
    world.run_dry();
    assert_eq!(world.log.len(), packets);
    world.tear_down();
}

#[test]
fn any_lost_packet_is_made_up_for() {
    for lost in 0..4 {
        let mut world = World::pair(2, &Config::default());
        world.script(move |index, _| if index == lost { Verdict::Drop } else { Verdict::Deliver });
        let (_, target) = world.open();
        assert!(world.log.len() > 4, "lost {lost}");
        assert_eq!(world.hosts[1].endpoint.flows(), 1);
        let opened = FlowEvent::Opened { flow: target, role: Role::Target };
        assert_eq!(world.hosts[1].events, [opened], "opened once");
        world.run_dry();
        world.tear_down();
    }
}

#[test]
fn repeated_packets_change_nothing() {
    let mut world = World::pair(3, &Config::default());
    world.script(|_, _| Verdict::Twice);
    world.open();
    world.run_dry();
    assert_eq!((world.hosts[0].events.len(), world.hosts[1].events.len()), (1, 1));
    assert_eq!((world.hosts[0].endpoint.flows(), world.hosts[1].endpoint.flows()), (1, 1));
    assert!(world.hosts[1].endpoint.counters().endpoint.duplicate_inits >= 1);
    let accepts: Vec<_> = world.log.iter().filter(|e| e.1.is(PacketKind::Accept)).collect();
    assert!(accepts.len() >= 2, "the answer is repeated");
    assert!(accepts.iter().all(|accept| accept.1 == accepts[0].1), "and is the same");
}

/// The same initiator, address and cookie, but another offer: not the INIT that was acted on.
#[test]
fn an_init_that_contradicts_the_first_is_stale() {
    let mut world = World::pair(20, &Config::default());
    world.open();
    let mut other = world.log[2].1.clone();
    other.forge(|bytes| bytes[HEADER_BYTES + 40] ^= 1);
    let sent = world.log.len();
    world.deliver(&other);
    world.run_dry();
    let stale = Handled::Dropped(DropReason::StaleHandshake);
    assert_eq!(world.hosts[1].handled.last(), Some(&stale));
    assert_eq!((world.log.len(), world.hosts[1].endpoint.flows()), (sent, 1));
}

#[test]
fn slots_are_used_again_and_again() {
    let config = Config { flows_max: 2, ..Config::default() };
    let mut world = World::pair(21, &config);
    for round in 1..=50 {
        let (ours, _) = world.open();
        world.send(0, ours, b"hello");
        world.run_until(|world| world.hosts[1].inbox.len() == round);
        let host = &mut world.hosts[0];
        host.endpoint.remove(ours, &mut host.pool);
        world.run_dry();
        assert_eq!(world.hosts[1].endpoint.flows(), 0, "the RESET freed it");
    }
    world.tear_down();
}

#[test]
fn the_smaller_packet_size_holds() {
    let small = Config { packet_bytes: 600, ..Config::default() };
    for configs in [[small.clone(), Config::default()], [Config::default(), small]] {
        let mut world = World::of(22, &configs);
        let (ours, theirs) = world.open();
        for (host, flow) in [(0, ours), (1, theirs)] {
            let flow = world.hosts[host].endpoint.flow(flow).unwrap();
            assert_eq!(flow.packet_bytes(), 600);
            assert!(flow.may_send(600) && !flow.may_send(601));
        }
    }
}

#[test]
fn unproven_addresses_leave_no_state() {
    let mut world = World::pair(4, &Config::default());
    world.open();
    let genuine = world.log[2].1.clone();
    let cookie = init_of(&genuine).cookie;
    let mut bad = genuine.clone();
    bad.forge(|bytes| bytes[HEADER_BYTES + 8] ^= 1);
    // The right cookie, from another host.
    let stolen = Datagram { from: address(7), ..genuine.clone() };
    // The right cookie, with another id.
    let mut other_id = genuine.clone();
    other_id.forge(|bytes| bytes[HEADER_BYTES + 3] ^= 1);
    for forged in [bad, stolen, other_id] {
        let (flows, sent) = (world.hosts[1].endpoint.flows(), world.log.len());
        world.deliver(&forged);
        world.settle();
        assert_eq!(world.hosts[1].endpoint.flows(), flows);
        assert!(world.log[sent].1.is(PacketKind::Retry));
        assert_eq!(world.log[sent].1.to, forged.from);
    }
    // An old cookie, for an initiator that is not known (any more).
    let flow = world.opened(1).unwrap();
    let host = &mut world.hosts[1];
    host.endpoint.remove(flow, &mut host.pool);
    world.run_for(world.hosts[1].endpoint.config().cookie_epoch.times(2));
    world.deliver(&genuine);
    world.settle();
    let answer = &world.log.last().unwrap().1;
    assert!(answer.is(PacketKind::Retry) && answer.bytes[HEADER_BYTES..] != cookie);
    assert_eq!(world.hosts[1].endpoint.flows(), 0);
}

#[test]
fn no_version_in_common_is_a_typed_failure_on_both_sides() {
    // In a format that the target knows, and in one that it does not.
    for (ours, theirs) in [(&[1u8][..], &[3u8, 2][..]), (&[3, 2], &[1])] {
        let mut world = World::of(5, &[speaking(ours), speaking(theirs)]);
        let flow = world.connect(0, 1);
        world.run_dry();
        let failure =
            ConnectFailure::VersionMismatch { ours: versions(ours), theirs: versions(theirs) };
        assert_eq!(world.hosts[0].events, [FlowEvent::Failed { flow, failure }]);
        assert_eq!(world.hosts[0].endpoint.counters().endpoint.version_mismatches, 1);
        assert_eq!(world.hosts[1].endpoint.counters().endpoint.version_mismatches, 1);
        assert_eq!(world.hosts[1].endpoint.flows(), 0);
        assert!(failure.to_string().contains("upgrade"));
        world.tear_down();
    }
}

#[test]
fn the_highest_common_version_is_chosen() {
    let [this, next] = [WIRE_VERSION, WIRE_VERSION + 1];
    let others = [next + 2, next + 1].map(|highest| speaking(&[highest, next, this]));
    let mut world = World::of(6, &others);
    let (ours, theirs) = world.open();
    assert_eq!(world.hosts[0].endpoint.flow(ours).unwrap().version(), next);
    assert_eq!(world.hosts[1].endpoint.flow(theirs).unwrap().version(), next);
}

#[test]
fn a_tampered_offer_is_noticed() {
    let mut world = World::pair(7, &speaking(&[WIRE_VERSION + 1, WIRE_VERSION]));
    world.script(|_, datagram| {
        if datagram.is(PacketKind::Init) {
            let mut init = init_of(datagram);
            init.versions = versions(&[WIRE_VERSION]);
            datagram.forge(|bytes| bytes[HEADER_BYTES..].copy_from_slice(init.as_bytes()));
        }
        Verdict::Deliver
    });
    let flow = world.connect(0, 1);
    world.run_dry();
    let failure = ConnectFailure::Downgrade;
    assert_eq!(last_event(&world, 0), FlowEvent::Failed { flow, failure });
    // The target is told that nobody will use its flow.
    let reason = CloseReason::ResetByPeer(ResetReason::UnknownFlow);
    assert!(matches!(last_event(&world, 1), FlowEvent::Closed { reason: r, .. } if r == reason));
    assert_eq!(world.hosts[1].endpoint.flows(), 0);
}

#[test]
fn version_lists_are_believed_only_from_the_target() {
    let mut world = World::pair(8, &Config::default());
    world.hosts[1].dead = true;
    let flow = world.connect(0, 1);
    world.settle();
    let id = world.hosts[0].endpoint.flow(flow).unwrap().local_id();
    let answer = |from, connection: ConnectionId, named: ConnectionId, list: &[u8]| {
        let body = Versions { initiator_id: named.raw().into(), versions: versions(list) };
        packet(from, 0, PacketKind::Versions, connection, body.as_bytes())
    };
    let guess = ConnectionId::new(0, id.slot(), 12345);
    for forged in
        [answer(1, guess, guess, &[9]), answer(1, id, guess, &[9]), answer(5, id, id, &[9])]
    {
        world.deliver(&forged);
        world.settle();
        assert_eq!(world.hosts[0].events, [], "{forged:?}");
    }
    // One that lists what was offered tells of an offer that was changed on its way.
    world.deliver(&answer(1, id, id, &[9, WIRE_VERSION]));
    world.settle();
    let failure = ConnectFailure::Downgrade;
    assert_eq!(world.hosts[0].events, [FlowEvent::Failed { flow, failure }]);
}

#[test]
fn resets_are_believed_only_from_the_peer() {
    let mut world = World::pair(9, &Config::default());
    let (ours, theirs) = world.open();
    let flow = world.hosts[0].endpoint.flow(ours).unwrap();
    let (local, remote) = (flow.local_id(), flow.remote_id());
    let guess = ConnectionId::new(0, remote.slot(), 999);
    for forged in [
        reset(1, 0, local, guess),
        reset(1, 0, ConnectionId::NONE, guess),
        reset(5, 0, local, remote),
        reset(5, 0, ConnectionId::NONE, remote),
        reset(1, 0, guess, remote),
        reset(1, 0, local, local),
    ] {
        world.deliver(&forged);
        world.settle();
        let dropped = Handled::Dropped(DropReason::UnbelievableReset);
        assert_eq!(world.hosts[0].handled.last(), Some(&dropped), "{forged:?}");
        assert!(world.hosts[0].endpoint.flow(ours).unwrap().is_open());
    }
    assert_eq!(world.hosts[0].endpoint.counters().drops.unbelievable_reset, 6);
    // With our id, and as a peer that has forgotten it.
    world.deliver(&reset(1, 0, local, remote));
    world.deliver(&reset(0, 1, ConnectionId::NONE, local));
    world.settle();
    let reason = CloseReason::ResetByPeer(ResetReason::Closing);
    assert_eq!(last_event(&world, 0), FlowEvent::Closed { flow: ours, reason });
    assert_eq!(last_event(&world, 1), FlowEvent::Closed { flow: theirs, reason });
    world.tear_down();
}

#[test]
fn closing_tells_the_peer() {
    let mut world = World::pair(10, &Config::default());
    let (ours, theirs) = world.open();
    world.send(0, ours, b"unacknowledged");
    world.settle();
    let host = &mut world.hosts[0];
    assert_eq!(host.pool.in_use(), 1);
    host.endpoint.close(ours, ResetReason::Violation);
    assert!(!host.endpoint.flow(ours).unwrap().is_open());
    host.endpoint.remove(ours, &mut host.pool);
    assert_eq!((host.pool.in_use(), host.endpoint.flow(ours).is_none()), (0, true));
    world.run_dry();
    let reason = CloseReason::ResetByPeer(ResetReason::Violation);
    assert_eq!(last_event(&world, 1), FlowEvent::Closed { flow: theirs, reason });
    assert_eq!(world.hosts[0].events.len(), 1, "who closes needs no event");
    world.tear_down();
}

#[test]
fn nobody_there_is_unreachable_in_bounded_time() {
    let config = Config::default();
    let mut world = World::pair(11, &config);
    world.hosts[1].dead = true;
    let (start, flow) = (world.now, world.connect(0, 1));
    world.run_dry();
    let failure = ConnectFailure::Unreachable;
    assert_eq!(world.hosts[0].events, [FlowEvent::Failed { flow, failure }]);
    assert_eq!(world.now.since(start), config.connect_timeout);
    assert!((8..25).contains(&world.log.len()), "{} INITs", world.log.len());
    world.tear_down();
}

#[test]
fn addresses_that_cannot_be_sent_to_are_refused() {
    let mut world = World::pair(12, &Config { flows_max: 1, ..Config::default() });
    let now = world.now;
    let endpoint = &mut world.hosts[0].endpoint;
    for text in ["0.0.0.0:5", "10.0.0.1:0", "[::]:9"] {
        let to = text.parse().unwrap();
        assert_eq!(endpoint.connect(now, to, None), Err(ConnectError::NoAddress { to }));
    }
    endpoint.connect(now, address(1), None).unwrap();
    let full = Err(ConnectError::NoRoom { flows_max: 1 });
    assert_eq!(endpoint.connect(now, address(1), None), full);
}

#[test]
fn a_full_target_refuses_and_reclaims_the_dead() {
    let small = Config { flows_max: 2, ..Config::default() };
    let mut world = World::of(13, &[Config::default(), small]);
    world.connect(0, 1);
    world.connect(0, 1);
    world.run_dry();
    let third = world.connect(0, 1);
    world.run_dry();
    let failure = ConnectFailure::Refused(ResetReason::NoRoom);
    assert_eq!(last_event(&world, 0), FlowEvent::Failed { flow: third, failure });
    // After a long silence the target takes back what nobody uses.
    world.run_for(Span::from_ms(61_000));
    let fourth = world.connect(0, 1);
    world.run_until(|world| world.opened(0) == Some(fourth));
    assert_eq!(world.hosts[1].endpoint.counters().endpoint.abandoned, 1);
    assert_eq!(world.hosts[1].endpoint.flows(), 2);
    world.run_dry();
    world.tear_down();
}

#[test]
fn the_engine_says_its_own_port() {
    // Host 1 is told that its engine's port is that of nobody: data packets go there.
    let elsewhere = Config { port: 4555, ..Config::default() };
    let mut world = World::of(14, &[Config::default(), elsewhere]);
    let (ours, _) = world.open();
    let mut expected = address(1);
    expected.set_port(4555);
    assert_eq!(world.hosts[0].endpoint.flow(ours).unwrap().peer(), expected);
    world.send(0, ours, b"hello");
    world.settle();
    assert_eq!(world.log.last().unwrap().1.to, expected);
}

#[test]
fn packets_of_other_engines_are_passed_on() {
    let mut world = World::pair(15, &Config::default());
    let now = world.now;
    world.hosts[0].endpoint.connect(now, address(1), Some(3)).unwrap();
    world.run_for(Span::from_us(15));
    assert_eq!(world.hosts[1].handled, [Handled::Foreign { engine: 3 }]);
    assert_eq!(world.hosts[1].endpoint.flows(), 0);
    for kind in [PacketKind::Data, PacketKind::Accept, PacketKind::Reset, PacketKind::Retry] {
        world.deliver(&packet(0, 1, kind, ConnectionId::new(9, 0, 5), &[0; 64]));
        assert_eq!(world.hosts[1].handled.last(), Some(&Handled::Foreign { engine: 9 }));
    }
    assert_eq!(world.hosts[1].endpoint.counters().endpoint.foreign, 5);
    // Its own number is not foreign.
    world.hosts[0].endpoint.connect(now, address(1), Some(0)).unwrap();
    world.run_for(Span::from_ms(1));
    assert_eq!(world.hosts[1].endpoint.flows(), 1);
}

#[test]
fn an_accept_that_nobody_waits_for_is_rejected() {
    let mut world = World::pair(16, &Config::default());
    world.script(|_, datagram| {
        if datagram.is(PacketKind::Accept) {
            Verdict::Late(Span::from_ms(4))
        } else {
            Verdict::Deliver
        }
    });
    let flow = world.connect(0, 1);
    world.run_until(|world| world.hosts[1].endpoint.flows() == 1);
    let host = &mut world.hosts[0];
    host.endpoint.remove(flow, &mut host.pool);
    world.run_dry();
    assert_eq!(world.hosts[0].events, []);
    let reason = CloseReason::ResetByPeer(ResetReason::UnknownFlow);
    assert!(matches!(last_event(&world, 1), FlowEvent::Closed { reason: r, .. } if r == reason));
    // Repeated for an open flow it is harmless.
    let mut world = World::pair(17, &Config::default());
    let (ours, _) = world.open();
    let accept = first(&world, PacketKind::Accept);
    world.deliver(&accept);
    assert_eq!(world.hosts[0].handled.last(), Some(&Handled::Control));
    // A second target flow for the same initiator is not.
    let mut other = accept.clone();
    other.forge(|bytes| bytes[HEADER_BYTES + 5] ^= 1);
    world.deliver(&other);
    world.settle();
    assert!(world.log.last().unwrap().1.is(PacketKind::Reset));
    assert!(world.hosts[0].endpoint.flow(ours).unwrap().is_open());
}

#[test]
fn senseless_offers_are_malformed() {
    let mut world = World::pair(18, &Config::default());
    world.open();
    let genuine = world.log[2].1.clone();
    let malformed = Handled::Dropped(DropReason::Malformed);
    for (place, bytes) in [
        (0usize, &[0u8; 8][..]), // no id
        (32, &[0xff; 8][..]),    // numbers that would overflow
        (44, &[16, 0][..]),      // packets too small for any op
        (46, &[0x34, 0x12][..]), // an engine that cannot be
    ] {
        let mut bad = genuine.clone();
        bad.forge(|packet| {
            packet[HEADER_BYTES + place..][..bytes.len()].copy_from_slice(bytes);
        });
        world.deliver(&bad);
        assert_eq!(world.hosts[1].handled.last(), Some(&malformed), "at {place}");
    }
    let mut short = genuine.clone();
    short.forge(|packet| packet.truncate(HEADER_BYTES + 63));
    world.deliver(&short);
    assert_eq!(world.hosts[1].handled.last(), Some(&malformed));
    assert_eq!(world.hosts[1].endpoint.flows(), 1);
}

/// A flood of INITs from everywhere neither grows the target nor keeps it from answering others.
#[test]
fn floods_are_bounded() {
    let config = Config { control_max: 16, ..Config::default() };
    let mut world = World::pair(19, &config);
    let (ours, theirs) = world.open();
    let genuine = world.log[0].1.clone();
    for port in 1..=1000 {
        let mut from = address(8);
        from.set_port(port);
        world.deliver(&Datagram { from, ..genuine.clone() });
    }
    assert_eq!(world.hosts[1].endpoint.flows(), 1);
    assert_eq!(world.hosts[1].endpoint.counters().endpoint.control_overflows, 1000 - 8);
    // The half that is kept free serves flows that exist.
    world.hosts[1].endpoint.close(theirs, ResetReason::Closing);
    world.run_for(Span::from_us(15));
    let reason = CloseReason::ResetByPeer(ResetReason::Closing);
    assert_eq!(last_event(&world, 0), FlowEvent::Closed { flow: ours, reason });
}
