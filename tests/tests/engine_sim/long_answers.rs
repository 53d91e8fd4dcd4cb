//! Answers to calls that span packets: they lie in the serving session's arena, which is the
//! application's again once the engine has read them, whatever becomes of their callers.

use nic_engine::engine::Work;
use nic_ports::Chance;
use nic_tests::{AppSession, Ask, Done, Served, World};
use nic_wire::session::{Command, Geometry};
use nic_wire::{Fate, KernelId, Span, Status};

use crate::{Pair, session_of, under_seeds};

const SERVICE: u16 = 42;
const PIECE_BYTES: u32 = 1 << 20;

fn served(world: World) -> (Pair, AppSession) {
    let mut pair = Pair::new(world, 4096, session_of(4, PIECE_BYTES));
    let geometry =
        Geometry { receive_buffers: 4, receive_buffer_bytes: 256, ..session_of(4, PIECE_BYTES) };
    let server = pair.world.open_session(pair.target, pair.owner, geometry);
    let work = Work::Serve { client: pair.owner, session: server.id, service: SERVICE };
    pair.world.released(pair.target, work);
    (pair, server)
}

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251 + seed * 31) as u8).collect()
}

impl Pair {
    fn ask(&mut self, server: &mut AppSession) -> (u64, Served) {
        let token = self.session.submit(&Ask::call(self.remote, SERVICE, b"much", PIECE_BYTES));
        (token, self.world.next_call(server))
    }

    /// Lets some of an answer arrive, not all.
    fn begin_to_hear(&mut self) {
        let before = self.world.counters(self.initiator).replies_received;
        let Pair { world, initiator, .. } = self;
        world.run_until("a part of the answer arrives", Span::from_ms(100), |world| {
            world.counters(*initiator).replies_received > before + 3
        });
        assert!(self.session.poll().is_empty(), "there is more to come");
    }

    /// Waits until an answer is read no more.
    fn done(&mut self, server: &mut AppSession) -> Done {
        self.world.wait(server).remove(0)
    }
}

#[test]
fn answers_of_all_lengths_arrive_whole_over_bad_links() {
    under_seeds(400..403, |seed| {
        let (mut pair, mut server) = served(World::lossy(seed, Chance::percent(5)));
        for (round, length) in [1, 255, 256, 257, 1400, 65_537, 300_000, 1 << 20].iter().enumerate()
        {
            let answer = pattern(round, *length);
            let (_, call) = pair.ask(&mut server);
            server.answer_long(&call, &answer);
            assert_eq!(pair.done(&mut server).ended(), (Status::Ok, Fate::Executed));
            let done = pair.world.wait(&mut pair.session).remove(0);
            assert!(done.is_ok(), "{:?}", done.ended());
            assert!(done.reply == answer, "all bytes are alike");
        }
        let counters = pair.world.counters(pair.target);
        assert_eq!((counters.calls, counters.answers, counters.bad_commands), (8, 8, 0));
    });
}

/// Once the completion of an answer is there, its piece of the arena can be used again.
#[test]
fn an_answer_that_is_over_is_read_no_more() {
    under_seeds(410..420, |seed| {
        let (mut pair, mut server) = served(World::lossy(seed, Chance::percent(10)));
        let answer = pattern(1, 200_000);
        let (token, call) = pair.ask(&mut server);
        server.answer_long(&call, &answer);
        pair.done(&mut server);
        // The same piece, for another answer to a call of long ago.
        server.answer_long(&call, &pattern(2, 200_000));
        assert_eq!(pair.done(&mut server).status, Status::BadCommand, "its buffer is given back");
        let done = pair.world.wait(&mut pair.session).remove(0);
        assert!(done.token == token && done.is_ok() && done.reply == answer);
    });
}

#[test]
fn receive_buffers_are_free_while_long_answers_are_sent() {
    let (mut pair, mut server) = served(World::new(420));
    let mut session = pair.world.add_session(pair.initiator, session_of(8, 4096));
    let remote = pair.world.connect(&session, pair.target, pair.rkey);
    let (_, call) = pair.ask(&mut server);
    server.answer_long(&call, &pattern(1, 1 << 20));
    pair.begin_to_hear();
    for _ in 0..4 {
        session.submit(&Ask::call(remote, SERVICE, b"little", 64));
    }
    let mut calls = Vec::new();
    pair.world.run_until("all calls arrive", Span::from_ms(100), |_| {
        calls.extend(server.calls());
        calls.len() == 4
    });
    calls.iter().for_each(|call| server.answer(call, Status::Ok, b"some"));
    assert!(pair.world.wait(&mut session).iter().all(|done| done.reply == b"some"));
    assert!(pair.world.wait(&mut pair.session)[0].reply == pattern(1, 1 << 20));
}

#[test]
fn an_answer_longer_than_its_landing_place_is_told_as_such() {
    let (mut pair, mut server) = served(World::new(421));
    let ask = Ask::call(pair.remote, SERVICE, b"", 5000);
    pair.session.submit(&ask);
    let call = pair.world.next_call(&mut server);
    server.answer_long(&call, &[1; 5001]);
    let done = pair.world.wait(&mut pair.session).remove(0);
    assert_eq!(done.ended(), (Status::ReplyTooLong, Fate::Executed));
    assert_eq!(pair.done(&mut server).status, Status::Ok);
    // Or the application notices, and says so; or it has no room.
    let told = [
        (Status::ReplyTooLong, Fate::Executed),
        (Status::Busy, Fate::NotExecuted),
        (Status::ServiceFailed, Fate::Executed),
    ];
    for (status, fate) in told {
        pair.session.submit(&ask);
        let call = pair.world.next_call(&mut server);
        server.answer(&call, status, b"");
        assert_eq!(pair.world.wait(&mut pair.session)[0].ended(), (status, fate));
    }
}

#[test]
fn a_call_cancelled_while_it_is_answered_lets_the_answer_go() {
    under_seeds(430..434, |seed| {
        // Where packets are lost, the rest may be out before the cancelling is heard of.
        let lost = Chance::percent(2 * (seed % 2) as u32);
        let (mut pair, mut server) = served(World::lossy(seed, lost));
        for round in 1..=5 {
            let before = pair.world.counters(pair.target).replies_sent;
            let (token, call) = pair.ask(&mut server);
            server.answer_long(&call, &pattern(1, 1 << 20));
            pair.begin_to_hear();
            let cancel = Ask::kernel(pair.remote, KernelId::CANCEL, &token.to_le_bytes(), 0);
            pair.session.submit(&cancel);
            let over = pair.world.wait(&mut pair.session);
            let of_call = over.iter().find(|done| done.token == token).unwrap();
            assert_eq!(of_call.ended(), (Status::Cancelled, Fate::Unknown));
            assert_eq!(pair.done(&mut server).status, Status::Ok);
            pair.world.run_until_idle();
            let target = pair.world.counters(pair.target);
            let packets = target.replies_sent - before;
            if seed % 2 == 0 {
                assert!(packets < (1 << 20) / 1400, "{packets}: the rest of 1 MiB was sent");
                assert_eq!(target.calls_cancelled, round);
            }
            assert_eq!(target.ops_in, 0);
            assert_eq!(pair.world.counters(pair.initiator).ops_out, 0, "no credit is lost");
        }
        // What was given up disturbs nobody.
        let (_, call) = pair.ask(&mut server);
        server.answer_long(&call, &pattern(2, 1 << 20));
        assert!(pair.world.wait(&mut pair.session)[0].reply == pattern(2, 1 << 20));
    });
}

#[test]
fn an_answer_whose_caller_dies_or_waits_no_more_is_let_go() {
    let (mut pair, mut server) = served(World::new(440));
    // Its caller's deadline has passed when it comes.
    let hurry = Ask::call(pair.remote, SERVICE, b"", PIECE_BYTES).within(Span::from_ms(2));
    pair.session.submit(&hurry);
    let call = pair.world.next_call(&mut server);
    assert_eq!(pair.world.wait(&mut pair.session)[0].status, Status::Expired);
    pair.world.run_for(Span::from_ms(2));
    server.answer_long(&call, &pattern(1, 5000));
    assert_eq!(pair.done(&mut server).status, Status::Expired);
    // Its caller is gone for good in the midst of it.
    let (_, call) = pair.ask(&mut server);
    server.answer_long(&call, &pattern(1, 1 << 20));
    pair.begin_to_hear();
    pair.world.restart(pair.initiator, nic_tests::small_engine());
    let client = pair.world.add_client(pair.initiator);
    pair.session = pair.world.open_session(pair.initiator, client, session_of(4, PIECE_BYTES));
    pair.remote = pair.world.connect(&pair.session, pair.target, pair.rkey);
    let Pair { world, .. } = &mut pair;
    let mut over = Vec::new();
    world.run_until("the answer is let go", Span::from_ms(60_000), |_| {
        over.extend(server.poll());
        !over.is_empty()
    });
    let (_, call) = pair.ask(&mut server);
    server.answer_long(&call, &pattern(3, 300_000));
    assert!(pair.world.wait(&mut pair.session)[0].reply == pattern(3, 300_000));
}

/// A caller that takes nothing of its answers any more keeps nothing of who serves longer than it
/// said that it would wait, though its flow is not over yet.
#[test]
fn answers_that_nobody_takes_are_let_go_when_their_calls_expire() {
    let (mut pair, mut server) = served(World::new(445));
    let third = pair.world.add_host();
    let mut session = pair.world.add_session(third, session_of(4, 4096));
    let remote = pair.world.connect(&session, pair.target, pair.rkey);
    let ask = Ask::call(pair.remote, SERVICE, b"much", PIECE_BYTES).within(Span::from_ms(50));
    let mut calls = Vec::new();
    for _ in 0..4 {
        pair.session.submit(&ask);
        calls.push(pair.world.next_call(&mut server));
    }
    server.answer_long(&calls[0], &pattern(1, 1 << 20));
    pair.begin_to_hear();
    pair.world.pause(pair.initiator);
    pair.world.run_for(Span::from_ms(1));
    // They find no room behind the first.
    server.answer_long(&calls[1], &pattern(2, 5000));
    calls[2..].iter().for_each(|call| server.answer(call, Status::Ok, b"little"));
    pair.world.run_for(Span::from_ms(1));
    assert_eq!((server.out(), server.poll().len()), (2, 0), "they are still to be sent");
    pair.world.run_for(Span::from_ms(60));
    assert_eq!(server.poll().len(), 2, "both places in the arena are free");
    for _ in 0..4 {
        session.submit(&Ask::call(remote, SERVICE, b"", 64));
        let call = pair.world.next_call(&mut server);
        calls.push(call);
    }
    calls[4..].iter().for_each(|call| server.answer(call, Status::Ok, b"some"));
    assert!(pair.world.wait(&mut session).iter().all(|done| done.reply == b"some"));
    // Its calls have expired for the caller too, and it goes on where it was.
    pair.world.resume(pair.initiator);
    let over = pair.world.wait(&mut pair.session);
    assert!(over.iter().all(|done| done.status == Status::Expired), "{over:?}");
    pair.world.run_until_idle();
    let (_, call) = pair.ask(&mut server);
    server.answer_long(&call, &pattern(3, 300_000));
    assert!(pair.world.wait(&mut pair.session)[0].reply == pattern(3, 300_000));
    assert_eq!(pair.world.counters(pair.target).bad_commands, 0);
}

#[test]
fn an_answer_whose_session_closes_ends_its_call() {
    let (mut pair, mut server) = served(World::new(441));
    let (_, call) = pair.ask(&mut server);
    server.answer_long(&call, &pattern(1, 1 << 20));
    pair.begin_to_hear();
    pair.world.close_session(&server);
    let done = pair.world.wait(&mut pair.session).remove(0);
    assert_eq!(done.ended(), (Status::ServiceFailed, Fate::Executed));
    assert_eq!(pair.world.counters(pair.target).ops_in, 0);
}

/// Answers that lie outside of the arena, or answer nothing: each ends once, and as what it is.
#[test]
fn senseless_long_answers_end_and_change_nothing() {
    let (mut pair, mut server) = served(World::new(442));
    let (_, call) = pair.ask(&mut server);
    let arena = 4 * 2 * PIECE_BYTES;
    let spoilers: [fn(&mut Command); 5] = [
        |command| command.payload_offset = u32::MAX.into(),
        |command| command.payload_length = u32::MAX.into(),
        |command| command.payload_length = ((1 << 20) + 4097).into(),
        |command| command.arguments[4] ^= 1,
        |command| command.argument_length = 3,
    ];
    for spoil in spoilers {
        let mut command = server.long_answer(&call, &[1; 300]);
        spoil(&mut command);
        server.push(&command);
        assert_eq!(pair.done(&mut server).status, Status::BadCommand);
    }
    let mut command = server.long_answer(&call, &[1; 300]);
    command.payload_offset = (arena - 299).into();
    server.push(&command);
    assert_eq!(pair.done(&mut server).status, Status::BadCommand);
    assert!(pair.session.poll().is_empty(), "nothing was answered");
    assert_eq!(pair.world.counters(pair.target).bad_commands, 6);
    server.answer_long(&call, &[7; 300]);
    assert_eq!(pair.world.wait(&mut pair.session)[0].reply, [7; 300]);
}

/// An answer needs a place for its completion: without one it waits, and is not lost.
#[test]
fn an_answer_waits_for_a_place_for_its_completion() {
    let (mut pair, mut server) = served(World::new(443));
    let (_, rkey) =
        pair.world.exported_region(pair.target, pair.owner, 64, nic_kernels::Access::all());
    let remote = pair.world.connect(&server, pair.target, rkey);
    let (_, call) = pair.ask(&mut server);
    let answer = server.long_answer(&call, &[7; 300]);
    // As many ops as the session is deep are over, and their completions not taken.
    let read = server.prepare(&Ask::read(remote, 0, 8));
    (0..4).for_each(|_| server.push(&read));
    pair.world.run_for(Span::from_ms(1));
    server.push(&answer);
    pair.world.run_for(Span::from_ms(1));
    assert!(pair.session.poll().is_empty(), "the answer waits");
    assert_eq!(server.poll_raw().len(), 4);
    assert_eq!(pair.world.wait(&mut pair.session)[0].reply, [7; 300]);
    let over = server.poll_raw();
    assert_eq!(over.iter().map(|done| done.token).collect::<Vec<_>>(), [answer.token]);
}
