//! Engines die and come back.

use nic_engine::engine::EngineConfig;
use nic_kernels::Access;
use nic_ports::sim::SimConfig;
use nic_tests::{Ask, Done, World, small_engine, small_session};
use nic_wire::{Fate, Span, Status};

use crate::{Pair, session_of};

#[test]
fn a_new_incarnation_knows_nothing_of_old_ops() {
    let mut pair = Pair::new(World::new(1), 4096, session_of(16, 4096));
    assert!(pair.world.run(&mut pair.session, &Ask::fetch_add(pair.remote, 0, 1)).is_ok());
    pair.world.restart(pair.target, small_engine());
    let long = Span::from_ms(10_000);
    let write = pair.session.submit(&Ask::fetch_add(pair.remote, 0, 1).within(long));
    let read = pair.session.submit(&Ask::read(pair.remote, 0, 8).within(long));
    let done = pair.world.wait(&mut pair.session);
    let ended = |token| done.iter().find(|done: &&Done| done.token == token).unwrap().ended();
    assert_eq!(ended(write), (Status::PeerLost, Fate::Unknown));
    assert_eq!(ended(read), (Status::PeerLost, Fate::NotExecuted));
    assert!(
        done.iter().all(|done| done.total_delay_ns < 1_000_000),
        "a reset tells at once, no time-out is waited for"
    );

    // The old rkey is void: the flow is opened anew, and the op is refused.
    let done = pair.world.run(&mut pair.session, &Ask::fetch_add(pair.remote, 0, 1));
    assert_eq!(done.fate, Fate::NotExecuted);
    assert!(matches!(done.status, Status::BadRkey | Status::Revoked), "{}", done.status);

    // A new export, a new way.
    let owner = pair.world.add_client(pair.target);
    let (memory, rkey) = pair.world.exported_region(pair.target, owner, 4096, Access::all());
    let remote = pair.world.connect(&pair.session, pair.target, rkey);
    assert!(pair.world.run(&mut pair.session, &Ask::fetch_add(remote, 0, 5)).is_ok());
    assert_eq!((memory.load64(0).unwrap(), pair.word(0)), (5, 1));
    assert_eq!(pair.world.counters(pair.initiator).flows, 1, "the old flow is gone");
}

#[test]
fn ops_out_at_the_moment_of_death() {
    let mut network = SimConfig::default();
    network.link.bytes_per_second = Some(1_000_000_000);
    let mut pair = Pair::new(World::with_network(2, network), 1 << 20, session_of(16, 64 << 10));
    for op in 0..12u64 {
        let ask = match op % 3 {
            0 => Ask::read(pair.remote, 0, 60_000),
            1 => Ask::write(pair.remote, 0, &[1; 60_000]),
            _ => Ask::fetch_add(pair.remote, 1 << 19, 1),
        };
        pair.session.submit(&ask.within(Span::from_ms(8_000)));
    }
    // Some have run, some are on their way.
    pair.world.run_for(Span::from_us(100));
    pair.world.kill(pair.target);
    let done = pair.world.wait(&mut pair.session);
    assert_eq!(done.len(), 12);
    for done in &done {
        let is_read = !done.reply.is_empty();
        match done.ended() {
            (Status::Ok, Fate::Executed) => {}
            (Status::PeerLost, Fate::Unknown) => assert!(!is_read),
            (Status::PeerLost, Fate::NotExecuted) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(done.iter().any(|done| done.status == Status::PeerLost), "not all had answered");
    assert_eq!(pair.world.counters(pair.initiator).ops_out, 0);
}

/// The initiator dies with ops out; its successor at the same address is served, and the target
/// keeps nothing of the former.
#[test]
fn a_new_incarnation_of_the_initiator() {
    let mut pair = Pair::new(World::new(3), 1 << 20, session_of(16, 64 << 10));
    for round in 1..=20u64 {
        for _ in 0..4 {
            pair.session.submit(&Ask::write(pair.remote, 4096, &[1; 60_000]));
            pair.session.submit(&Ask::read(pair.remote, 4096, 60_000));
        }
        pair.world.run_for(Span::from_us(15 + round));
        pair.world.restart(pair.initiator, small_engine());
        let client = pair.world.add_client(pair.initiator);
        pair.session = pair.world.open_session(pair.initiator, client, session_of(16, 64 << 10));
        pair.remote = pair.world.connect(&pair.session, pair.target, pair.rkey);
        let done = pair.world.run(&mut pair.session, &Ask::fetch_add(pair.remote, 0, 1));
        assert!(done.is_ok(), "round {round}: {:?}", done.ended());
        assert_eq!(done.word(), round - 1);
    }
    // What the dead left half done ends by its deadline of one second at the latest.
    pair.world.run_for(Span::from_ms(3_000));
    let target = pair.world.counters(pair.target);
    assert_eq!(target.ops_in, 0);
    assert!(target.flows <= 8, "{} flows", target.flows);
}

/// Flows' slots are used again for flows of the other direction: an op never takes the wrong one.
#[test]
fn ways_survive_the_reuse_of_flow_slots() {
    let four = EngineConfig { flows: 4, ..small_engine() };
    let mut world = World::new(4);
    let (left, right) = (world.add_host_with(four), world.add_host());
    let (third, fourth) = (world.add_host(), world.add_host());
    let mut pair = Pair::of(world, left, right, 4096, small_session());
    let owner = pair.world.add_client(left);
    let (_, back_rkey) = pair.world.exported_region(left, owner, 4096, Access::all());
    let mut ways = Vec::new();
    for host in [third, fourth] {
        let owner = pair.world.add_client(host);
        let (_, rkey) = pair.world.exported_region(host, owner, 4096, Access::all());
        ways.push(pair.world.connect(&pair.session, host, rkey));
    }
    // Two incarnations of the right engine open flows to the left one: the first takes the last
    // slot that was never used, the second that of the left engine's own flow, which has ended.
    for _ in 0..2 {
        pair.world.restart(right, small_engine());
        let lost = pair.world.run(&mut pair.session, &Ask::read(ways[0], 0, 8));
        assert!(lost.is_ok());
        if pair.world.counters(left).flows_lost == 0 {
            let lost = pair.world.run(&mut pair.session, &Ask::read(pair.remote, 0, 8));
            assert_eq!(lost.ended(), (Status::PeerLost, Fate::NotExecuted));
        }
        let mut back = pair.world.add_session(right, small_session());
        let way = pair.world.connect(&back, left, back_rkey);
        assert!(pair.world.run(&mut back, &Ask::fetch_add(way, 0, 1)).is_ok());
    }
    assert_eq!(pair.world.counters(left).flows, 4, "all slots are taken");
    let done = pair.world.run(&mut pair.session, &Ask::read(pair.remote, 0, 8));
    assert_eq!(done.ended(), (Status::Busy, Fate::NotExecuted));

    // The fourth engine dies, and its slot becomes free.
    pair.world.kill(fourth);
    let long = Span::from_ms(10_000);
    let lost = pair.world.run(&mut pair.session, &Ask::read(ways[1], 0, 8).within(long));
    assert_eq!(lost.status, Status::PeerLost);
    let soon = Span::from_ms(50);
    let done = pair.world.run(&mut pair.session, &Ask::read(pair.remote, 0, 8).within(soon));
    assert_eq!(done.ended(), (Status::BadRkey, Fate::NotExecuted), "it reached the right engine");
}

/// Nobody tells an engine that its initiators are dead; their flows make room for others.
#[test]
fn flows_of_the_dead_make_room() {
    let four = || EngineConfig { flows: 4, ..small_engine() };
    let mut pair = {
        let mut world = World::new(5);
        let (left, right) = (world.add_host(), world.add_host_with(four()));
        Pair::of(world, left, right, 4096, small_session())
    };
    for _ in 0..3 {
        let host = pair.world.add_host();
        let mut session = pair.world.add_session(host, small_session());
        let remote = pair.world.connect(&session, pair.target, pair.rkey);
        assert!(pair.world.run(&mut session, &Ask::fetch_add(remote, 0, 1)).is_ok());
        // With nothing left to be acknowledged no timer ends the flow.
        pair.world.run_for(Span::from_ms(1));
        pair.world.kill(host);
    }
    let host = pair.world.add_host();
    let session = pair.world.add_session(host, small_session());
    let work = |world: &World| world.connect_work(&session, pair.target, pair.rkey);
    let refusal = pair.world.refused(host, work(&pair.world));
    assert!(refusal.reason.contains("NoRoom"), "{}", refusal.reason);
    pair.world.run_for(Span::from_ms(61_000));
    // The target itself opens a flow: the first attempt makes room, the next one finds it.
    let third = pair.world.add_host();
    let owner = pair.world.add_client(third);
    let (_, rkey) = pair.world.exported_region(third, owner, 4096, Access::all());
    let mut own = pair.world.add_session(pair.target, small_session());
    let work = pair.world.connect_work(&own, third, rkey);
    assert_eq!(pair.world.refused(pair.target, work).status, Status::Busy);
    pair.world.run_for(Span::from_ms(1));
    let remote = pair.world.connect(&own, third, rkey);
    pair.world.connect(&session, pair.target, pair.rkey);
    assert!(pair.world.run(&mut own, &Ask::fetch_add(remote, 0, 1)).is_ok());
}
