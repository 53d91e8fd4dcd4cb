//! Sessions and applications end, in order or in the middle of their ops.

use nic_engine::engine::{Answer, EngineConfig, Released, Work};
use nic_tests::{Ask, Done, World, small_engine};
use nic_wire::{Fate, Span, Status};

use crate::{Pair, session_of};

#[test]
fn a_session_is_closed_with_ops_out() {
    let mut pair = Pair::new(World::new(1), 64 << 10, session_of(16, 16 << 10));
    let mut other = pair.world.add_session(pair.initiator, session_of(4, 4096));
    let remote = pair.world.connect(&other, pair.target, pair.rkey);
    for round in 0..30u64 {
        let client = pair.session.client;
        let mut session = pair.world.open_session(pair.initiator, client, session_of(16, 16 << 10));
        let way = pair.world.connect(&session, pair.target, pair.rkey);
        for _ in 0..4 {
            session.submit(&Ask::read(way, 0, 16_000));
            session.submit(&Ask::write(way, 4096, &[1; 16_000]));
            session.submit(&Ask::fetch_add(way, 8, 1));
        }
        pair.world.run_for(Span::from_us(round));
        // What is in the arena at the moment of closing is there for good.
        pair.world.close_session(&session);
        let landed = session.landing_place(session.out() as u64 % 4);
        let mut before = session.poll();
        other.submit(&Ask::fetch_add(remote, 0, 1));
        let done = pair.world.wait(&mut other);
        assert!(done.iter().all(Done::is_ok), "round {round}");
        pair.world.run_for(Span::from_ms(2));
        assert!(session.landing_place(session.out() as u64 % 4) == landed || !before.is_empty());
        before.extend(session.poll());
        for done in before {
            assert!(matches!(done.status, Status::Ok | Status::Cancelled), "{:?}", done.ended());
        }
    }
    pair.world.run_until_idle();
    let left = [pair.initiator, pair.target].map(|host| pair.world.counters(host));
    assert_eq!((left[0].ops_out, left[1].ops_in, left[0].sessions), (0, 0, 2));
    assert_eq!((left[0].malformed_frames, left[1].malformed_frames), (0, 0));
    assert_eq!(pair.word(0), 30);
}

/// A slot that changed hands: late replies of the former session's ops go nowhere.
#[test]
fn the_next_session_in_a_slot_gets_none_of_the_former_ones_replies() {
    let mut pair = Pair::new(World::new(2), 64 << 10, session_of(4, 4096));
    pair.memory.fill(0, 64 << 10, 0x5a).unwrap();
    let client = pair.world.add_client(pair.initiator);
    let mut former = pair.world.open_session(pair.initiator, client, session_of(8, 8192));
    let way = pair.world.connect(&former, pair.target, pair.rkey);
    for _ in 0..8 {
        former.submit(&Ask::read(way, 0, 8192));
    }
    pair.world.run_for(Span::from_us(7));
    pair.world.close_session(&former);
    let mut next = pair.world.open_session(pair.initiator, client, session_of(8, 8192));
    assert_eq!(next.id, former.id, "the slot is used again");
    let way = pair.world.connect(&next, pair.target, pair.rkey);
    let token = next.submit(&Ask::fetch_add(way, 32 << 10, 1));
    let done = pair.world.wait(&mut next);
    assert_eq!((done.len(), done[0].token), (1, token));
    pair.world.run_for(Span::from_ms(20));
    assert!(next.poll().is_empty(), "no completion of the former session's ops");
}

#[test]
fn the_owner_of_a_region_goes_away() {
    let mut pair = Pair::new(World::new(3), 64 << 10, session_of(16, 16 << 10));
    for _ in 0..4 {
        pair.session.submit(&Ask::read(pair.remote, 0, 16_000));
        pair.session.submit(&Ask::write(pair.remote, 0, &[1; 16_000]));
    }
    pair.world.run_for(Span::from_us(12));
    let answer = pair.world.control(pair.target, Work::RemoveClient { client: pair.owner });
    let Answer::Released(released) = answer else { panic!("{answer:?}") };
    assert!(matches!(released[..], [Released::Memory(_)]), "the region comes back: {released:?}");
    for done in pair.world.wait(&mut pair.session) {
        match done.ended() {
            (Status::Ok, Fate::Executed) | (Status::Revoked, _) => {}
            other => panic!("{other:?}"),
        }
    }
    let done = pair.world.run(&mut pair.session, &Ask::read(pair.remote, 0, 8));
    assert_eq!(done.ended(), (Status::Revoked, Fate::NotExecuted));
    // Its slots are free for the next.
    let owner = pair.world.add_client(pair.target);
    assert_eq!(owner, pair.owner);
    let all = nic_kernels::Access::all();
    let (_, rkey) = pair.world.exported_region(pair.target, owner, 4096, all);
    let remote = pair.world.connect(&pair.session, pair.target, rkey);
    assert!(pair.world.run(&mut pair.session, &Ask::fetch_add(remote, 0, 1)).is_ok());
}

#[test]
fn an_initiating_application_goes_away() {
    let mut pair = Pair::new(World::new(4), 64 << 10, session_of(16, 16 << 10));
    let client = pair.session.client;
    let mut second = pair.world.open_session(pair.initiator, client, session_of(4, 4096));
    let way = pair.world.connect(&second, pair.target, pair.rkey);
    second.submit(&Ask::read(way, 0, 100));
    for _ in 0..8 {
        pair.session.submit(&Ask::write(pair.remote, 0, &[1; 16_000]));
    }
    pair.world.run_for(Span::from_us(9));
    let answer = pair.world.control(pair.initiator, Work::RemoveClient { client });
    let Answer::Released(released) = answer else { panic!("{answer:?}") };
    let sessions = released.iter().filter(|part| matches!(part, Released::Session(_))).count();
    assert_eq!((sessions, released.len()), (2, 2));
    pair.world.run_until_idle();
    let left = [pair.initiator, pair.target].map(|host| pair.world.counters(host));
    assert_eq!((left[0].ops_out, left[1].ops_in, left[0].sessions), (0, 0, 0));
    let refusal =
        pair.world.refused(pair.initiator, Work::CloseSession { client, session: pair.session.id });
    assert_eq!(refusal.status, Status::BadCommand);
}

/// A way that is still being opened when its session closes.
#[test]
fn a_session_is_closed_while_it_connects() {
    let mut pair = Pair::new(World::new(5), 4096, session_of(4, 4096));
    let third = pair.world.add_host();
    pair.world.kill(third);
    let session = pair.world.add_session(pair.initiator, session_of(4, 4096));
    let work = pair.world.connect_work(&session, third, pair.rkey);
    let id = pair.world.begin(pair.initiator, work);
    pair.world.run_for(Span::from_ms(5));
    assert!(pair.world.answer(pair.initiator, id).is_none());
    pair.world.close_session(&session);
    match pair.world.answer(pair.initiator, id) {
        Some(Answer::Refused(refusal)) => assert_eq!(refusal.status, Status::Cancelled),
        other => panic!("{other:?}"),
    }
    pair.world.run_for(Span::from_ms(4_000));
    assert_eq!(pair.world.counters(pair.initiator).flows, 1, "the flow that never opened is gone");
}

#[test]
fn nobody_answers_at_the_address() {
    let mut pair = Pair::new(World::new(6), 4096, session_of(4, 4096));
    let third = pair.world.add_host();
    pair.world.kill(third);
    let work = pair.world.connect_work(&pair.session, third, pair.rkey);
    let refusal = pair.world.refused(pair.initiator, work);
    assert_eq!(refusal.status, Status::Unreachable);
    assert!(refusal.reason.contains("10.0.0.3"), "{}", refusal.reason);
}

/// What a closed session has left at its target is not counted as its successor's, and does not count
/// for it when it is over.
#[test]
fn what_a_closed_session_left_is_not_its_successors() {
    const FEW: usize = 10;
    let mut world = World::new(7);
    let small = EngineConfig { ops_out: 64, ..small_engine() };
    let (initiator, target) = (world.add_host_with(small), world.add_host());
    let mut pair = Pair::of(world, initiator, target, 4096, session_of(16, 4096));
    let silent = pair.world.add_host();
    let client = pair.session.client;
    let mut other = pair.world.open_session(initiator, client, session_of(64, 4096));
    let way = pair.world.connect(&other, silent, pair.rkey);

    pair.world.pause(target);
    for _ in 0..FEW {
        pair.session.submit(&Ask::fetch_add(pair.remote, 0, 1));
    }
    pair.world.run_for(Span::from_us(100));
    pair.world.close_session(&pair.session);
    let mut next = pair.world.open_session(initiator, client, session_of(16, 4096));
    assert_eq!(next.id, pair.session.id, "it has its place");
    let remote = pair.world.connect(&next, silent, pair.rkey);

    // As many of its own end by their deadlines, and the target still has them.
    pair.world.pause(silent);
    for _ in 0..FEW {
        next.submit(&Ask::fetch_add(remote, 0, 1).within(Span::from_us(500)));
    }
    pair.world.run_for(Span::from_ms(1));
    assert_eq!(next.poll().len(), FEW);
    assert_eq!(pair.world.counters(initiator).ops_out, 2 * FEW as u64);
    pair.world.resume(target);
    pair.world.run_for(Span::from_ms(10));
    assert_eq!(pair.world.counters(initiator).ops_out, FEW as u64);

    // When places are few, none are left for who has many ops that are not over.
    for _ in 0..64 - 8 - FEW {
        other.submit(&Ask::fetch_add(way, 0, 1));
    }
    pair.world.run_for(Span::from_us(100));
    let done = pair.world.run(&mut next, &Ask::fetch_add(remote, 0, 1));
    assert_eq!(done.ended(), (Status::Busy, Fate::NotExecuted));
}
