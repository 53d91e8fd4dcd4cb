//! CALL: a request goes to a session of the target's application, which answers when it likes.

use nic_engine::engine::Work;
use nic_kernels::Access;
use nic_ports::Chance;
use nic_tests::{AppSession, Ask, Served, World};
use nic_wire::session::{AnswerArguments, Geometry};
use nic_wire::{Fate, Span, Status};

use crate::{Pair, session_of, under_seeds};

const SERVICE: u16 = 40;
const BUFFERS: u32 = 4;
const BUFFER_BYTES: u32 = 2048;

/// A pair whose target's application serves calls.
struct Service {
    pair: Pair,
    server: AppSession,
}

fn service(world: World) -> Service {
    let mut pair = Pair::new(world, 4096, session_of(16, 8192));
    let server = server_session(&mut pair);
    serve(&mut pair, &server, SERVICE);
    Service { pair, server }
}

fn server_session(pair: &mut Pair) -> AppSession {
    let geometry = Geometry {
        receive_buffers: BUFFERS,
        receive_buffer_bytes: BUFFER_BYTES,
        ..session_of(8, 4096)
    };
    pair.world.open_session(pair.target, pair.owner, geometry)
}

fn serve(pair: &mut Pair, server: &AppSession, service: u16) {
    let work = Work::Serve { client: pair.owner, session: server.id, service };
    pair.world.released(pair.target, work);
}

fn call(service: &Service, request: &[u8]) -> Ask {
    Ask::call(service.pair.remote, SERVICE, request, 4096)
}

#[test]
fn calls_are_answered() {
    under_seeds(90..93, |seed| {
        let mut service = service(World::lossy(seed, Chance::percent(5)));
        let mut answered = 0u32;
        while answered < 100 {
            let requests: Vec<Vec<u8>> = (0..3)
                .map(|n| vec![(answered + n) as u8; 1 + (answered + n) as usize * 9])
                .collect();
            let mut tokens = Vec::new();
            for request in &requests {
                let ask = call(&service, request);
                tokens.push(service.pair.session.submit(&ask));
            }
            let mut served = 0;
            let mut done = Vec::new();
            let end = service.pair.world.now() + Span::from_ms(900);
            while done.len() < 3 {
                assert!(service.pair.world.now() < end);
                service.pair.world.step();
                for call in service.server.calls() {
                    served += 1;
                    assert_eq!(call.slot.service.get(), SERVICE);
                    assert_eq!(call.slot.answer_capacity.get(), 4096);
                    assert!((1..=1_000_000).contains(&call.slot.budget_us.get()));
                    let mut answer = call.request.clone();
                    answer.reverse();
                    answer.push(0xaa);
                    service.server.answer(&call, Status::Ok, &answer);
                }
                done.extend(service.pair.session.poll());
            }
            assert_eq!(served, 3, "each call is delivered once");
            for (token, request) in tokens.iter().zip(&requests) {
                let done = done.iter().find(|done| done.token == *token).unwrap();
                assert!(done.is_ok(), "{:?}", done.ended());
                assert_eq!(done.reply.len(), request.len() + 1);
                assert!(done.reply[..request.len()] == request[..], "all bytes are alike");
            }
            answered += 3;
        }
        let counters = service.pair.world.counters(service.pair.target);
        assert_eq!((counters.calls, counters.answers, counters.late_answers), (102, 102, 0));
    });
}

#[test]
fn a_handler_may_fail_and_answers_may_be_too_long() {
    let mut service = service(World::new(1));
    let ask = call(&service, b"please");
    service.pair.session.submit(&ask);
    let taken = service.pair.world.next_call(&mut service.server);
    service.server.answer(&taken, Status::ServiceFailed, b"ignored");
    let done = service.pair.world.wait(&mut service.pair.session).remove(0);
    assert_eq!(done.ended(), (Status::ServiceFailed, Fate::Executed));

    let small = Ask { reply_capacity: 3, ..ask };
    service.pair.session.submit(&small);
    let taken = service.pair.world.next_call(&mut service.server);
    service.server.answer(&taken, Status::Ok, b"four");
    let done = service.pair.world.wait(&mut service.pair.session).remove(0);
    assert_eq!(done.ended(), (Status::ReplyTooLong, Fate::Executed));
}

#[test]
fn a_call_that_expires_and_its_late_answer() {
    let mut service = service(World::new(2));
    let ask = call(&service, b"hurry").within(Span::from_ms(2));
    for round in 0..3 * u64::from(BUFFERS) {
        service.pair.session.submit(&ask);
        let taken = service.pair.world.next_call(&mut service.server);
        let done = service.pair.world.wait(&mut service.pair.session).remove(0);
        assert_eq!(done.ended(), (Status::Expired, Fate::Unknown));
        service.pair.world.run_for(Span::from_ms(2));
        service.server.answer(&taken, Status::Ok, b"too late");
        service.pair.world.run_for(Span::from_ms(1));
        let counters = service.pair.world.counters(service.pair.target);
        assert_eq!(counters.late_answers, round + 1, "a late answer gives its buffer back");
        assert_eq!((counters.ops_in, counters.bad_commands), (0, 0));
    }
    assert_eq!(service.pair.world.counters(service.pair.initiator).ops_out, 0);
}

#[test]
fn nobody_serves() {
    let mut service = service(World::new(3));
    let unknown = Ask::call(service.pair.remote, SERVICE + 1, b"", 8);
    let done = service.pair.world.run(&mut service.pair.session, &unknown);
    assert_eq!(done.ended(), (Status::NoService, Fate::NotExecuted));

    // An export that does not allow calls.
    let Service { pair, .. } = &mut service;
    let (_, rkey) = pair.world.exported_region(pair.target, pair.owner, 64, Access::READ);
    let remote = pair.world.connect(&pair.session, pair.target, rkey);
    let done = pair.world.run(&mut pair.session, &Ask::call(remote, SERVICE, b"", 8));
    assert_eq!(done.ended(), (Status::Denied, Fate::NotExecuted));

    // Another application's service is another application's.
    let other = pair.world.add_client(pair.target);
    let (_, rkey) = pair.world.exported_region(pair.target, other, 64, Access::all());
    let remote = pair.world.connect(&pair.session, pair.target, rkey);
    let done = pair.world.run(&mut pair.session, &Ask::call(remote, SERVICE, b"", 8));
    assert_eq!(done.ended(), (Status::NoService, Fate::NotExecuted));
    assert_eq!(pair.world.counters(pair.target).calls, 0);
}

#[test]
fn calls_beyond_the_receive_buffers_find_the_service_busy() {
    let mut service = service(World::new(4));
    let ask = call(&service, b"one of many");
    for _ in 0..BUFFERS + 3 {
        service.pair.session.submit(&ask);
    }
    let mut calls: Vec<Served> = Vec::new();
    let Service { pair, server } = &mut service;
    pair.world.run_for(Span::from_ms(1));
    calls.extend(server.calls());
    assert_eq!(calls.len(), BUFFERS as usize);
    let refused = pair.session.poll();
    assert_eq!(refused.len(), 3);
    let busy = (Status::Busy, Fate::NotExecuted);
    assert!(refused.iter().all(|done| done.ended() == busy), "{refused:?}");
    for call in &calls {
        server.answer(call, Status::Ok, b"done");
    }
    let done = pair.world.wait(&mut pair.session);
    assert!(done.len() == BUFFERS as usize && done.iter().all(|done| done.reply == b"done"));
    // The buffers are free again.
    pair.session.submit(&ask);
    let taken = pair.world.next_call(server);
    server.answer(&taken, Status::Ok, b"and again");
    assert_eq!(pair.world.wait(&mut pair.session)[0].reply, b"and again");
}

#[test]
fn requests_that_do_not_fit() {
    let mut service = service(World::new(5));
    let Service { pair, server } = &mut service;
    // One packet is the most that a request may take.
    let fits = 1400 - 64 - 48 - 8;
    pair.session.submit(&Ask::call(pair.remote, SERVICE, &vec![1; fits], 8));
    let taken = pair.world.next_call(server);
    assert_eq!(taken.request, vec![1; fits]);
    server.answer(&taken, Status::Ok, b"");
    assert!(pair.world.wait(&mut pair.session)[0].is_ok());
    let done =
        pair.world.run(&mut pair.session, &Ask::call(pair.remote, SERVICE, &vec![1; fits + 1], 8));
    assert_eq!(done.ended(), (Status::BadCommand, Fate::NotExecuted));
}

#[test]
fn the_serving_session_closes() {
    let mut service = service(World::new(6));
    let ask = call(&service, b"who is there");
    let Service { pair, server } = &mut service;
    for _ in 0..3 {
        pair.session.submit(&ask);
    }
    pair.world.run_for(Span::from_us(200));
    let calls = server.calls();
    assert_eq!(calls.len(), 3);
    // One is answered, and its answer may or may not have been read when the session closes.
    server.answer(&calls[0], Status::Ok, b"me");
    pair.world.close_session(server);
    let done = pair.world.wait(&mut pair.session);
    for done in &done {
        let failed = done.ended() == (Status::ServiceFailed, Fate::Unknown);
        assert!(failed || done.is_ok() && done.reply == b"me", "{:?}", done.ended());
    }
    assert!(done.iter().filter(|done| !done.is_ok()).count() >= 2);
    let done = pair.world.run(&mut pair.session, &ask);
    assert_eq!(done.ended(), (Status::NoService, Fate::NotExecuted));
    let next = server_session(pair);
    serve(pair, &next, SERVICE);
    let mut next = next;
    pair.session.submit(&ask);
    let taken = pair.world.next_call(&mut next);
    next.answer(&taken, Status::Ok, b"somebody else");
    assert_eq!(pair.world.wait(&mut pair.session)[0].reply, b"somebody else");
}

#[test]
fn the_caller_dies_before_the_answer() {
    let mut service = service(World::new(7));
    let ask = call(&service, b"are you there").within(Span::from_ms(50));
    let Service { pair, server } = &mut service;
    for _ in 0..BUFFERS {
        pair.session.submit(&ask);
    }
    pair.world.run_for(Span::from_us(200));
    let calls = server.calls();
    assert_eq!(calls.len(), BUFFERS as usize);
    pair.world.restart(pair.initiator, nic_tests::small_engine());
    for call in &calls[..2] {
        server.answer(call, Status::Ok, b"yes");
    }
    pair.world.run_for(Span::from_ms(100));
    for call in &calls[2..] {
        server.answer(call, Status::Ok, b"late");
    }
    pair.world.run_for(Span::from_ms(5_000));
    let client = pair.world.add_client(pair.initiator);
    pair.session = pair.world.open_session(pair.initiator, client, session_of(16, 8192));
    pair.remote = pair.world.connect(&pair.session, pair.target, pair.rkey);
    for _ in 0..BUFFERS {
        pair.session.submit(&Ask::call(pair.remote, SERVICE, b"again", 64));
    }
    pair.world.run_for(Span::from_us(200));
    let calls = server.calls();
    assert_eq!(calls.len(), BUFFERS as usize, "no buffer stayed with the dead");
    calls.iter().for_each(|call| server.answer(call, Status::Ok, b"yes"));
    assert!(pair.world.wait(&mut pair.session).iter().all(|done| done.reply == b"yes"));
}

/// Answers that name no call, another's buffer, or more bytes than a buffer has.
#[test]
fn senseless_answers_are_counted_and_change_nothing() {
    let mut service = service(World::new(8));
    let ask = call(&service, b"hello");
    let Service { pair, server } = &mut service;
    pair.session.submit(&ask);
    let taken = pair.world.next_call(server);
    let slot = taken.slot;
    let good = AnswerArguments {
        call: slot.call,
        buffer: slot.buffer,
        length: 5.into(),
        status: Status::Ok.code().into(),
    };
    let senseless = [
        AnswerArguments { call: (slot.call.get() ^ 0x10_0000).into(), buffer: 77.into(), ..good },
        AnswerArguments { buffer: (slot.buffer.get() ^ 1).into(), ..good },
        AnswerArguments { length: (BUFFER_BYTES + 1).into(), ..good },
        AnswerArguments { length: u32::MAX.into(), ..good },
    ];
    for answer in &senseless {
        server.push_answer(answer);
    }
    pair.world.run_for(Span::from_ms(1));
    assert!(pair.session.poll().is_empty(), "nothing was answered");
    let counters = pair.world.counters(pair.target);
    assert_eq!((counters.bad_commands, counters.late_answers), (4, 1));
    server.push_answer(&good);
    let done = pair.world.wait(&mut pair.session).remove(0);
    assert_eq!((done.is_ok(), &done.reply[..]), (true, &b"hello"[..]));
}
