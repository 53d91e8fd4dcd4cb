//! Sessions that share an engine and a flow: none waits for what another has piled up.

use nic_engine::engine::{EngineConfig, Work};
use nic_kernels::{Access, traverse};
use nic_ports::PoolConfig;
use nic_ports::sim::SimConfig;
use nic_shm::RacyMem;
use nic_tests::{AppSession, Ask, Done, World, small_engine};
use nic_wire::session::Geometry;
use nic_wire::{Fate, KernelId, Span, Status};

use crate::{Pair, session_of};

const SERVICE: u16 = 3;

/// Ten ops of a polite session, one after the other, beside `greedy` that another has submitted
/// before: how many of the greedy ones end meanwhile.
fn greedy_ops_beside(greedy: &Ask, count: u32, piece_bytes: u32) -> usize {
    let few = EngineConfig { op_credits: 64, ops_out: 2048, ..small_engine() };
    let mut world = World::new(11);
    let (initiator, target) = (world.add_host_with(few.clone()), world.add_host_with(few));
    let geometry = session_of(count, piece_bytes);
    let mut pair = Pair::of(world, initiator, target, 64 << 10, geometry);
    let mut polite = pair.world.add_session(initiator, session_of(2, 4096));
    let remote = pair.world.connect(&polite, target, pair.rkey);
    for _ in 0..count {
        pair.session.submit(greedy);
    }
    for _ in 0..10 {
        let done = pair.world.run(&mut polite, &Ask::read(remote, 0, 64));
        assert!(done.is_ok(), "{:?}", done.ended());
    }
    let ended = pair.session.poll().len();
    assert!(pair.world.wait(&mut pair.session).iter().all(Done::is_ok));
    ended
}

#[test]
fn long_reads_of_another_session_are_not_waited_for() {
    let ended = greedy_ops_beside(&Ask::read(0, 0, 64 << 10), 64, 64 << 10);
    assert!(ended <= 16, "{ended} long ones ended before ten short ones");
}

#[test]
fn long_writes_of_another_session_are_not_waited_for() {
    let payload = vec![7; 60 << 10];
    let ended = greedy_ops_beside(&Ask::write(0, 0, &payload), 64, 64 << 10);
    assert!(ended <= 16, "{ended} long ones ended before ten short ones");
}

#[test]
fn a_crowd_of_short_ops_of_another_session_is_not_waited_for() {
    let ended = greedy_ops_beside(&Ask::read(0, 0, 64), 1024, 4096);
    // Each polite op takes one or two round trips, in each of which a few others may go.
    assert!(ended <= 640, "{ended} of a crowd ended before ten of a polite session");
}

/// Short replies that fill the window at every moment leave a part of it to long ones.
#[test]
fn long_replies_leave_beside_endless_short_ones() {
    let mut world = World::new(15);
    let narrow = EngineConfig { congestion_window_bytes: 40 << 10, ..small_engine() };
    let (initiator, target) = (world.add_host(), world.add_host_with(narrow));
    let mut pair = Pair::of(world, initiator, target, 64 << 10, session_of(512, 1024));
    let mut other = pair.world.add_session(pair.initiator, session_of(8, 4096));
    let remote = pair.world.connect(&other, pair.target, pair.rkey);
    let end = pair.world.now() + Span::from_ms(50);
    let mut most_waiting = 0_u64;
    while pair.world.now() < end && (other.out() > 0 || most_waiting == 0) {
        while pair.session.has_room() {
            pair.session.submit(&Ask::read(pair.remote, 0, 1024));
        }
        pair.world.step();
        assert!(pair.session.poll().iter().all(Done::is_ok));
        let waiting = pair.world.counters(pair.target).ops_in;
        if most_waiting == 0 && waiting > 200 {
            most_waiting = waiting;
            // So many at once are not polite.
            for _ in 0..8 {
                other.submit(&Ask::read(remote, 0, 4096));
            }
        }
        assert!(other.poll().iter().all(Done::is_ok));
    }
    assert!(most_waiting > 200, "the window is no bottleneck");
    assert_eq!(other.out(), 0, "long replies still wait");
}

/// A peer with hundreds of ops out has fewer while another asks for one at a time, and all again after.
#[test]
fn a_crowd_of_ops_of_another_peer_is_not_waited_for() {
    let mut pair = Pair::new(World::new(14), 4096, session_of(512, 4096));
    let host = pair.world.add_host();
    let mut polite = pair.world.add_session(host, session_of(2, 4096));
    let remote = pair.world.connect(&polite, pair.target, pair.rkey);
    let mut most_out = |pair: &mut Pair, is_beside: bool| {
        let begin = pair.world.now();
        let mut most = 0;
        while pair.world.now() < begin + Span::from_ms(20) {
            while pair.session.has_room() {
                pair.session.submit(&Ask::read(pair.remote, 0, 64));
            }
            if is_beside && polite.has_room() && polite.out() == 0 {
                polite.submit(&Ask::read(remote, 0, 64));
            }
            pair.world.step();
            let done = pair.session.poll().into_iter().chain(polite.poll());
            assert!(done.into_iter().all(|done| done.is_ok()));
            // The first half is for the target to notice.
            if pair.world.now() > begin + Span::from_ms(10) {
                let counters = pair.world.counters(pair.initiator);
                most = most.max(counters.requests_sent - counters.replies_received);
            }
        }
        most
    };
    let alone = most_out(&mut pair, false);
    let beside = most_out(&mut pair, true);
    let again = most_out(&mut pair, false);
    assert_eq!((alone, again), (256, 256), "a lone peer has all credits");
    assert!(beside <= 32, "{beside} ops out beside a polite peer");
}

/// A network whose ports have fewer frames than one flow may have unacknowledged.
fn with_few_frames(seed: u64) -> World {
    let pool = PoolConfig::with_frames(64);
    World::with_network(seed, SimConfig { pool, ..SimConfig::default() })
}

/// Peers that read without end from a target whose frames are few have about as much of them each,
/// and one that asks for little beside them is not starved.
#[test]
fn few_frames_are_shared_by_the_peers_of_a_target() {
    let mut pair = Pair::new(with_few_frames(18), 64 << 10, session_of(16, 16 << 10));
    let mut peers = Vec::new();
    for _ in 0..5 {
        let host = pair.world.add_host();
        let session = pair.world.add_session(host, session_of(16, 16 << 10));
        let remote = pair.world.connect(&session, pair.target, pair.rkey);
        peers.push((session, remote));
    }
    let mut polite = pair.session;
    let mut run = |world: &mut World, is_asked: bool| {
        let (mut done, mut asked) = ([0; 5], 0);
        let end = world.now() + Span::from_ms(50);
        while world.now() < end {
            for (done, (session, remote)) in done.iter_mut().zip(&mut peers) {
                while session.has_room() {
                    session.submit(&Ask::read(*remote, 0, 16 << 10));
                }
                *done += session.poll().iter().filter(|done| done.is_ok()).count();
            }
            if is_asked && polite.out() == 0 {
                polite.submit(&Ask::read(pair.remote, 0, 64));
            }
            world.step();
            asked += polite.poll().iter().filter(|done| done.is_ok()).count();
        }
        let (least, most) = (*done.iter().min().unwrap(), *done.iter().max().unwrap());
        assert!(most <= 2 * least, "ops of each peer: {done:?}");
        (most, asked)
    };
    run(&mut pair.world, false);
    assert!(pair.world.port_counters(pair.target).frames_exhausted > 0, "frames are enough");
    let (most, asked) = run(&mut pair.world, true);
    assert!(asked >= most, "a polite peer has {asked}, another {most}");
}

/// Sessions that write without end to a peer each, through one engine whose frames are few.
#[test]
fn few_frames_are_shared_by_the_targets_of_an_engine() {
    let mut pair = Pair::new(with_few_frames(19), 64 << 10, session_of(16, 16 << 10));
    let payload = vec![7; 16 << 10];
    let mut ways = vec![(pair.session, pair.remote, 0)];
    for _ in 0..5 {
        let host = pair.world.add_host();
        let owner = pair.world.add_client(host);
        let (_, rkey) = pair.world.exported_region(host, owner, 64 << 10, Access::all());
        let session = pair.world.add_session(pair.initiator, session_of(16, 16 << 10));
        let remote = pair.world.connect(&session, host, rkey);
        ways.push((session, remote, 0));
    }
    let end = pair.world.now() + Span::from_ms(100);
    while pair.world.now() < end {
        for (session, remote, done) in &mut ways {
            while session.has_room() {
                session.submit(&Ask::write(*remote, 0, &payload));
            }
            *done += session.poll().iter().filter(|done| done.is_ok()).count();
        }
        pair.world.step();
    }
    let done: Vec<_> = ways.iter().map(|(_, _, done)| *done).collect();
    let (least, most) = (done.iter().min().unwrap(), done.iter().max().unwrap());
    assert!(pair.world.port_counters(pair.initiator).frames_exhausted > 0, "frames are enough");
    assert!(most <= &(2 * least), "ops to each peer: {done:?}");
}

/// A session that fills the engine's table of ops leaves places for others.
#[test]
fn a_full_table_has_places_for_those_who_have_few_ops_out() {
    let mut world = World::new(13);
    let few = EngineConfig { ops_out: 64, ..small_engine() };
    let (initiator, target) = (world.add_host_with(few), world.add_host());
    let mut pair = Pair::of(world, initiator, target, 4096, session_of(128, 64));
    let mut polite = pair.world.add_session(initiator, session_of(2, 64));
    let remote = pair.world.connect(&polite, target, pair.rkey);
    for _ in 0..128 {
        pair.session.submit(&Ask::read(pair.remote, 0, 8));
    }
    polite.submit(&Ask::read(remote, 0, 8));
    assert!(pair.world.wait(&mut polite)[0].is_ok());
    let done = pair.world.wait(&mut pair.session);
    let busy = done.iter().filter(|done| done.ended() == (Status::Busy, Fate::NotExecuted)).count();
    assert_eq!((busy, done.iter().filter(|done| done.is_ok()).count()), (128 - 56, 56));
}

/// An op that waits for earlier ones of its own stream keeps no other session's waiting.
#[test]
fn an_op_that_waits_for_its_stream_holds_up_its_session_alone() {
    let mut pair = Pair::new(World::new(12), 64 << 10, session_of(8, 20_000));
    let geometry = Geometry { receive_buffers: 4, receive_buffer_bytes: 64, ..session_of(4, 4096) };
    let mut server = pair.world.open_session(pair.target, pair.owner, geometry);
    let (client, session) = (pair.owner, server.id);
    pair.world.released(pair.target, Work::Serve { client, session, service: SERVICE });
    let mut other = pair.world.add_session(pair.initiator, session_of(4, 4096));
    let remote = pair.world.connect(&other, pair.target, pair.rkey);

    pair.session.submit(&Ask::call(pair.remote, SERVICE, b"", 0));
    pair.session.submit(&Ask::write(pair.remote, 0, &[1; 20_000]).fenced());
    let call = pair.world.next_call(&mut server);
    for round in 0..20 {
        let done = pair.world.run(&mut other, &Ask::fetch_add(remote, 32 << 10, 1));
        assert_eq!((done.is_ok(), done.word()), (true, round));
    }
    assert_eq!(pair.session.poll().len(), 0, "both still wait");
    server.answer(&call, Status::Ok, b"");
    assert!(pair.world.wait(&mut pair.session).iter().all(Done::is_ok));
    assert_eq!(pair.word(0), 0x0101_0101_0101_0101);
}

/// Calls that are long in answering keep nothing else of their session waiting as long, beside
/// whomever.
#[test]
fn what_is_out_for_long_holds_nothing_up_beside_a_polite_session() {
    let mut pair = Pair::new(World::new(16), 64 << 10, session_of(8, 20_000));
    let geometry = Geometry { receive_buffers: 4, receive_buffer_bytes: 64, ..session_of(4, 4096) };
    let mut server = pair.world.open_session(pair.target, pair.owner, geometry);
    let (client, session) = (pair.owner, server.id);
    pair.world.released(pair.target, Work::Serve { client, session, service: SERVICE });
    let mut polite = pair.world.add_session(pair.initiator, session_of(2, 4096));
    let remote = pair.world.connect(&polite, pair.target, pair.rkey);
    assert!(pair.world.run(&mut polite, &Ask::read(remote, 0, 64)).is_ok());

    pair.session.submit(&Ask::call(pair.remote, SERVICE, b"", 16 << 10));
    let call = pair.world.next_call(&mut server);
    for _ in 0..4 {
        pair.session.submit(&Ask::read(pair.remote, 0, 64));
    }
    let end = pair.world.now() + Span::from_ms(20);
    let mut done = Vec::new();
    while pair.world.now() < end && done.len() < 4 {
        assert!(pair.world.run(&mut polite, &Ask::read(remote, 0, 64)).is_ok());
        done.extend(pair.session.poll());
    }
    assert_eq!(done.len(), 4, "reads that wait for the call");
    server.answer(&call, Status::Ok, b"");
    done.extend(pair.world.wait(&mut pair.session));
    assert!(done.len() == 5 && done.iter().all(Done::is_ok));
}

/// A peer that grants many credits and answers nothing cannot have the whole table of ops.
#[test]
fn a_peer_that_answers_nothing_holds_a_part_of_the_table_at_most() {
    let mut world = World::new(17);
    let own = EngineConfig { op_credits: 32, ops_out: 64, ..small_engine() };
    let (initiator, target) = (world.add_host_with(own), world.add_host());
    let mut pair = Pair::of(world, initiator, target, 4096, session_of(64, 64));
    let geometry =
        Geometry { receive_buffers: 256, receive_buffer_bytes: 64, ..session_of(4, 4096) };
    let server = pair.world.open_session(target, pair.owner, geometry);
    let (client, session) = (pair.owner, server.id);
    pair.world.released(target, Work::Serve { client, session, service: SERVICE });
    for _ in 0..48 {
        pair.session.submit(&Ask::call(pair.remote, SERVICE, b"", 0));
    }
    pair.world.run_for(Span::from_ms(5));
    assert_eq!(pair.world.counters(initiator).requests_sent, 32);
}

/// Hops of a long walk, each of which costs the target at least one unit.
const HOPS: u64 = 60_000;

/// A walk along a list that leads in a circle, of two elements.
fn walk(remote: u16) -> Ask {
    let arguments = traverse::Arguments::list(64, u64::MAX, 8).hops(HOPS as u32);
    Ask::kernel(remote, KernelId::TRAVERSE, &arguments.encode(), 256).within(Span::from_ms(60_000))
}

fn lay_circle(memory: &RacyMem) {
    for (at, next) in [(64, 96_u64), (96, 64)] {
        let element = [7, next, 0].map(u64::to_le_bytes).concat();
        memory.write(at, &element).unwrap();
    }
}

/// Keeps a session full of one kind of op. How many have ended.
fn keep_full(session: &mut AppSession, ask: &Ask) -> u64 {
    while session.has_room() {
        session.submit(ask);
    }
    let done = session.poll();
    let is_well = |done: &Done| matches!(done.status, Status::Ok | Status::Continues);
    assert!(done.iter().all(is_well), "{:?}", done.first().map(Done::ended));
    done.len() as u64
}

/// Of two sessions that walk, by one engine or each by its own, the one with few walks out gets as far
/// as the one with many.
#[test]
fn walkers_share_a_target_whatever_they_have_out() {
    for is_by_one_engine in [true, false] {
        let mut pair = Pair::new(World::new(20), 4096, session_of(128, 1024));
        lay_circle(&pair.memory);
        let host = if is_by_one_engine { pair.initiator } else { pair.world.add_host() };
        let mut other = pair.world.add_session(host, session_of(8, 1024));
        let remote = pair.world.connect(&other, pair.target, pair.rkey);
        let mut ended = keep_full(&mut other, &walk(remote));
        keep_full(&mut pair.session, &walk(pair.remote));
        // Until the target has looked whose walks there are, all of them walk side by side.
        let mut cost_before = 0;
        while ended < 8 {
            let counters = pair.world.counters(pair.target);
            if counters.set_aside == 0 {
                cost_before = counters.executor_cost;
            }
            pair.world.step();
            ended += other.poll().len() as u64;
        }
        let cost = pair.world.counters(pair.target).executor_cost - cost_before;
        let others_cost = ended * HOPS;
        assert!(cost <= 3 * others_cost, "{cost} in all, {others_cost} of the few");
        let all: Vec<_> = pair.world.wait(&mut pair.session);
        assert!(all.len() == 128 && all.iter().all(|done| done.status == Status::Continues));
    }
}

/// Beside reads, walks cost a turn of the target no more than about as much as the reads do; alone they
/// have all that a turn has.
#[test]
fn reads_beside_long_walks_have_their_share_of_each_turn() {
    for is_by_one_engine in [true, false] {
        let mut pair = Pair::new(World::new(21), 4096, session_of(128, 1024));
        lay_circle(&pair.memory);
        let host = if is_by_one_engine { pair.initiator } else { pair.world.add_host() };
        let mut reader = pair.world.add_session(host, session_of(16, 1024));
        let remote = pair.world.connect(&reader, pair.target, pair.rkey);
        let (walk, read) = (walk(pair.remote), Ask::read(remote, 64, 64));
        let mut cost_of_turns = |pair: &mut Pair, is_beside: bool| {
            let mut begin = pair.world.counters(pair.target);
            let start = pair.world.now();
            let mut is_counted = false;
            while pair.world.now() < start + Span::from_ms(4) {
                keep_full(&mut pair.session, &walk);
                if is_beside {
                    keep_full(&mut reader, &read);
                }
                pair.world.step();
                // The first half is for the target to notice.
                if !is_counted && pair.world.now() > start + Span::from_ms(2) {
                    (begin, is_counted) = (pair.world.counters(pair.target), true);
                }
            }
            let end = pair.world.counters(pair.target);
            let reads = end.requests_received - begin.requests_received;
            let cost = (end.executor_cost - begin.executor_cost) / (end.turns - begin.turns);
            (cost, reads)
        };
        let (alone, _) = cost_of_turns(&mut pair, false);
        let (beside, reads) = cost_of_turns(&mut pair, true);
        let (again, _) = cost_of_turns(&mut pair, false);
        assert!(alone > 500 && again > 500, "a turn costs {alone} and {again} units alone");
        assert!(beside <= 128, "a turn costs {beside} units beside {reads} reads");
        assert!(reads > 200, "{reads}");
    }
}
