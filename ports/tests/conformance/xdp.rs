//! The suite on AF_XDP ports, at both ends, between hosts at a switch.

use nic_ports::Port;
use nic_ports::xdp::{XdpConfig, XdpMode, XdpPort};

use crate::harness::Pair;
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
