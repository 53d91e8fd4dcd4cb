//! Peers that died keep nothing that others need.

use nic_engine::engine::EngineConfig;
use nic_ports::PoolConfig;
use nic_ports::sim::SimConfig;
use nic_tests::{Ask, World, small_engine};
use nic_wire::Span;

use crate::{Pair, session_of};

/// So many peers die with replies on their way, each of a packet's length.
fn deaths(peers: usize, replies: u32) -> Pair {
    let config = SimConfig { pool: PoolConfig::with_frames(256), ..SimConfig::default() };
    let mut world = World::with_network(21, config);
    let wide = EngineConfig { flows: 16, ..small_engine() };
    let (initiator, target) = (world.add_host(), world.add_host_with(wide));
    let mut pair = Pair::of(world, initiator, target, 4096, session_of(2, 4096));
    for _ in 0..peers {
        let host = pair.world.add_host();
        let mut session = pair.world.add_session(host, session_of(64, 4096));
        let remote = pair.world.connect(&session, pair.target, pair.rkey);
        for _ in 0..replies {
            session.submit(&Ask::read(remote, 0, 1300));
        }
        let before = pair.world.counters(pair.target).replies_sent;
        while pair.world.counters(pair.target).replies_sent == before {
            pair.world.step();
        }
        pair.world.kill(host);
    }
    pair
}

#[test]
fn dead_peers_give_their_frames_to_others() {
    let mut pair = deaths(6, 60);
    for round in 0..1000 {
        let done = pair.world.run(&mut pair.session, &Ask::fetch_add(pair.remote, 0, 1));
        assert_eq!((done.is_ok(), done.word()), (true, round));
    }
    let counters = pair.world.counters(pair.target);
    assert!(counters.flows_abandoned > 0, "nobody wanted their frames");
}

#[test]
fn dead_peers_give_their_places_to_others() {
    let mut pair = deaths(15, 1);
    // They are known to be silent after some probes.
    pair.world.run_for(Span::from_ms(2000));
    for round in 0..10 {
        // Two places are kept free; they are when the target has looked.
        pair.world.run_for(Span::from_ms(10));
        let host = pair.world.add_host();
        let mut session = pair.world.add_session(host, session_of(2, 4096));
        let remote = pair.world.connect(&session, pair.target, pair.rkey);
        let done = pair.world.run(&mut session, &Ask::fetch_add(remote, 0, 1));
        assert_eq!((done.is_ok(), done.word()), (true, round));
    }
}
