//! One suite of promises, kept by every port and every port around a port.

// Helpers of tests fail like the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

mod harness;
#[cfg(feature = "xdp")]
mod lab;
mod suite;
#[cfg(feature = "xdp")]
mod xdp;
#[cfg(feature = "xdp")]
mod xdp_changes;
#[cfg(feature = "xdp")]
mod xdp_network;
#[cfg(feature = "xdp")]
mod xdp_opening;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use harness::Pair;
use nic_ports::ring::{RingConfig, RingPort};
use nic_ports::sim::{SimConfig, SimNetwork, SimPort};
use nic_ports::udp::{UdpConfig, UdpPort};
#[cfg(feature = "uring")]
use nic_ports::uring::{UringConfig, UringPort};
use nic_ports::{FaultPlan, Faulty, Pcap, PoolConfig, Port, Traced};
use nic_wire::{Span, Time};

/// Small, so that the suite meets the end of it.
fn pool() -> PoolConfig {
    PoolConfig::with_frames(64)
}

fn udp_port(loopback: &str, offloads: bool) -> UdpPort {
    let mut config = UdpConfig::new(SocketAddr::new(loopback.parse().unwrap(), 0));
    config.pool = pool();
    config.segmentation = offloads;
    config.coalescing = offloads;
    UdpPort::bind(config).expect("the loopback has this address")
}

fn udp_pair(loopback: &str, offloads: bool) -> Pair<UdpPort> {
    let port = || udp_port(loopback, offloads);
    Pair::new(port(), port(), Some(port()))
}

#[cfg(feature = "uring")]
fn uring_pair(loopback: &str, offloads: bool) -> Pair<UringPort> {
    let port = || {
        let mut config = UringConfig::new(SocketAddr::new(loopback.parse().unwrap(), 0));
        config.pool = pool();
        config.segmentation = offloads;
        config.coalescing = offloads;
        UringPort::bind(config).unwrap_or_else(|error| panic!("{error}"))
    };
    Pair::new(port(), port(), Some(port()))
}

fn ring_pair() -> Pair<RingPort> {
    let addresses = ["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()];
    let config = RingConfig { pool: pool(), ..RingConfig::default() };
    let (left, right) = RingPort::pair(config, addresses).unwrap();
    let mut pair = Pair::new(left, right, None);
    pair.peer_lost = RingPort::peer_gone;
    pair
}

fn sim_ports(transmit_hold: Span) -> (SimNetwork, [SimPort; 3]) {
    let config = SimConfig { pool: pool(), transmit_hold, ..SimConfig::default() };
    let network = SimNetwork::new(1, config);
    let port = |host: u8| network.port(SocketAddr::from(([10, 0, 0, host], 1000))).unwrap();
    let ports = [port(1), port(2), port(3)];
    (network, ports)
}

/// A pair over the simulator, each port wrapped.
fn sim_pair<P: Port>(transmit_hold: Span, mut wrap: impl FnMut(SimPort) -> P) -> Pair<P> {
    let (network, ports) = sim_ports(transmit_hold);
    let [left, right, third] = ports.map(&mut wrap);
    let mut pair = Pair::new(left, right, Some(third));
    pair.pass_time = Box::new(move || {
        if let Some(next) = network.next_event() {
            network.advance_to(next);
        }
    });
    pair
}

#[test]
fn udp_over_ipv4() {
    suite::run(|| udp_pair("127.0.0.1", true));
}

#[test]
fn udp_over_ipv6() {
    suite::run(|| udp_pair("::1", true));
}

#[test]
fn udp_without_offloads() {
    suite::run(|| udp_pair("127.0.0.1", false));
}

#[test]
#[cfg(feature = "uring")]
fn uring_over_ipv4() {
    suite::run(|| uring_pair("127.0.0.1", true));
}

#[test]
#[cfg(feature = "uring")]
fn uring_over_ipv6() {
    suite::run(|| uring_pair("::1", true));
}

#[test]
#[cfg(feature = "uring")]
fn uring_without_offloads() {
    suite::run(|| uring_pair("127.0.0.1", false));
}

#[test]
fn ring() {
    suite::run(ring_pair);
}

#[test]
fn sim() {
    suite::run(|| sim_pair(Span::ZERO, |port| port));
}

#[test]
fn sim_with_frames_that_come_back_late() {
    suite::run(|| sim_pair(Span::from_us(30), |port| port));
}

#[test]
fn faulty_without_faults() {
    suite::run(|| sim_pair(Span::ZERO, |port| Faulty::new(port, FaultPlan::default(), 1)));
    suite::run(|| {
        let port = || Faulty::new(udp_port("127.0.0.1", true), FaultPlan::default(), 1);
        Pair::new(port(), port(), Some(port()))
    });
}

#[test]
fn traced() {
    suite::run(|| sim_pair(Span::ZERO, Traced::new));
}

#[test]
fn pcap() {
    let written = Rc::new(RefCell::new(0));
    suite::run(|| {
        let count = Counted(Rc::clone(&written));
        sim_pair(Span::ZERO, |port| Pcap::new(port, count.clone(), || Time::ZERO).unwrap())
    });
    assert!(*written.borrow() > 100_000, "the suite's packets went through the capture");
}

/// A writer that only counts.
#[derive(Clone)]
struct Counted(Rc<RefCell<usize>>);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        *self.0.borrow_mut() += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
