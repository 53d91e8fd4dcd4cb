//! Ways to other hosts: given back, named anew, and never more than there may be.

use nic_engine::engine::{Answer, Work};
use nic_tests::{Ask, World, small_engine, small_session};
use nic_wire::session::REMOTES_MAX;
use nic_wire::{Fate, Rkey, Span, Status};

use crate::Pair;

impl Pair {
    fn disconnect(&self, remotes: &[u16]) -> Work {
        let (client, session) = (self.session.client, self.session.id);
        Work::Disconnect { client, session, remotes: remotes.to_vec() }
    }

    fn connected(&mut self) -> u16 {
        self.world.connect(&self.session, self.target, self.rkey)
    }
}

#[test]
fn ways_that_are_given_back_make_room_for_others() {
    let mut pair = Pair::new(World::new(1), 4096, small_session());
    let mut ways = vec![pair.remote];
    ways.extend((1..REMOTES_MAX).map(|_| pair.connected()));
    let connect = || pair.world.connect_work(&pair.session, pair.target, pair.rkey);
    let work = connect();
    let refusal = pair.world.refused(pair.initiator, work);
    assert_eq!(refusal.status, Status::Busy);
    assert!(refusal.reason.contains("1024"), "{}", refusal.reason);

    // Thrice as many as there may be at once.
    for _ in 0..3 {
        let work = pair.disconnect(&ways);
        pair.world.released(pair.initiator, work);
        let fresh: Vec<u16> = (0..REMOTES_MAX).map(|_| pair.connected()).collect();
        assert!(fresh.iter().all(|way| !ways.contains(way)), "a name came back at once");
        ways = fresh;
    }
    let last = *ways.last().unwrap();
    assert!(pair.world.run(&mut pair.session, &Ask::fetch_add(last, 0, 1)).is_ok());
}

#[test]
fn an_op_on_a_way_that_was_given_back_is_refused_and_one_under_way_is_not() {
    let mut pair = Pair::new(World::new(2), 4096, small_session());
    let other = pair.connected();
    // One op has left, and one that was picked up waits behind it.
    pair.session.submit(&Ask::fetch_add(other, 0, 1));
    pair.world.run_for(Span::from_us(2));
    let work = pair.disconnect(&[other]);
    pair.world.released(pair.initiator, work);
    let done = pair.world.wait(&mut pair.session);
    assert!(done[0].is_ok(), "{:?}", done[0].ended());

    let refused = (Status::BadCommand, Fate::NotExecuted);
    let late = pair.world.run(&mut pair.session, &Ask::fetch_add(other, 0, 1));
    assert_eq!(late.ended(), refused);
    // The place has a new owner: the old name does not reach him.
    let successor = pair.connected();
    assert_ne!(successor, other);
    let late = pair.world.run(&mut pair.session, &Ask::fetch_add(other, 0, 1));
    assert_eq!(late.ended(), refused);
    assert!(pair.world.run(&mut pair.session, &Ask::fetch_add(successor, 0, 1)).is_ok());
    assert!(pair.world.run(&mut pair.session, &Ask::read(pair.remote, 0, 8)).is_ok());
    assert_eq!(pair.word(0), 2);

    // It is given back once, and what else stands in the list is given back all the same.
    let work = pair.disconnect(&[other, successor, 999]);
    let refusal = pair.world.refused(pair.initiator, work);
    assert!(refusal.reason.contains("2 of 3"), "{}", refusal.reason);
    let late = pair.world.run(&mut pair.session, &Ask::fetch_add(successor, 0, 1));
    assert_eq!(late.ended(), refused);
}

#[test]
fn connects_that_fail_leave_nothing_behind() {
    let engine =
        nic_engine::engine::EngineConfig { connect_timeout: Span::from_ms(5), ..small_engine() };
    let mut world = World::new(3);
    let (initiator, target) = (world.add_host_with(engine), world.add_host());
    let mut pair = Pair::of(world, initiator, target, 4096, small_session());
    let (client, session) = (pair.session.client, pair.session.id);
    for round in 0..REMOTES_MAX + 10 {
        let nowhere = std::net::SocketAddr::from(([10, 9, 9, 9], 4791));
        let rkey = Rkey::new(1, 1, 1);
        let work = Work::Connect { client, session, engine: nowhere, rkey };
        let refusal = pair.world.refused(initiator, work);
        assert_eq!(refusal.status, Status::Unreachable, "round {round}: {}", refusal.reason);
    }
    let way = pair.connected();
    assert!(pair.world.run(&mut pair.session, &Ask::read(way, 0, 8)).is_ok());
}

/// A way that nobody waits for: its ops wait for the flow, or end with the attempt to open it.
#[test]
fn a_way_is_there_before_its_flow() {
    let engine =
        nic_engine::engine::EngineConfig { connect_timeout: Span::from_ms(5), ..small_engine() };
    let mut world = World::new(5);
    let (initiator, target) = (world.add_host_with(engine), world.add_host());
    let owner = world.add_client(target);
    let (_, rkey) = world.exported_region(target, owner, 4096, nic_kernels::Access::all());
    let mut session = world.add_session(initiator, small_session());
    let way = |world: &mut World, engine| {
        let (client, session) = (session.client, session.id);
        match world.control(initiator, Work::Way { client, session, engine, rkey }) {
            Answer::Connected(remote) => remote,
            other => panic!("{other:?}"),
        }
    };
    world.pause(target);
    let address = world.address(target);
    let (there, again) = (way(&mut world, address), way(&mut world, address));
    let nowhere = way(&mut world, std::net::SocketAddr::from(([10, 9, 9, 9], 4791)));
    session.submit(&Ask::fetch_add(there, 0, 1));
    session.submit(&Ask::fetch_add(again, 0, 1));
    world.run_for(Span::from_ms(1));
    assert!(session.poll().is_empty(), "the flow is not up");
    world.resume(target);
    let done = world.wait(&mut session);
    assert!(done.iter().all(|done| done.is_ok()), "{done:?}");
    assert_eq!(world.counters(initiator).flows_opened, 1);
    // The attempt is made anew for each op that finds no flow.
    for _ in 0..3 {
        let done = world.run(&mut session, &Ask::fetch_add(nowhere, 0, 1));
        assert_eq!(done.ended(), (Status::Unreachable, Fate::NotExecuted));
    }
}

/// One application cannot keep all flows by naming engines that do not answer.
#[test]
fn few_flows_are_being_opened_for_one_application() {
    let engine = nic_engine::engine::EngineConfig {
        connect_timeout: Span::from_ms(50),
        flows: 32,
        ..small_engine()
    };
    let mut world = World::new(6);
    let (initiator, target) = (world.add_host_with(engine), world.add_host());
    let mut pair = Pair::of(world, initiator, target, 4096, small_session());
    let greedy = pair.world.add_session(initiator, small_session());
    let rkey = pair.rkey;
    let mut way = |number| {
        let nowhere = std::net::SocketAddr::from(([10, 9, 9, number], 4791));
        let (client, session) = (greedy.client, greedy.id);
        pair.world.control(initiator, Work::Way { client, session, engine: nowhere, rkey })
    };
    for number in 1..=8 {
        assert!(matches!(way(number), Answer::Connected(_)), "number {number}");
    }
    for number in 9..=64 {
        match way(number) {
            Answer::Refused(refusal) => {
                assert_eq!(refusal.status, Status::Busy);
                assert!(refusal.reason.contains("8 flows"), "{}", refusal.reason);
            }
            other => panic!("{number}: {other:?}"),
        }
    }
    assert!(matches!(way(8), Answer::Connected(_)), "its flow is being opened already");
    // Others are not in its way, and it may go on when its attempts are over.
    let third = pair.world.add_host();
    let owner = pair.world.add_client(third);
    let (_, there) = pair.world.exported_region(third, owner, 64, nic_kernels::Access::all());
    let way = pair.world.connect(&pair.session, third, there);
    assert!(pair.world.run(&mut pair.session, &Ask::read(way, 0, 8)).is_ok());
    pair.world.run_for(Span::from_ms(100));
    let way = pair.world.connect(&greedy, third, there);
    let mut greedy = greedy;
    assert!(pair.world.run(&mut greedy, &Ask::read(way, 0, 8)).is_ok());
}

/// Others' ways cannot be given back.
#[test]
fn only_the_owner_gives_a_way_back() {
    let mut pair = Pair::new(World::new(4), 4096, small_session());
    let stranger = pair.world.add_client(pair.initiator);
    let (session, remotes) = (pair.session.id, vec![pair.remote]);
    let work = Work::Disconnect { client: stranger, session, remotes };
    match pair.world.control(pair.initiator, work) {
        Answer::Refused(refusal) => assert_eq!(refusal.status, Status::BadCommand),
        other => panic!("{other:?}"),
    }
    assert!(pair.world.run(&mut pair.session, &Ask::read(pair.remote, 0, 8)).is_ok());
}
