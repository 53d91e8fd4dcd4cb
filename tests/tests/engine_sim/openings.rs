//! Flows are opened where room is scarce.

use nic_engine::engine::{Answer, Work};
use nic_kernels::Access;
use nic_ports::PoolConfig;
use nic_ports::sim::SimConfig;
use nic_tests::{World, small_session};
use nic_wire::Span;

/// Peers can only be told as long as there are frames to tell them with, and an engine that is to end
/// does not wait for those for ever.
#[test]
fn an_end_is_not_put_off_by_what_cannot_be_told() {
    let network = SimConfig {
        pool: PoolConfig::with_frames(64),
        transmit_hold: Span::from_ms(500),
        ..SimConfig::default()
    };
    let mut world = World::with_network(2, network);
    let target = world.add_host();
    let owner = world.add_client(target);
    let (_, rkey) = world.exported_region(target, owner, 4096, Access::all());
    for _ in 0..3 {
        let host = world.add_host();
        let session = world.add_session(host, small_session());
        let work = world.connect_work(&session, target, rkey);
        let asked = world.begin(host, work);
        world.run_until("the flow is open", Span::from_ms(2900), |world| {
            world.answer(host, asked).is_some()
        });
    }
    world.run_for(Span::from_ms(1000));
    assert_eq!(world.counters(target).flows, 3);
    let until = world.now() + Span::from_ms(50);
    let asked = world.begin(target, Work::Drain { until });
    world.run_until("the engine has ended", Span::from_ms(300), |world| {
        world.answer(target, asked).is_some()
    });
}

/// All engines open flows to all others at one moment, with two frames for handshakes each, which
/// the port keeps for longer than a packet travels: every answer finds them taken.
#[test]
fn handshakes_wait_for_frames() {
    let mut network = SimConfig {
        pool: PoolConfig::with_frames(64),
        transmit_hold: Span::from_us(3),
        ..SimConfig::default()
    };
    network.link.latency = Span::from_us(1);
    let mut world = World::with_network(1, network);
    let hosts = [0; 4].map(|_| world.add_host());
    let rkeys = hosts.map(|host| {
        let owner = world.add_client(host);
        world.exported_region(host, owner, 4096, Access::all()).1
    });
    let sessions = hosts.map(|host| world.add_session(host, small_session()));
    let mut asked = Vec::new();
    for session in &sessions {
        for (host, rkey) in hosts.iter().zip(rkeys) {
            let work = world.connect_work(session, *host, rkey);
            asked.push((session.host, world.begin(session.host, work)));
        }
    }
    world.run_until("all flows open", Span::from_ms(100), |world| {
        asked.retain(|(host, id)| match world.answer(*host, *id) {
            None => true,
            Some(Answer::Connected(_)) => false,
            Some(other) => panic!("{other:?} where a way was expected"),
        });
        asked.is_empty()
    });
}
