//! FENCE: an op starts at the target only after all earlier ops of its stream have finished.

use nic_engine::engine::{EngineConfig, Work};
use nic_kernels::Access;
use nic_ports::{Chance, Random};
use nic_tests::{Ask, Done, World, small_engine};
use nic_wire::session::Geometry;
use nic_wire::{Span, Status};

use crate::{Pair, session_of, under_seeds};

/// Writes by many ops of many sizes, then one fenced READ of everything.
#[test]
fn a_fenced_read_sees_every_write_before_it() {
    under_seeds(20..26, |seed| {
        let places = 12;
        let mut pair = Pair::new(
            World::lossy(seed, Chance::percent(8)),
            64 << 10,
            session_of(16, places * 4096),
        );
        let mut random = Random::new(seed);
        for round in 1..=12u8 {
            let mut expected = Vec::new();
            for place in 0..places {
                let size = random.below(13);
                let length = 1 + random.below(1 << size) as usize;
                let mut payload = vec![round; length.min(4096)];
                payload.resize(4096, 0);
                pair.session.submit(&Ask::write(pair.remote, u64::from(place) * 4096, &payload));
                expected.extend_from_slice(&payload);
            }
            let read = Ask::read(pair.remote, 0, places * 4096).fenced();
            let fenced = pair.session.submit(&read);
            let done = pair.world.wait(&mut pair.session);
            assert!(done.iter().all(Done::is_ok));
            let read = done.iter().find(|done| done.token == fenced).unwrap();
            assert!(read.reply == expected, "round {round}");
        }
        assert!(pair.world.counters(pair.target).fenced > 0, "some had to wait");
    });
}

/// A chain in which each op waits for the one before, so that each finds its own number.
#[test]
fn fenced_ops_run_in_their_order() {
    under_seeds(30..36, |seed| {
        let mut pair =
            Pair::new(World::lossy(seed, Chance::percent(8)), 4096, session_of(64, 4096));
        for round in 0..6u64 {
            let tokens: Vec<(u64, u64)> = (0..60)
                .map(|link| {
                    let add = Ask::fetch_add(pair.remote, 8 * (link % 2), 1).fenced();
                    (pair.session.submit(&add.in_stream((link % 2) as u16)), link / 2)
                })
                .collect();
            let done = pair.world.wait(&mut pair.session);
            for (token, place) in tokens {
                let done = done.iter().find(|done| done.token == token).unwrap();
                assert!(done.is_ok(), "{:?}", done.ended());
                assert_eq!(done.word(), round * 30 + place);
            }
        }
    });
}

/// A long payload behind a fence, and what comes behind it.
#[test]
fn long_ops_behind_fences() {
    under_seeds(40..43, |seed| {
        let mut world = World::lossy(seed, Chance::percent(5));
        world.let_engines_sleep(seed % 2 == 1);
        let mut pair = Pair::new(world, 64 << 10, session_of(8, 20_000));
        for round in 1..=6u8 {
            let write = |value: u8| Ask::write(pair.remote, 0, &[value; 20_000]);
            let asks = [write(round), write(100 + round).fenced()];
            let read = Ask::read(pair.remote, 0, 20_000).fenced();
            for ask in &asks {
                pair.session.submit(ask);
            }
            let token = pair.session.submit(&read);
            let done = pair.world.wait(&mut pair.session);
            assert!(done.iter().all(Done::is_ok));
            let read = done.iter().find(|done| done.token == token).unwrap();
            assert!(read.reply == [100 + round; 20_000]);
        }
    });
}

/// An initiator and a target whose application serves calls: an op that takes as long as the test
/// wants.
struct Served {
    pair: Pair,
    server: nic_tests::AppSession,
}

const SERVICE: u16 = 3;

fn served(world: World, depth: u32) -> Served {
    serve(Pair::new(world, 4096, session_of(depth, 4096)))
}

fn serve(mut pair: Pair) -> Served {
    let geometry = Geometry { receive_buffers: 4, receive_buffer_bytes: 64, ..session_of(4, 4096) };
    let server = pair.world.open_session(pair.target, pair.owner, geometry);
    let (client, session) = (pair.owner, server.id);
    pair.world.released(pair.target, Work::Serve { client, session, service: SERVICE });
    Served { pair, server }
}

#[test]
fn a_fence_waits_for_a_call_and_only_in_its_stream() {
    let Served { mut pair, mut server } = served(World::new(50), 8);
    let remote = pair.remote;
    pair.session.submit(&Ask::call(remote, SERVICE, b"slow", 0).in_stream(1));
    let behind = pair.session.submit(&Ask::fetch_add(remote, 0, 1).in_stream(1).fenced());
    let beside = pair.session.submit(&Ask::fetch_add(remote, 8, 1).in_stream(1));
    let elsewhere = pair.session.submit(&Ask::fetch_add(remote, 16, 1).in_stream(2).fenced());
    let call = pair.world.next_call(&mut server);
    pair.world.run_for(Span::from_ms(50));
    let mut early: Vec<u64> = pair.session.poll().iter().map(|done| done.token).collect();
    early.sort_unstable();
    assert_eq!(early, [beside, elsewhere], "only the fence of the call's stream waits");
    assert_eq!([0, 8, 16].map(|at| pair.word(at)), [0, 1, 1]);
    server.answer(&call, Status::Ok, b"");
    let done = pair.world.wait(&mut pair.session);
    assert!(done.iter().all(Done::is_ok) && done.iter().any(|done| done.token == behind));
    assert_eq!(pair.word(0), 1);
}

/// Engines whose ops have to wait need not stay awake for that.
#[test]
fn waiting_ops_keep_nobody_awake() {
    let few = EngineConfig { op_credits: 4, ..small_engine() };
    let mut world = World::new(55);
    let (initiator, target) = (world.add_host(), world.add_host_with(few));
    let pair = Pair::of(world, initiator, target, 64 << 10, session_of(16, 8192));
    let Served { mut pair, mut server } = serve(pair);
    pair.world.let_engines_sleep(true);
    let remote = pair.remote;
    for _ in 0..4 {
        pair.session.submit(&Ask::call(remote, SERVICE, b"slow", 0));
    }
    // No credit is left for these, and the second waits for all others besides.
    pair.session.submit(&Ask::fetch_add(remote, 0, 1));
    pair.session.submit(&Ask::write(remote, 8, &[1; 8000]).fenced());
    pair.world.run_for(Span::from_ms(1));
    let turns = |world: &World| [initiator, target].map(|host| world.counters(host).turns);
    let before = turns(&pair.world);
    pair.world.run_for(Span::from_ms(500));
    let after = turns(&pair.world);
    for (before, after) in before.into_iter().zip(after) {
        assert!(after - before < 1_000, "{} turns in 500 ms", after - before);
    }
    for call in server.calls() {
        server.answer(&call, Status::Ok, b"");
    }
    assert!(pair.world.wait(&mut pair.session).iter().all(Done::is_ok));
}

/// However many ops overtake a slow one, the next fence still waits for exactly that one.
#[test]
fn thousands_of_ops_overtake_a_slow_one() {
    let Served { mut pair, mut server } = served(World::new(51), 128);
    let remote = pair.remote;
    let slow = Ask::call(remote, SERVICE, b"slow", 0).within(Span::from_ms(60_000));
    pair.session.submit(&slow);
    let call = pair.world.next_call(&mut server);
    let mut finished = 0;
    let end = pair.world.now() + Span::from_ms(2_000);
    while finished < 6_000 && pair.world.now() < end {
        while pair.session.out() < 101 {
            pair.session.submit(&Ask::fetch_add(remote, 8, 1).within(Span::from_ms(60_000)));
        }
        pair.world.step();
        finished += pair.session.poll().iter().filter(|done| done.is_ok()).count();
    }
    // Whether ops go on overtaking without end is the engines' choice. None is lost by it.
    server.answer(&call, Status::Ok, b"");
    let fenced = pair.session.submit(&Ask::fetch_add(remote, 8, 1).fenced());
    let done = pair.world.wait(&mut pair.session);
    assert!(done.iter().all(Done::is_ok));
    let fenced = done.iter().find(|done| done.token == fenced).unwrap();
    assert_eq!(fenced.word(), pair.word(8) - 1, "it ran last");
    assert_eq!(pair.world.counters(pair.target).malformed_frames, 0);
}

/// A fence opens whatever became of the ops before it.
#[test]
fn fences_open_after_failures() {
    let mut pair = Pair::new(World::new(52), 4096, session_of(8, 4096));
    let (remote, owner) = (pair.remote, pair.owner);
    let (_, read_only) = pair.world.exported_region(pair.target, owner, 4096, Access::READ);
    let other = pair.world.connect(&pair.session, pair.target, read_only);
    let bad = [
        Ask::read(remote, 1 << 40, 8),
        Ask::fetch_add(remote, 4, 1),
        Ask::write(other, 0, &[1; 3000]),
        Ask::kernel(remote, nic_wire::KernelId(77), &[], 0),
    ];
    let tokens = bad.each_ref().map(|ask| pair.session.submit(ask));
    let fenced = pair.session.submit(&Ask::fetch_add(remote, 0, 1).fenced());
    let done = pair.world.wait(&mut pair.session);
    let status = |token| done.iter().find(|done| done.token == token).unwrap().status;
    let expected = [Status::OutOfBounds, Status::Misaligned, Status::Denied, Status::UnknownKernel];
    assert_eq!(tokens.map(status), expected);
    assert_eq!(status(fenced), Status::Ok);
}

/// More fenced requests than the target has room for, and more ops than it has slots.
#[test]
fn a_target_of_small_tables_loses_no_op() {
    under_seeds(60..63, |seed| {
        // The tables get their least size, which is a fraction of what initiators may have out.
        let small = EngineConfig { ops_in: 1, holds: 1, op_credits: 256, ..small_engine() };
        let mut world = World::lossy(seed, Chance::percent(2));
        let (initiator, target) = (world.add_host(), world.add_host_with(small));
        let mut pair = Pair::of(world, initiator, target, 64 << 10, session_of(4, 4096));
        let mut sessions = Vec::new();
        for host in 0..3 {
            let host = if host == 0 { initiator } else { pair.world.add_host() };
            let session = pair.world.add_session(host, session_of(256, 4096));
            let remote = pair.world.connect(&session, target, pair.rkey);
            sessions.push((session, remote));
        }
        for round in 0..4 {
            for (session, remote) in &mut sessions {
                for op in 0..256u64 {
                    let add = Ask::fetch_add(*remote, 0, 1);
                    let ask = match op % 5 {
                        0 => add,
                        1 => Ask::write(*remote, 8192, &[1; 3500]),
                        _ => add.fenced(),
                    };
                    let patient = ask.within(Span::from_ms(20_000));
                    session.submit(&patient.in_stream((op % 7 / 6) as u16));
                }
            }
            for (session, _) in &mut sessions {
                let done = pair.world.wait(session);
                let failed = done.iter().find(|done| !done.is_ok());
                assert_eq!(failed, None, "round {round}");
            }
        }
        let adds = (0..256).filter(|op| op % 5 != 1).count() as u64;
        assert_eq!(pair.word(0), 4 * 3 * adds);
        let counters = pair.world.counters(target);
        assert!(counters.unplaced_packets > 0 && counters.fenced > 0, "the tables were too small");
    });
}

/// The bytes of a long reply are read one packet after the other, as the window lets them leave.
/// What stands behind a fence must not change them before.
#[test]
fn a_fence_waits_until_a_read_has_all_its_bytes() {
    let slow = EngineConfig { congestion_window_bytes: 4 * 1400, ..small_engine() };
    let mut world = World::new(57);
    let (initiator, target) = (world.add_host(), world.add_host_with(slow));
    let geometry = session_of(4, 64 << 10);
    let mut pair = Pair::of(world, initiator, target, 64 << 10, geometry);
    pair.memory.fill(0, 60_000, 0x11).unwrap();
    let read = pair.session.submit(&Ask::read(pair.remote, 0, 60_000));
    pair.session.submit(&Ask::write(pair.remote, 59_000, &[0x22; 8]).fenced());
    let done = pair.world.wait(&mut pair.session);
    assert!(done.iter().all(Done::is_ok));
    let read = done.iter().find(|done| done.token == read).unwrap();
    assert!(read.reply.iter().all(|byte| *byte == 0x11), "the READ saw what came behind it");
    let mut after = [0; 8];
    pair.memory.read(59_000, &mut after).unwrap();
    assert_eq!(after, [0x22; 8]);
}
