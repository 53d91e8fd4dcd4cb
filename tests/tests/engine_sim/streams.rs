//! Streams: many of them, from one session and from several.

use nic_engine::engine::Work;
use nic_tests::{Ask, Done, World};
use nic_wire::session::Geometry;
use nic_wire::{Span, Status};

use crate::{Pair, session_of};

/// A session may use as many streams as it likes, one after the other.
#[test]
fn a_session_uses_more_streams_than_a_flow_has() {
    let mut pair = Pair::new(World::new(1), 4096, session_of(32, 4096));
    let mut next = 0;
    for _ in 0..20 {
        for _ in 0..32 {
            next += 1;
            pair.session.submit(&Ask::fetch_add(pair.remote, 0, 1).in_stream(next));
        }
        assert!(pair.world.wait(&mut pair.session).iter().all(Done::is_ok), "stream {next}");
    }
    assert_eq!(pair.word(0), 640);
}

/// And nobody who shares the flow suffers from it.
#[test]
fn a_session_of_many_streams_does_not_hold_others_up() {
    let mut pair = Pair::new(World::new(2), 4096, session_of(128, 4096));
    let mut other = pair.world.add_session(pair.initiator, session_of(4, 4096));
    let remote = pair.world.connect(&other, pair.target, pair.rkey);
    for stream in 0..100 {
        pair.session.submit(&Ask::fetch_add(pair.remote, 0, 1).in_stream(stream));
    }
    let done = pair.world.run(&mut other, &Ask::read(remote, 0, 8).within(Span::from_ms(20)));
    assert!(done.is_ok(), "{:?}", done.ended());
    assert!(pair.world.wait(&mut pair.session).iter().all(Done::is_ok));
}

/// Not even if the ops of all its streams are long in ending.
#[test]
fn slow_ops_in_many_streams_do_not_hold_others_up() {
    let mut pair = Pair::new(World::new(4), 4096, session_of(128, 4096));
    let geometry =
        Geometry { receive_buffers: 128, receive_buffer_bytes: 64, ..session_of(128, 4096) };
    let mut server = pair.world.open_session(pair.target, pair.owner, geometry);
    let (client, session) = (pair.owner, server.id);
    pair.world.released(pair.target, Work::Serve { client, session, service: 1 });
    let mut other = pair.world.add_session(pair.initiator, session_of(4, 4096));
    let remote = pair.world.connect(&other, pair.target, pair.rkey);
    for stream in 0..100 {
        pair.session.submit(&Ask::call(pair.remote, 1, b"", 0).in_stream(stream));
    }
    pair.world.run_for(Span::from_ms(1));
    let done = pair.world.run(&mut other, &Ask::read(remote, 0, 8).within(Span::from_ms(20)));
    assert!(done.is_ok(), "{:?}", done.ended());
    while pair.session.out() > 0 {
        for call in server.calls() {
            server.answer(&call, Status::Ok, b"");
        }
        pair.world.step();
        assert!(pair.session.poll().iter().all(Done::is_ok));
    }
}

/// A stream that changed hands keeps its order: its former owner's ops still count.
#[test]
fn streams_of_closed_sessions_are_used_again() {
    let mut pair = Pair::new(World::new(3), 4096, session_of(4, 4096));
    for round in 0..100u64 {
        let mut session =
            pair.world.open_session(pair.initiator, pair.session.client, session_of(4, 4096));
        let remote = pair.world.connect(&session, pair.target, pair.rkey);
        session.submit(&Ask::fetch_add(remote, 0, 1));
        let token = session.submit(&Ask::read(remote, 0, 8).fenced());
        if round % 3 == 0 {
            // Closed in the middle of its ops.
            pair.world.close_session(&session);
            continue;
        }
        let done = pair.world.wait(&mut session);
        assert!(done.iter().all(Done::is_ok), "round {round}");
        assert!(done.iter().any(|done| done.token == token && done.word() > round / 2));
        pair.world.close_session(&session);
    }
    pair.world.run_until_idle();
    assert_eq!(pair.world.counters(pair.initiator).ops_out, 0);
}
