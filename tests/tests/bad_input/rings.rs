//! Ring words that no honest application writes.

use std::sync::atomic::Ordering;

use nic_engine::engine::Work;
use nic_tests::{AppSession, Ask};
use nic_wire::session::Geometry;
use nic_wire::{Span, Status};

use crate::{GEOMETRY, Scene};

/// Offsets of a ring's words from its beginning.
const PRODUCED: u64 = 0;
const CONSUMED: u64 = 64;

fn write_word(session: &AppSession, ring: u64, word: u64, value: u32) {
    session.memory.word32(ring + word).unwrap().store(value, Ordering::Release);
}

/// The session is taken for broken, once; all others go on, and it can be closed.
fn is_broken(scene: &mut Scene, session: &mut AppSession) {
    scene.world.run_for(Span::from_ms(1));
    assert_eq!(scene.world.counters(session.host).ring_violations, 1);
    scene.nobody_noticed();
    scene.world.run_for(Span::from_ms(10));
    let counters = scene.world.counters(session.host);
    assert_eq!(counters.ring_violations, 1, "counted once");
    scene.world.close_session(session);
    scene.nobody_noticed();
    assert_eq!(scene.world.counters(scene.initiator).ops_out, 0);
}

#[test]
fn more_commands_than_the_ring_holds() {
    for produced in [GEOMETRY.depth + 1, 1 << 20, 1 << 31, u32::MAX] {
        let mut scene = Scene::new(60);
        let mut session = scene.world.add_session(scene.initiator, GEOMETRY);
        let at = session.places.commands;
        write_word(&session, at, PRODUCED, produced);
        is_broken(&mut scene, &mut session);
        let counters = scene.world.counters(scene.initiator);
        assert_eq!(counters.bad_commands, 0, "no slot was taken for a command");
    }
}

/// The index goes back behind what was taken.
#[test]
fn commands_that_are_taken_back() {
    let mut scene = Scene::new(61);
    let mut session = scene.world.add_session(scene.initiator, GEOMETRY);
    let remote = scene.world.connect(&session, scene.target, scene.rkey);
    for _ in 0..3 {
        assert!(scene.world.run(&mut session, &Ask::read(remote, 0, 8)).is_ok());
    }
    let at = session.places.commands;
    write_word(&session, at, PRODUCED, 1);
    is_broken(&mut scene, &mut session);
}

/// Completions that were never posted are given back. Noticed when there is something to do.
#[test]
fn more_completions_drained_than_there_were() {
    for consumed in [5, 1 << 20, u32::MAX / 2] {
        let mut scene = Scene::new(62);
        let mut session = scene.world.add_session(scene.initiator, GEOMETRY);
        let remote = scene.world.connect(&session, scene.target, scene.rkey);
        let at = session.places.completions;
        write_word(&session, at, CONSUMED, consumed);
        for _ in 0..GEOMETRY.depth {
            session.submit(&Ask::read(remote, 0, 8));
        }
        is_broken(&mut scene, &mut session);
    }
}

/// Ops that are out when the ring breaks come to their end without harm.
#[test]
fn a_ring_breaks_with_ops_out() {
    let mut scene = Scene::new(63);
    let mut session = scene.world.add_session(scene.initiator, GEOMETRY);
    let remote = scene.world.connect(&session, scene.target, scene.rkey);
    for _ in 0..GEOMETRY.depth {
        session.submit(&Ask::read(remote, 0, 4000));
    }
    scene.world.run_for(Span::from_us(7));
    let (commands, completions) = (session.places.commands, session.places.completions);
    write_word(&session, commands, PRODUCED, 1 << 30);
    write_word(&session, completions, CONSUMED, 1 << 30);
    is_broken(&mut scene, &mut session);
}

#[test]
fn receive_slots_given_back_that_were_not_there() {
    let mut scene = Scene::new(64);
    let geometry = Geometry { receive_buffers: 4, receive_buffer_bytes: 64, ..GEOMETRY };
    let (target, client) = (scene.target, scene.owner);
    let mut server = scene.world.open_session(target, client, geometry);
    let work = Work::Serve { client, session: server.id, service: 1 };
    scene.world.released(target, work);
    let at = server.places.receives;
    write_word(&server, at, CONSUMED, 77);
    let call = Ask::call(scene.remote, 1, b"hello", 8);
    let done = scene.world.run(&mut scene.honest, &call);
    assert_eq!(done.status, Status::Busy, "a session that breaks its rings gets no calls");
    let done = scene.world.run(&mut scene.honest, &call);
    assert_eq!(done.status, Status::Busy);
    is_broken(&mut scene, &mut server);
}

/// What the header says is for the application; the engine has its own copy.
#[test]
fn a_header_full_of_lies() {
    let mut scene = Scene::new(65);
    let mut session = scene.world.add_session(scene.initiator, GEOMETRY);
    let remote = scene.world.connect(&session, scene.target, scene.rkey);
    session.memory.fill(0, 4096, 0xff).unwrap();
    assert!(scene.world.run(&mut session, &Ask::read(remote, 0, 4000)).is_ok());
    assert_eq!(scene.world.counters(scene.initiator).ring_violations, 0);
    scene.nobody_noticed();
}
