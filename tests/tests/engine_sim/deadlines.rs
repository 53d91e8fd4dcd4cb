//! Every op completes by its deadline, and says truly what is known of it.

use nic_engine::engine::EngineConfig;
use nic_ports::Random;
use nic_ports::sim::Verdict;
use nic_tests::{Ask, Done, HostId, World, small_engine};
use nic_wire::{Fate, Span, Status};

use crate::{Pair, session_of};

fn partition(world: &World, left: HostId, right: HostId) {
    world.network.partition(world.address(left).ip(), world.address(right).ip());
}

fn heal(world: &World, left: HostId, right: HostId) {
    world.network.heal(world.address(left).ip(), world.address(right).ip());
}

/// The deadline is overrun by a tick of the engine's clock at most (16.4 us), and by what the
/// simulated clock's steps add.
const OVERRUN_NS: u64 = 40_000;

#[test]
fn a_silent_peer_costs_each_op_its_budget_and_no_more() {
    silent_peer(false);
}

#[test]
fn an_engine_that_sleeps_wakes_for_each_deadline() {
    silent_peer(true);
}

fn silent_peer(sleepy: bool) {
    let mut pair = Pair::new(World::new(1), 4096, session_of(64, 4096));
    pair.world.let_engines_sleep(sleepy);
    let mut random = Random::new(1);
    partition(&pair.world, pair.initiator, pair.target);
    let mut budgets = Vec::new();
    for op in 0..60u64 {
        let budget = Span::from_us(random.below(300_000));
        let (ask, fate) = match op % 3 {
            0 => (Ask::read(pair.remote, 0, 8), Fate::NotExecuted),
            1 => (Ask::fetch_add(pair.remote, 0, 1), Fate::Unknown),
            _ => (Ask::write(pair.remote, 8, &[1; 2000]), Fate::Unknown),
        };
        budgets.push((pair.session.submit(&ask.within(budget)), budget, fate));
    }
    let done = pair.world.wait(&mut pair.session);
    for (token, budget, fate) in budgets {
        let done = done.iter().find(|done| done.token == token).unwrap();
        assert_eq!(done.ended(), (Status::Expired, fate));
        let taken = u64::from(done.total_delay_ns);
        let allowed = budget.as_ns()..=budget.as_ns() + OVERRUN_NS;
        assert!(allowed.contains(&taken), "{taken} ns of {} us", budget.as_us());
    }
    let counters = pair.world.counters(pair.initiator);
    assert_eq!((counters.expired, counters.lost), (60, 0));
}

/// An op that has not left when it expires has surely not run.
#[test]
fn ops_without_credit_expire_unexecuted() {
    let few = EngineConfig { op_credits: 4, ..small_engine() };
    let mut world = World::new(2);
    let (initiator, target) = (world.add_host(), world.add_host_with(few));
    let mut pair = Pair::of(world, initiator, target, 4096, session_of(16, 4096));
    partition(&pair.world, initiator, target);
    for _ in 0..10 {
        pair.session.submit(&Ask::fetch_add(pair.remote, 0, 1).within(Span::from_ms(10)));
    }
    let done = pair.world.wait(&mut pair.session);
    assert!(done.iter().all(|done| done.status == Status::Expired));
    let unknown = done.iter().filter(|done| done.fate == Fate::Unknown).count();
    assert_eq!(unknown, 4, "as many as there are credits had left");
    heal(&pair.world, initiator, target);
    pair.world.run_until_idle();
    assert!(pair.word(0) <= 4);
}

/// With deadlines farther away than patience, the flow ends first.
#[test]
fn a_peer_that_stays_silent_is_lost() {
    let mut pair = Pair::new(World::new(3), 4096, session_of(8, 4096));
    partition(&pair.world, pair.initiator, pair.target);
    let long = Span::from_ms(10_000);
    let write = pair.session.submit(&Ask::fetch_add(pair.remote, 0, 1).within(long));
    let read = pair.session.submit(&Ask::read(pair.remote, 0, 8).within(long));
    let done = pair.world.wait(&mut pair.session);
    let ended = |token| done.iter().find(|done| done.token == token).unwrap().ended();
    assert_eq!(ended(write), (Status::PeerLost, Fate::Unknown));
    assert_eq!(ended(read), (Status::PeerLost, Fate::NotExecuted));
    let waited_ms = u64::from(done[0].total_delay_ns) / 1_000_000;
    assert!((2_000..2_600).contains(&waited_ms), "patience is 2 s, it took {waited_ms} ms");
    assert_eq!(pair.world.counters(pair.initiator).flows_lost, 1);

    // The next op opens a new flow; while nobody answers, it has surely not run.
    let done = pair.world.run(&mut pair.session, &Ask::fetch_add(pair.remote, 0, 1).within(long));
    assert_eq!(done.ended(), (Status::Unreachable, Fate::NotExecuted));
    let soon = Span::from_ms(5);
    let done = pair.world.run(&mut pair.session, &Ask::fetch_add(pair.remote, 0, 1).within(soon));
    assert_eq!(done.ended(), (Status::Expired, Fate::NotExecuted));

    // And when the peer is back, so are the ops.
    heal(&pair.world, pair.initiator, pair.target);
    let done = pair.world.run(&mut pair.session, &Ask::fetch_add(pair.remote, 0, 1).within(long));
    assert!(done.is_ok(), "{:?}", done.ended());
    assert!(pair.word(0) <= 2, "the lost op ran once at most");
}

/// A request that was lost and comes again after its budget is refused, not run.
#[test]
fn a_target_does_not_start_an_expired_op() {
    let mut pair = Pair::new(World::new(4), 4096, session_of(8, 4096));
    pair.world.run(&mut pair.session, &Ask::fetch_add(pair.remote, 0, 1));
    let lost = pair.world.network.counters().sent;
    pair.world.network.set_script(move |packet| {
        if packet.number == lost { Verdict::Drop } else { Verdict::Deliver }
    });
    let add = Ask::fetch_add(pair.remote, 0, 1).within(Span::from_us(200));
    let done = pair.world.run(&mut pair.session, &add);
    assert_eq!(done.ended(), (Status::Expired, Fate::Unknown));
    pair.world.run_until_idle();
    let target = pair.world.counters(pair.target);
    assert_eq!((target.expired_on_arrival, target.refused, target.executed), (1, 1, 1));
    assert_eq!(pair.word(0), 1, "the expired op had no effect");
    assert_eq!(pair.world.counters(pair.initiator).late_replies, 0, "its credit came back");
}

/// A reply that comes after the deadline changes nothing in the application's arena.
#[test]
fn late_replies_touch_nothing() {
    let mut pair = Pair::new(World::new(5), 64 << 10, session_of(2, 32 << 10));
    pair.memory.fill(0, 64 << 10, 0x11).unwrap();
    let slow = pair.world.network.counters().sent + 1;
    // The request arrives, and its replies are on their way for 3 ms.
    pair.world.network.set_script(move |packet| {
        let late = packet.number >= slow && packet.number < slow + 30;
        if late { Verdict::Delay(Span::from_ms(3)) } else { Verdict::Deliver }
    });
    let read = Ask::read(pair.remote, 0, 30_000).within(Span::from_ms(1));
    let token = pair.session.submit(&read);
    let done = pair.world.wait(&mut pair.session).remove(0);
    assert_eq!(done.ended(), (Status::Expired, Fate::NotExecuted));
    let at_completion = pair.session.landing_place(token);
    pair.world.run_for(Span::from_ms(50));
    assert!(
        pair.session.landing_place(token) == at_completion,
        "the landing place is the application's"
    );
    let counters = pair.world.counters(pair.initiator);
    assert_eq!(counters.ops_out, 0, "the op's slot came back with the late reply");
    pair.world.network.clear_script();
    assert!(pair.world.run(&mut pair.session, &read).is_ok());
}

/// Half a payload has left when the deadline comes.
#[test]
fn an_op_that_expires_in_the_middle_of_its_payload() {
    let slow = EngineConfig { congestion_window_bytes: 4 * 1400, ..small_engine() };
    let mut world = World::new(6);
    let (initiator, target) = (world.add_host_with(slow), world.add_host());
    let mut pair = Pair::of(world, initiator, target, 64 << 10, session_of(4, 64 << 10));
    let write = Ask::write(pair.remote, 0, &[9; 60_000]).within(Span::from_us(30));
    let done = pair.world.run(&mut pair.session, &write);
    assert_eq!(done.ended(), (Status::Expired, Fate::Unknown));
    pair.world.run_until_idle();
    let left = [initiator, target].map(|host| pair.world.counters(host));
    assert_eq!((left[0].ops_out, left[1].ops_in), (0, 0), "neither end keeps anything of it");
    assert!(pair.word(59_992) == 0, "the last word waits for the rest");
    // Later ops, fenced or not, do not wait for it.
    pair.session.submit(&Ask::fetch_add(pair.remote, 60_000, 1).fenced());
    pair.session.submit(&Ask::write(pair.remote, 0, &[8; 60_000]));
    assert!(pair.world.wait(&mut pair.session).iter().all(Done::is_ok));
}
