//! Ops that are cancelled: they end at once and for good, and who serves a call hears of it.

use nic_engine::engine::{EngineConfig, Work};
use nic_kernels::fetch;
use nic_kernels::log::Log;
use nic_ports::Chance;
use nic_tests::{AppSession, Ask, Done, World, small_engine};
use nic_wire::session::{Geometry, ReceiveFlags};
use nic_wire::{Fate, KernelId, Span, Status};

use crate::{Pair, session_of, under_seeds};

const SERVICE: u16 = 41;

fn served(world: World) -> (Pair, AppSession) {
    let mut pair = Pair::new(world, 4096, session_of(16, 8192));
    let geometry =
        Geometry { receive_buffers: 4, receive_buffer_bytes: 2048, ..session_of(8, 4096) };
    let server = pair.world.open_session(pair.target, pair.owner, geometry);
    let work = Work::Serve { client: pair.owner, session: server.id, service: SERVICE };
    pair.world.released(pair.target, work);
    (pair, server)
}

impl Pair {
    fn cancel(&mut self, token: u64) -> u64 {
        let cancel = Ask::kernel(self.remote, KernelId::CANCEL, &token.to_le_bytes(), 0);
        self.session.submit(&cancel)
    }

    /// Waits until so many ops are over.
    fn over(&mut self, count: usize) -> Vec<Done> {
        let mut over = Vec::new();
        let Pair { world, session, .. } = self;
        world.run_until("the ops are over", Span::from_ms(500), |_| {
            over.extend(session.poll());
            over.len() >= count
        });
        assert_eq!(over.len(), count, "each op ends once");
        over
    }
}

fn end_of(over: &[Done], token: u64) -> (Status, Fate) {
    over.iter().find(|done| done.token == token).unwrap().ended()
}

#[test]
fn a_call_in_hand_ends_and_its_server_is_told() {
    under_seeds(300..303, |seed| {
        let (mut pair, mut server) = served(World::lossy(seed, Chance::percent(5)));
        for round in 1..=20 {
            let kept = pair.session.submit(&Ask::call(pair.remote, SERVICE, b"kept", 64));
            let first = pair.world.next_call(&mut server);
            let given_up = pair.session.submit(&Ask::call(pair.remote, SERVICE, b"not", 64));
            let second = pair.world.next_call(&mut server);
            let cancel = pair.cancel(given_up);
            let over = pair.over(2);
            assert_eq!(end_of(&over, given_up), (Status::Cancelled, Fate::Unknown));
            assert_eq!(end_of(&over, cancel), (Status::Ok, Fate::Executed));
            let told = pair.world.next_call(&mut server);
            assert_eq!(told.slot.flags.get(), ReceiveFlags::CANCELLED.bits());
            assert_eq!(told.slot.call, second.slot.call, "of that call, not of the other");
            server.answer(&second, Status::Ok, b"too late");
            server.answer(&first, Status::Ok, b"in time");
            assert_eq!(end_of(&pair.over(1), kept), (Status::Ok, Fate::Executed));
            pair.world.run_until_idle();
            let target = pair.world.counters(pair.target);
            assert_eq!((target.calls_cancelled, target.late_answers), (round, round));
            assert_eq!((target.ops_in, target.notices_dropped, target.bad_commands), (0, 0, 0));
            assert_eq!(pair.world.counters(pair.initiator).ops_out, 0, "no credit is lost");
        }
    });
}

#[test]
fn an_op_that_has_not_left_never_leaves() {
    let (mut pair, mut server) = served(World::new(310));
    let call = pair.session.submit(&Ask::call(pair.remote, SERVICE, b"", 64));
    let cancel = pair.cancel(call);
    let over = pair.over(2);
    assert_eq!(end_of(&over, call), (Status::Cancelled, Fate::NotExecuted));
    assert_eq!(end_of(&over, cancel), (Status::Ok, Fate::Executed));
    pair.world.run_until_idle();
    assert!(server.calls().is_empty());
    let initiator = pair.world.counters(pair.initiator);
    assert_eq!((initiator.requests_sent, initiator.cancelled), (0, 1));
}

#[test]
fn ops_that_are_out_end_and_what_comes_late_touches_nothing() {
    let (mut pair, _server) = served(World::new(311));
    pair.memory.write(0, &[7; 512]).unwrap();
    pair.world.pause(pair.target);
    let read = pair.session.submit(&Ask::read(pair.remote, 0, 512));
    let add = pair.session.submit(&Ask::fetch_add(pair.remote, 1024, 1));
    pair.world.run_for(Span::from_us(50));
    for (token, fate) in [(read, Fate::NotExecuted), (add, Fate::Unknown)] {
        let cancel = pair.cancel(token);
        let over = pair.over(2);
        assert_eq!(end_of(&over, token), (Status::Cancelled, fate));
        assert_eq!(end_of(&over, cancel), (Status::Ok, Fate::Executed));
    }
    let before = pair.session.landing_place(read);
    pair.world.resume(pair.target);
    pair.world.run_until_idle();
    assert_eq!(pair.session.landing_place(read), before);
    assert!(before != [7; 512]);
    assert!(pair.session.poll().is_empty(), "nothing ends twice");
    assert_eq!(pair.world.counters(pair.initiator).ops_out, 0);
    assert_eq!(pair.word(1024), 0, "the target heard of it in time");
}

/// A reply is on its way when its op is cancelled.
#[test]
fn what_was_answered_before_its_op_was_cancelled_touches_nothing() {
    let (mut pair, _server) = served(World::new(313));
    pair.memory.write(0, &[7; 512]).unwrap();
    let read = pair.session.submit(&Ask::read(pair.remote, 0, 512));
    let add = pair.session.submit(&Ask::fetch_add(pair.remote, 1024, 1));
    let Pair { world, target, .. } = &mut pair;
    world.run_until("both are answered", Span::from_ms(1), |world| {
        world.counters(*target).replies_sent == 2
    });
    let before = pair.session.landing_place(read);
    let cancels = [read, add].map(|token| pair.cancel(token));
    let over = pair.over(4);
    assert_eq!(end_of(&over, read), (Status::Cancelled, Fate::NotExecuted));
    assert!(cancels.iter().all(|cancel| end_of(&over, *cancel).0 == Status::Ok));
    pair.world.run_until_idle();
    assert_eq!(pair.session.landing_place(read), before);
    assert!(before != [7; 512]);
    let counters = pair.world.counters(pair.initiator);
    assert_eq!((counters.ops_out, pair.word(1024)), (0, 1));
}

/// The place where a reply was landing is its application's from the completion on: what of the reply
/// still comes does not touch the next op's.
#[test]
fn a_landing_place_is_used_again_as_soon_as_its_op_is_cancelled() {
    const BYTES: u32 = 1 << 18;
    under_seeds(320..323, |seed| {
        let world = World::lossy(seed, Chance::percent(5));
        let mut pair = Pair::new(world, 2 * u64::from(BYTES), session_of(2, BYTES));
        pair.memory.fill(0, BYTES.into(), 1).unwrap();
        pair.memory.fill(BYTES.into(), BYTES.into(), 2).unwrap();
        for round in 0..8 {
            let before = pair.world.counters(pair.initiator).replies_received;
            let given_up = pair.session.submit(&Ask::read(pair.remote, 0, BYTES));
            let Pair { world, initiator, .. } = &mut pair;
            world.run_until("some of the reply arrives", Span::from_ms(500), |world| {
                world.counters(*initiator).replies_received > before + 1 + 11 * round
            });
            pair.cancel(given_up);
            let over = pair.over(2);
            assert_eq!(end_of(&over, given_up), (Status::Cancelled, Fate::NotExecuted));
            // The application writes there, and the rest of the reply arrives.
            let next = pair.session.prepare(&Ask::read(pair.remote, BYTES.into(), BYTES));
            assert_eq!(next.token.get() as u16, given_up as u16, "it is the same place");
            let before = pair.session.landing_place(given_up);
            pair.world.run_until_idle();
            assert!(pair.session.landing_place(given_up) == before, "round {round}");
            pair.session.push(&next);
            let done = pair.over(1).remove(0);
            assert!(done.is_ok() && done.reply == vec![2; BYTES as usize], "round {round}");
        }
    });
}

#[test]
fn cancelling_what_is_over_or_never_was_changes_nothing() {
    let (mut pair, _server) = served(World::new(312));
    let read = pair.session.submit(&Ask::read(pair.remote, 0, 8));
    assert!(pair.over(1)[0].is_ok());
    for token in [read, 12345, u64::MAX] {
        let cancel = pair.cancel(token);
        assert_eq!(end_of(&pair.over(1), cancel), (Status::Ok, Fate::Executed));
    }
    let senseless = Ask::kernel(pair.remote, KernelId::CANCEL, &[1, 2, 3], 0);
    let done = pair.world.run(&mut pair.session, &senseless);
    assert_eq!(done.ended(), (Status::BadCommand, Fate::NotExecuted));
    let counters = pair.world.counters(pair.initiator);
    assert_eq!((counters.cancelled, counters.requests_sent), (0, 1));
}

/// Credits of the pairs below.
const WINDOW: u32 = 16;
/// A deadline that no test reaches.
const FAR: Span = Span::from_ms(600_000);

/// A pair with few credits and few bytes on their way, and a session that asks for more.
fn narrow(mut world: World) -> Pair {
    let few = EngineConfig {
        op_credits: WINDOW as u16,
        congestion_window_bytes: 8 << 10,
        ..small_engine()
    };
    let (initiator, target) = (world.add_host_with(few.clone()), world.add_host_with(few));
    Pair::of(world, initiator, target, 64 << 10, session_of(4 * WINDOW, 64 << 10))
}

impl Pair {
    /// Cancels a full window of such ops again and again, behind which one always waits: it goes on
    /// as soon as the target has heard of it.
    fn cancel_windows(&mut self, mut ask: impl FnMut(u32) -> Ask, rounds: u32) {
        for round in 0..rounds {
            let given_up: Vec<u64> =
                (0..WINDOW).map(|place| self.session.submit(&ask(place).within(FAR))).collect();
            self.world.run_for(Span::from_us(200));
            let add = Ask::fetch_add(self.remote, 0, 1).in_stream(1).within(FAR);
            let behind = self.session.submit(&add);
            self.world.run_for(Span::from_us(200));
            assert!(self.session.poll().is_empty(), "without credit nothing goes on");
            for token in &given_up {
                self.cancel(*token);
            }
            let over = self.over(2 * WINDOW as usize + 1);
            assert_eq!(end_of(&over, behind), (Status::Ok, Fate::Executed));
            let is_cancelled = |token| end_of(&over, token).0 == Status::Cancelled;
            assert!(given_up.into_iter().all(is_cancelled));
            let done = over.iter().find(|done| done.token == behind).unwrap();
            assert_eq!(done.word(), u64::from(round));
        }
        self.world.run_until_idle();
        let [initiator, target] =
            [self.initiator, self.target].map(|host| self.world.counters(host));
        assert_eq!((initiator.ops_out, target.ops_in), (0, 0), "nothing is kept");
        assert_eq!((initiator.expired, target.cancels_dropped), (0, 0));
    }
}

#[test]
fn credits_come_back_of_fetches_that_are_cancelled_while_they_wait() {
    under_seeds(320..323, |seed| {
        let mut pair = narrow(World::lossy(seed, Chance::percent(5)));
        Log::format(pair.memory.clone(), 4096, 8192).unwrap();
        let arguments = fetch::Arguments::home(4096, 0, u32::MAX).encode();
        let fetch = Ask::kernel(pair.remote, KernelId::FETCH, &arguments, 4096);
        pair.cancel_windows(|_| fetch.clone(), 5);
        let target = pair.world.counters(pair.target);
        assert_eq!(target.ops_cancelled, 5 * u64::from(WINDOW));
    });
}

/// What has not left of their payloads never does.
#[test]
fn credits_come_back_of_writes_that_are_cancelled_half_way() {
    let mut pair = narrow(World::new(330));
    let payload = vec![7; 32 << 10];
    for _ in 0..20 {
        let write = Ask::write(pair.remote, 1024, &payload).within(FAR);
        let tokens = [(); 2].map(|()| pair.session.submit(&write));
        let Pair { world, initiator, .. } = &mut pair;
        let before = world.counters(*initiator).requests_sent;
        world.run_until("the first begins to leave", Span::from_ms(1), |world| {
            world.counters(*initiator).requests_sent > before
        });
        for token in tokens {
            pair.cancel(token);
        }
        let over = pair.over(4);
        assert_eq!(end_of(&over, tokens[0]), (Status::Cancelled, Fate::Unknown));
        assert_eq!(end_of(&over, tokens[1]), (Status::Cancelled, Fate::NotExecuted));
    }
    pair.world.run_until_idle();
    let [initiator, target] = [pair.initiator, pair.target].map(|host| pair.world.counters(host));
    assert_eq!((initiator.ops_out, target.ops_in, initiator.expired), (0, 0, 0));
    assert_eq!(target.ops_cancelled, 20);
    assert!(pair.world.run(&mut pair.session, &Ask::read(pair.remote, 0, 8)).is_ok());
}

/// A fence is held up neither by what was cancelled before it, nor when it is cancelled itself.
#[test]
fn fences_go_on_behind_what_is_cancelled() {
    let (mut pair, mut server) = served(World::new(331));
    let call = pair.session.submit(&Ask::call(pair.remote, SERVICE, b"", 64).within(FAR));
    let add = Ask::fetch_add(pair.remote, 0, 1).fenced().within(FAR);
    let [first, second] = [(); 2].map(|()| pair.session.submit(&add));
    pair.world.next_call(&mut server);
    pair.world.run_for(Span::from_us(200));
    pair.cancel(first);
    assert_eq!(end_of(&pair.over(2), first), (Status::Cancelled, Fate::Unknown));
    pair.world.run_for(Span::from_us(200));
    assert_eq!((pair.session.poll().len(), pair.word(0)), (0, 0));
    pair.cancel(call);
    let over = pair.over(3);
    assert_eq!(end_of(&over, second), (Status::Ok, Fate::Executed));
    pair.world.run_until_idle();
    assert_eq!((pair.word(0), pair.world.counters(pair.initiator).ops_out), (1, 0));
}

/// Who closes a session leaves nothing at targets.
#[test]
fn credits_come_back_of_a_session_that_closes() {
    let mut pair = narrow(World::new(332));
    Log::format(pair.memory.clone(), 4096, 8192).unwrap();
    let arguments = fetch::Arguments::home(4096, 0, u32::MAX).encode();
    let mut other = pair.world.add_session(pair.initiator, session_of(4, 4096));
    let remote = pair.world.connect(&other, pair.target, pair.rkey);
    for _ in 0..2 * WINDOW {
        let fetch = Ask::kernel(pair.remote, KernelId::FETCH, &arguments, 4096);
        pair.session.submit(&fetch.within(FAR));
    }
    pair.world.run_for(Span::from_us(200));
    assert_eq!(pair.world.counters(pair.target).ops_in, u64::from(WINDOW));
    let work = Work::CloseSession { client: pair.session.client, session: pair.session.id };
    pair.world.released(pair.initiator, work);
    assert!(pair.world.run(&mut other, &Ask::read(remote, 0, 8)).is_ok());
    pair.world.run_until_idle();
    let [initiator, target] = [pair.initiator, pair.target].map(|host| pair.world.counters(host));
    assert_eq!((initiator.ops_out, target.ops_in, initiator.expired), (0, 0, 0));
}

/// One cancel is looked for in a turn: whoever always has another does not take all turns.
#[test]
fn whoever_cancels_without_end_leaves_turns_to_others() {
    let mut pair = Pair::new(World::new(333), 4096, session_of(16, 4096));
    let mut others = [(); 2].map(|()| {
        let session = pair.world.add_session(pair.initiator, session_of(4, 4096));
        let remote = pair.world.connect(&session, pair.target, pair.rkey);
        (session, remote)
    });
    let senseless = Ask::kernel(pair.remote, KernelId::CANCEL, &u64::MAX.to_le_bytes(), 0);
    for round in 1..=20 {
        for (session, remote) in &mut others {
            let cancel = Ask::kernel(*remote, KernelId::CANCEL, &u64::MAX.to_le_bytes(), 0);
            session.submit(&cancel);
            session.submit(&cancel);
            session.submit(&Ask::fetch_add(*remote, 0, 1));
        }
        let mut over = 0;
        for _ in 0..200 {
            pair.session.poll();
            while pair.session.has_room() {
                pair.session.submit(&senseless);
            }
            pair.world.step();
            over += others.iter_mut().map(|(session, _)| session.poll().len()).sum::<usize>();
        }
        assert_eq!((over, pair.word(0)), (6, 2 * round), "round {round}");
    }
}
