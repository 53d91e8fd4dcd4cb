//! A revoked export is closed at once, and `revoke` returns when nothing works under it any more.

use nic_engine::engine::{Answer, EngineConfig, Work};
use nic_ports::sim::{SimConfig, Verdict};
use nic_tests::{Ask, World, revoke_work, small_engine};
use nic_wire::{Fate, Span, Status};

use crate::{Pair, session_of};

#[test]
fn revoked_between_two_ops() {
    let mut pair = Pair::new(World::new(1), 4096, session_of(4, 4096));
    assert!(pair.world.run(&mut pair.session, &Ask::fetch_add(pair.remote, 0, 1)).is_ok());
    pair.world.revoke(pair.target, pair.owner, pair.rkey);
    let done = pair.world.run(&mut pair.session, &Ask::fetch_add(pair.remote, 0, 1));
    assert_eq!(done.ended(), (Status::Revoked, Fate::NotExecuted));
    assert_eq!(pair.word(0), 1);
    let again = pair.world.refused(pair.target, revoke_work(pair.owner, pair.rkey));
    assert_eq!(again.status, Status::BadRkey);
}

/// A payload whose second half never comes holds no revocation up.
#[test]
fn revoked_in_the_middle_of_a_payload() {
    let mut pair = Pair::new(World::new(2), 64 << 10, session_of(4, 32 << 10));
    let first = pair.world.network.counters().sent;
    pair.world.network.set_script(move |packet| {
        if packet.number >= first + 4 { Verdict::Drop } else { Verdict::Deliver }
    });
    let write = Ask::write(pair.remote, 0, &[7; 20_000]).within(Span::from_ms(5_000));
    pair.session.submit(&write);
    pair.world.run_for(Span::from_us(100));
    let before = pair.world.now();
    pair.world.revoke(pair.target, pair.owner, pair.rkey);
    let waited = pair.world.now().since(before);
    assert!(waited < Span::from_ms(10), "revoke took {} us", waited.as_us());
    let mut placed = vec![0; 20_000];
    pair.memory.read(0, &mut placed).unwrap();
    pair.world.network.clear_script();
    let done = pair.world.wait(&mut pair.session).remove(0);
    assert_eq!(done.ended(), (Status::Revoked, Fate::Unknown));
    pair.world.run_until_idle();
    let mut now = vec![0; 20_000];
    pair.memory.read(0, &mut now).unwrap();
    assert!(now == placed, "nothing is placed after revoke has returned");
    assert_eq!(pair.world.counters(pair.target).ops_in, 0);
}

/// A long reply that waits for window is cut short; the op ends with a status.
#[test]
fn revoked_in_the_middle_of_a_reply() {
    let slow = EngineConfig { congestion_window_bytes: 4 * 1400, ..small_engine() };
    let mut world = World::new(3);
    let (initiator, target) = (world.add_host(), world.add_host_with(slow));
    let mut pair = Pair::of(world, initiator, target, 256 << 10, session_of(4, 256 << 10));
    pair.session.submit(&Ask::read(pair.remote, 0, 200_000));
    pair.world.run_for(Span::from_us(60));
    let before = pair.world.now();
    pair.world.revoke(pair.target, pair.owner, pair.rkey);
    let waited = pair.world.now().since(before);
    assert!(waited < Span::from_ms(1), "revoke took {} us", waited.as_us());
    let done = pair.world.wait(&mut pair.session).remove(0);
    assert_eq!(done.status, Status::Revoked);
    pair.world.run_until_idle();
    assert_eq!(pair.world.counters(pair.target).ops_in, 0);
}

/// The same for replies that wait because the initiator is gone.
#[test]
fn revoked_with_a_dead_initiator() {
    let slow = EngineConfig { congestion_window_bytes: 4 * 1400, ..small_engine() };
    let mut world = World::new(4);
    let (initiator, target) = (world.add_host(), world.add_host_with(slow));
    let mut pair = Pair::of(world, initiator, target, 256 << 10, session_of(4, 256 << 10));
    let long = Span::from_ms(60_000);
    pair.session.submit(&Ask::read(pair.remote, 0, 200_000).within(long));
    pair.session.submit(&Ask::write(pair.remote, 0, &[1; 200_000]).within(long));
    pair.world.run_for(Span::from_us(40));
    pair.world.kill(initiator);
    pair.world.run_for(Span::from_ms(1));
    let before = pair.world.now();
    pair.world.revoke(pair.target, pair.owner, pair.rkey);
    let waited = pair.world.now().since(before);
    assert!(waited < Span::from_ms(10), "revoke took {} us", waited.as_us());
}

/// Giving the region up has the same effect, and hands its memory back.
#[test]
fn a_region_is_deregistered_under_way() {
    let mut network = SimConfig::default();
    network.link.bytes_per_second = Some(1_000_000_000);
    let mut pair = Pair::new(World::with_network(5, network), 64 << 10, session_of(8, 32 << 10));
    for _ in 0..4 {
        pair.session.submit(&Ask::write(pair.remote, 0, &[7; 20_000]));
        pair.session.submit(&Ask::read(pair.remote, 0, 20_000));
    }
    pair.world.run_for(Span::from_us(50));
    let answer =
        pair.world.control(pair.target, Work::Deregister { client: pair.owner, region: 0 });
    assert!(matches!(answer, Answer::Released(_)), "{answer:?}");
    let mut before = vec![0; 64 << 10];
    pair.memory.read(0, &mut before).unwrap();
    let done = pair.world.wait(&mut pair.session);
    let allowed = |status| matches!(status, Status::Ok | Status::Revoked);
    assert!(done.iter().all(|done| allowed(done.status)), "{done:?}");
    assert!(done.iter().any(|done| done.status == Status::Revoked));
    let mut after = vec![0; 64 << 10];
    pair.memory.read(0, &mut after).unwrap();
    assert!(before == after, "nobody writes to a region that was given up");
    pair.world.run_until_idle();
}
