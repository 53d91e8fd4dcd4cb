//! Credits: never exceeded, never lost.

use nic_engine::engine::{EngineConfig, Work};
use nic_ports::sim::SimConfig;
use nic_ports::{Chance, Random};
use nic_tests::{Ask, Done, World, small_engine};
use nic_wire::session::Geometry;
use nic_wire::{Fate, Span, Status};

use crate::{Pair, session_of, under_seeds};

#[test]
fn no_more_ops_are_out_than_there_are_credits() {
    let few = EngineConfig { op_credits: 8, ..small_engine() };
    let mut world = World::new(1);
    let (initiator, target) = (world.add_host(), world.add_host_with(few));
    let mut pair = Pair::of(world, initiator, target, 4096, session_of(64, 4096));
    // Calls stay in hand for as long as the test likes.
    let geometry =
        Geometry { receive_buffers: 64, receive_buffer_bytes: 64, ..session_of(8, 4096) };
    let mut server = pair.world.open_session(target, pair.owner, geometry);
    let (client, session) = (pair.owner, server.id);
    pair.world.released(target, Work::Serve { client, session, service: 1 });
    for _ in 0..40 {
        pair.session.submit(&Ask::call(pair.remote, 1, b"", 0));
    }
    let mut waiting = Vec::new();
    for answered in 0..40 {
        pair.world.run_for(Span::from_us(100));
        let expected = 8.min(40 - answered);
        assert_eq!(pair.world.counters(target).ops_in, expected, "after {answered} answers");
        let calls = server.calls();
        assert_eq!(calls.len(), if answered == 0 { 8 } else { usize::from(answered < 33) });
        waiting.extend(calls);
        server.answer(&waiting.remove(0), Status::Ok, b"");
    }
    assert!(pair.world.wait(&mut pair.session).iter().all(Done::is_ok));
}

/// Replies asked for never exceed what the target grants, but for a single op that is larger.
#[test]
fn replies_wait_for_reply_credits() {
    let few = EngineConfig { reply_credits_kib: 64, ..small_engine() };
    let mut world = World::new(2);
    let (initiator, target) = (world.add_host(), world.add_host_with(few));
    let mut pair = Pair::of(world, initiator, target, 256 << 10, session_of(16, 128 << 10));
    for length in [16_000, 128 << 10, 1, 65_000, 20_000, 20_000, 30_000, 128 << 10, 60_000] {
        pair.session.submit(&Ask::read(pair.remote, 0, length));
    }
    let mut most = 0;
    let mut done = Vec::new();
    while pair.session.out() > 0 {
        pair.world.step();
        most = most.max(pair.world.counters(target).ops_in);
        done.extend(pair.session.poll());
    }
    assert!(done.iter().all(Done::is_ok));
    assert!(most <= 3, "at most three of these fit 64 KiB, {most} were in hand");
}

/// A hundred thousand ops, most of which expire at some moment of their life: before they leave,
/// on their way, in the target's hands, with the reply on its way. Afterwards nothing is missing.
#[test]
fn late_replies_give_credit_back() {
    under_seeds(70..72, |seed| {
        let mut network = SimConfig::default();
        network.link.loss = Chance::percent(1);
        network.link.reordering = Chance::percent(2);
        network.link.jitter = Span::from_us(4);
        let few = EngineConfig { op_credits: 32, reply_credits_kib: 32, ..small_engine() };
        let mut world = World::with_network(seed, network);
        let (initiator, target) = (world.add_host(), world.add_host_with(few));
        let mut pair = Pair::of(world, initiator, target, 8192, session_of(64, 4096));
        let mut random = Random::new(seed);
        let (mut submitted, mut ok, mut unknown) = (0u32, 0u64, 0u64);
        let mut expired = 0;
        while submitted < 50_000 || pair.session.out() > 0 {
            while submitted < 50_000 && pair.session.has_room() {
                let budget = Span::from_us(random.below(120));
                let ask = match random.below(8) {
                    0 => Ask::read(pair.remote, 4096, random.below(4096) as u32),
                    1 => Ask::write(pair.remote, 4096, &[1; 3000]),
                    _ => Ask::fetch_add(pair.remote, 0, 1),
                };
                pair.session.submit(&ask.within(budget));
                submitted += 1;
            }
            pair.world.step();
            for done in pair.session.poll() {
                match done.ended() {
                    (Status::Ok, Fate::Executed) => ok += u64::from(done.reply.len() == 8),
                    (Status::Expired, fate) => {
                        expired += 1;
                        unknown += u64::from(fate == Fate::Unknown);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(expired > 5_000 && ok > 5_000, "{expired} expired, {ok} came in time");
        pair.world.run_until_idle();
        let added = pair.word(0);
        assert!(added <= ok + unknown, "{added} additions by {ok} ops and {unknown} unknown ones");
        let left = [initiator, target].map(|host| pair.world.counters(host));
        assert_eq!((left[0].ops_out, left[1].ops_in), (0, 0));
        assert_eq!((left[0].malformed_frames, left[1].malformed_frames), (0, 0));

        // All credits are there: a full window completes in one round trip, as at the start.
        pair.world.network.set_script(|_| nic_ports::sim::Verdict::Deliver);
        for _ in 0..32 {
            pair.session.submit(&Ask::fetch_add(pair.remote, 8, 1).within(Span::from_us(60)));
        }
        let done = pair.world.wait(&mut pair.session);
        assert!(done.len() == 32 && done.iter().all(Done::is_ok));
        pair.session.submit(&Ask::read(pair.remote, 0, 4096));
        assert!(pair.world.wait(&mut pair.session).iter().all(Done::is_ok));
    });
}

/// An op whose reply alone is more than all credits leaves beside others, and they beside it.
#[test]
fn a_reply_beyond_all_credits_does_not_stop_its_flow() {
    let few = EngineConfig { reply_credits_kib: 64, ..small_engine() };
    let mut world = World::new(4);
    let (initiator, target) = (world.add_host(), world.add_host_with(few));
    let mut pair = Pair::of(world, initiator, target, 1 << 20, session_of(4, 512 << 10));
    let mut other = pair.world.add_session(initiator, session_of(2, 4096));
    let remote = pair.world.connect(&other, target, pair.rkey);
    let long = pair.session.submit(&Ask::read(pair.remote, 0, 512 << 10));
    let mut beside = 0;
    let mut ended = Vec::new();
    other.submit(&Ask::read(remote, 0, 64));
    while ended.is_empty() {
        pair.world.step();
        for done in other.poll() {
            assert!(done.is_ok(), "{:?}", done.ended());
            beside += 1;
            other.submit(&Ask::read(remote, 0, 64));
        }
        ended = pair.session.poll();
    }
    assert!(ended.len() == 1 && ended[0].is_ok() && ended[0].token == long);
    assert!(beside > 10, "{beside} short ops ended while the long reply was on its way");
    assert!(pair.world.wait(&mut other).iter().all(Done::is_ok));
}

/// Ops that their session has given up count as its own until the target is done with them.
#[test]
fn ops_that_were_given_up_leave_the_last_places_to_others() {
    let small = EngineConfig { ops_out: 32, ..small_engine() };
    let mut world = World::new(5);
    let (initiator, target) = (world.add_host_with(small), world.add_host());
    let mut pair = Pair::of(world, initiator, target, 4096, session_of(8, 4096));
    let mut other = pair.world.add_session(initiator, session_of(2, 4096));
    let remote = pair.world.connect(&other, target, pair.rkey);
    // A peer that says nothing: each op expires, and the next one takes another place.
    pair.world.network.set_script(|_| nic_ports::sim::Verdict::Drop);
    let mut statuses = Vec::new();
    for _ in 0..12 {
        for _ in 0..8 {
            let ask = Ask::fetch_add(pair.remote, 0, 1).within(Span::from_us(50));
            pair.session.submit(&ask);
        }
        statuses.extend(pair.world.wait(&mut pair.session).iter().map(|done| done.ended().0));
    }
    let refused = statuses.iter().filter(|status| **status == Status::Busy).count();
    assert_eq!((statuses.len() - refused, refused), (28, 96 - 28), "the last eighth is kept");
    pair.world.network.set_script(|_| nic_ports::sim::Verdict::Deliver);
    let done = pair.world.run(&mut other, &Ask::read(remote, 0, 64));
    assert!(done.is_ok(), "{:?}", done.ended());
}

/// Ops that nobody answers fill the engine's own table; what is beyond is told so at once.
#[test]
fn a_full_table_says_busy() {
    let small = EngineConfig { ops_out: 16, ..small_engine() };
    let mut world = World::new(3);
    let (initiator, target) = (world.add_host_with(small), world.add_host());
    let mut pair = Pair::of(world, initiator, target, 4096, session_of(32, 4096));
    for _ in 0..32 {
        pair.session.submit(&Ask::fetch_add(pair.remote, 0, 1));
    }
    let done = pair.world.wait(&mut pair.session);
    let busy = done.iter().filter(|d| d.ended() == (Status::Busy, Fate::NotExecuted)).count();
    let ok = done.iter().filter(|done| done.is_ok()).count();
    // The last eighth of the places is for sessions that have few ops out.
    assert_eq!((busy, ok), (18, 14));
    assert_eq!(pair.word(0), 14);
}
