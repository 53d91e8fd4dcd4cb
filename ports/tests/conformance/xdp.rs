//! The suite on AF_XDP ports, at both ends, between hosts at a switch.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use nic_ports::xdp::{XdpConfig, XdpMode, XdpPort};
use nic_ports::{Burst, Port};

use crate::harness::{Pair, submit};
use nic_shm::wait_any;

use crate::lab::{self, DEVICE, Namespace, Switched, VLAN};
use crate::{pool, suite};

/// Small, so that the suite meets the ends of pools.
pub fn config(ip: &str, mode: XdpMode) -> XdpConfig {
    let mut config = XdpConfig::new(DEVICE, lab::address(ip, 4791));
    config.mode = mode;
    config.pool = pool();
    config.receive_chunks = 256;
    config
}

pub fn open(host: &Namespace, config: &XdpConfig) -> XdpPort {
    host.enter(|| XdpPort::open(config)).unwrap()
}

/// Sends until it arrives: while the next hop is being found out, packets are dropped.
pub fn send_until(
    port: &mut XdpPort,
    to: SocketAddr,
    bytes: &[u8],
    mut arrived: impl FnMut() -> bool,
) {
    for _ in 0..1000 {
        submit(port, to, bytes);
        port.transmit();
        // Waits until the packet is there, for a moment at most.
        if arrived() {
            return;
        }
    }
    panic!("nothing arrives; {:?}", port.counters());
}

/// What arrives next, and from whom; `None`: nothing for a moment.
pub fn receive(port: &mut XdpPort) -> Option<(SocketAddr, Vec<u8>)> {
    let mut burst = Burst::new(1);
    if port.receive(&mut burst) == 0 {
        pause(port);
        port.receive(&mut burst);
    }
    let packet = burst.views().first().map(|view| (view.from, port.view(view).to_vec()));
    port.release_burst(&mut burst);
    packet
}

/// What arrives next; it must.
pub fn expect(port: &mut XdpPort) -> (SocketAddr, Vec<u8>) {
    (0..250).find_map(|_| receive(port)).expect("a packet arrives")
}

/// Sleeps until there is something to receive, for a moment at most. Whether there is.
pub fn pause(port: &mut XdpPort) -> bool {
    let mut is_there = !port.prepare_wait();
    if let (false, Some(descriptor)) = (is_there, port.wait_descriptor()) {
        let ready = wait_any(&[descriptor], Some(Duration::from_millis(20))).unwrap();
        is_there = !ready.is_empty();
    }
    port.end_wait();
    is_there
}

/// What a kernel's socket receives next, if it does for a moment.
pub fn heard(socket: &UdpSocket) -> Option<(SocketAddr, Vec<u8>)> {
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut bytes = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut bytes).ok()?;
    bytes.truncate(length);
    Some((from, bytes))
}

/// What a kernel's socket receives next; it must.
pub fn expect_heard(socket: &UdpSocket) -> (SocketAddr, Vec<u8>) {
    (0..250).find_map(|_| heard(socket)).expect("a datagram arrives")
}

fn run(mode: XdpMode, ip: fn(usize) -> String, vlan: Option<u16>, mtu: usize) {
    let lab = Switched::new(mtu);
    let port = |number: usize| {
        let mut config = config(&ip(number), mode);
        config.vlan = vlan;
        open(&lab.hosts[number - 1], &config)
    };
    let one = port(1);
    eprintln!("{}", one.capabilities());
    let headers = if one.local_address().is_ipv4() { 28 } else { 48 };
    assert_eq!(one.capabilities().packet_bytes_max, (mtu - headers).min(2048));
    drop(one);
    suite::run(|| Pair::new(port(1), port(2), Some(port(3))));
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_generic_over_ipv4() {
    run(XdpMode::Generic, lab::ipv4, None, 1500);
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_generic_over_ipv6() {
    run(XdpMode::Generic, lab::ipv6, None, 1500);
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_native_over_ipv4() {
    run(XdpMode::Native, lab::ipv4, None, 1500);
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_native_over_ipv6() {
    run(XdpMode::Native, lab::ipv6, None, 1500);
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_with_large_packets() {
    run(XdpMode::Native, lab::ipv6, None, 3000);
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_generic_in_a_vlan() {
    run(XdpMode::Generic, lab::ipv4, Some(VLAN), 1500);
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_native_in_a_vlan() {
    run(XdpMode::Native, lab::ipv6, Some(VLAN), 1500);
}
