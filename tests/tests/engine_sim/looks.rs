//! What an engine tells of its live ops to who looks for what is stuck.

use nic_engine::engine::{Answer, EngineConfig, Live, LiveState, Work};
use nic_tests::{Ask, HostId, World, small_engine};
use nic_wire::session::Geometry;
use nic_wire::{KernelId, Span};

use crate::{Pair, session_of};

const SERVICE: u16 = 1;

fn look(world: &mut World, host: HostId, older_than: Span) -> Live {
    let live = Box::new(Live::with_room(older_than));
    match world.control(host, Work::Look { live }) {
        Answer::Seen(live) => *live,
        other => panic!("{other:?} where what is live was expected"),
    }
}

/// A pair whose target has two credits to give, and a service that never answers.
fn two_credits() -> (Pair, u16) {
    let few = EngineConfig { op_credits: 2, ..small_engine() };
    let mut world = World::new(700);
    let (initiator, target) = (world.add_host(), world.add_host_with(few));
    let mut pair = Pair::of(world, initiator, target, 4096, session_of(16, 4096));
    let buffers =
        Geometry { receive_buffers: 2, receive_buffer_bytes: 2048, ..session_of(8, 4096) };
    let server = pair.world.open_session(target, pair.owner, buffers);
    let serve = Work::Serve { client: pair.owner, session: server.id, service: SERVICE };
    pair.world.released(target, serve);
    (pair, server.id as u16)
}

#[test]
fn each_op_is_seen_where_it_stands() {
    let (mut pair, server) = two_credits();
    let (initiator, target) = (pair.initiator, pair.target);
    let (long, short) = (Span::from_ms(60_000), Span::from_ms(50));
    let call = Ask::call(pair.remote, SERVICE, b"?", 64).within(long);
    let call = pair.session.submit(&call);
    let fenced = pair.session.submit(&Ask::read(pair.remote, 0, 8).fenced().within(short));
    let third = pair.session.submit(&Ask::fetch_add(pair.remote, 0, 1).within(long));
    pair.world.run_for(Span::from_ms(10));

    let live = look(&mut pair.world, initiator, Span::ZERO);
    let [flow] = &live.flows[..] else { panic!("{live:?}") };
    assert_eq!((flow.peer, flow.initiates), (pair.world.address(target), true));
    assert_eq!((flow.is_open, flow.ops, flow.ops_max), (true, 2, 2));
    assert!(flow.round_trip_ns.is_some() && flow.heard_ns <= flow.age_ns, "{flow:?}");
    assert_eq!((live.sessions.len(), live.sessions[0].ops), (1, 3));
    let out = live.ops_out.into_vec();
    let of = |token| out.iter().find(|op| op.token == token).unwrap();
    let states = [call, fenced, third].map(|token| of(token).state);
    assert_eq!(states, [LiveState::Out, LiveState::Out, LiveState::Waiting]);
    assert_eq!(KernelId(of(third).kernel), KernelId::FETCH_ADD);
    assert!(of(fenced).deadline_in_ns.unwrap() < short.as_ns());
    assert!(out.iter().all(|op| op.age_ns >= 9_000_000), "{out:?}");

    let there = look(&mut pair.world, target, Span::ZERO);
    assert_eq!((there.flows[0].initiates, there.flows[0].ops), (false, 2));
    let mut held = there.ops_in.into_vec();
    held.sort_by_key(|op| op.kernel);
    let held: Vec<_> = held.iter().map(|op| (KernelId(op.kernel), op.state, op.session)).collect();
    let called = (KernelId::CALL, LiveState::Called, Some(server));
    assert_eq!(held, [called, (KernelId::READ, LiveState::Fenced, None)]);
}

#[test]
fn an_op_that_has_ended_is_seen_as_long_as_it_holds_a_credit() {
    let (mut pair, _) = two_credits();
    let (initiator, target) = (pair.initiator, pair.target);
    let (left, right) = (pair.world.address(initiator).ip(), pair.world.address(target).ip());
    pair.world.network.partition(left, right);
    let short = Span::from_ms(20);
    let gone = pair.session.submit(&Ask::fetch_add(pair.remote, 0, 1).within(short));
    pair.world.run_for(Span::from_ms(60));
    assert_eq!(pair.session.poll().len(), 1, "it has expired");
    let live = look(&mut pair.world, initiator, Span::ZERO);
    assert_eq!((live.sessions[0].ops, live.flows[0].ops), (0, 1));
    let out = live.ops_out.into_vec();
    let found = (out.len(), out[0].token, out[0].state, out[0].deadline_in_ns);
    assert_eq!(found, (1, gone, LiveState::Abandoned, None));
    let old = look(&mut pair.world, initiator, Span::from_ms(1_000));
    assert!(old.ops_out.into_vec().is_empty(), "it is younger than that");
    pair.world.network.heal(left, right);
    pair.world.run_until_idle();
    let after = look(&mut pair.world, initiator, Span::ZERO);
    assert!(after.ops_out.into_vec().is_empty() && after.flows[0].ops == 0);
}
