//! What ops cost in packets. Counts, which no noise can touch.

use nic_engine::engine::Counters;
use nic_tests::{Ask, Done, World};
use nic_wire::Span;

use crate::{Pair, session_of};

/// What the two engines have sent, without lone acks.
fn sent(pair: &Pair) -> (u64, u64) {
    let of = |counters: Counters| counters.packets_sent - counters.lone_acks;
    (of(pair.world.counters(pair.initiator)), of(pair.world.counters(pair.target)))
}

fn lone_acks(pair: &Pair) -> u64 {
    pair.world.counters(pair.initiator).lone_acks + pair.world.counters(pair.target).lone_acks
}

/// How many packets each engine sends for what `work` does.
fn cost(pair: &mut Pair, mut work: impl FnMut(&mut Pair)) -> (u64, u64) {
    let before = sent(pair);
    work(pair);
    let after = sent(pair);
    let resent =
        [pair.initiator, pair.target].map(|host| pair.world.counters(host).retransmissions);
    assert_eq!(resent, [0, 0], "nothing is sent twice on good links");
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn an_op_in_a_window_of_one_costs_two_packets() {
    let mut pair = Pair::new(World::new(1), 8192, session_of(2, 4096));
    let remote = pair.remote;
    let asks = [
        Ask::read(remote, 0, 64),
        Ask::read(remote, 0, 1300),
        Ask::write(remote, 64, &[1; 64]),
        Ask::write(remote, 64, &[1; 1200]),
        Ask::fetch_add(remote, 0, 1),
        Ask::compare_swap(remote, 0, 1, 2),
        Ask::read(remote, 0, 64).fenced(),
    ];
    for ask in asks {
        pair.world.run(&mut pair.session, &ask);
        let acks_before = lone_acks(&pair);
        let cost = cost(&mut pair, |pair| {
            for _ in 0..500 {
                assert!(pair.world.run(&mut pair.session, &ask).is_ok());
            }
        });
        assert_eq!(cost, (500, 500), "{:?} with {} B", ask.kernel, ask.payload.len());
        assert_eq!(lone_acks(&pair), acks_before, "acks ride on data");
    }
}

/// Small ops of one turn share packets: 20 requests of 64 bytes fit one, and 15 replies of 88.
#[test]
fn ops_of_a_turn_share_packets() {
    let mut pair = Pair::new(World::new(1), 8192, session_of(64, 4096));
    let read = Ask::read(pair.remote, 0, 64);
    let batch = |pair: &mut Pair| {
        for _ in 0..64 {
            pair.session.submit(&read);
        }
        let done = pair.world.wait(&mut pair.session);
        assert!(done.len() == 64 && done.iter().all(Done::is_ok));
    };
    batch(&mut pair);
    let cost = cost(&mut pair, |pair| (0..50).for_each(|_| batch(pair)));
    assert_eq!(cost, (50 * 64u64.div_ceil(20), 50 * 64u64.div_ceil(15)));
}

/// Long payloads and replies fill their packets; what else is sent is an ack for each half window.
#[test]
fn long_ops_fill_their_packets() {
    let mut pair = Pair::new(World::new(1), 1 << 20, session_of(2, 256 << 10));
    let bytes = 200_000u32;
    let (write, read) =
        (Ask::write(pair.remote, 0, &vec![3; bytes as usize]), Ask::read(pair.remote, 0, bytes));
    let cost_of = |pair: &mut Pair, ask: &Ask| {
        let acks_before = lone_acks(pair);
        let cost = cost(pair, |pair| assert!(pair.world.run(&mut pair.session, ask).is_ok()));
        (cost, lone_acks(pair) - acks_before)
    };
    let packets = u64::from(bytes.div_ceil(1400 - 64 - 48 - 16));
    let (cost, acks) = cost_of(&mut pair, &write);
    assert_eq!(cost, (packets, 1));
    assert!(acks <= packets / 16, "{acks} lone acks for {packets} packets");
    let packets = u64::from(bytes.div_ceil(1400 - 64 - 24));
    let (cost, acks) = cost_of(&mut pair, &read);
    assert_eq!(cost, (1, packets));
    assert!(acks <= packets / 16, "{acks} lone acks for {packets} packets");
}

/// An idle engine says nothing, and one that may sleep does nothing.
#[test]
fn silence_costs_nothing() {
    let mut pair = Pair::new(World::new(1), 4096, session_of(2, 4096));
    pair.world.let_engines_sleep(true);
    pair.world.run(&mut pair.session, &Ask::fetch_add(pair.remote, 0, 1));
    pair.world.run_until_idle();
    let before = pair.world.network.counters().sent;
    let turns =
        |pair: &Pair| [pair.initiator, pair.target].map(|host| pair.world.counters(host).turns);
    let turns_before = turns(&pair);
    pair.world.run_for(Span::from_ms(5_000));
    assert_eq!(pair.world.network.counters().sent, before);
    assert_eq!(turns(&pair), turns_before, "nobody was woken");
    let done = pair.world.run(&mut pair.session, &Ask::fetch_add(pair.remote, 0, 1));
    assert!(done.is_ok() && done.total_delay_ns < 20_000, "and is there at once");
}
