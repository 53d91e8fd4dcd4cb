//! What happens to an AF_XDP port while it runs: its device goes down, changes or is removed, its
//! process is killed.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};

use nic_ports::xdp::{XdpMode, XdpPort};
use nic_ports::{Port, PortFault, Share};

use crate::harness::submit;
use crate::lab::{self, DEVICE, Linked};
use crate::xdp::{config, expect, heard, open, pause, receive, send_until};

/// A port on the first host, and a kernel's socket on the second.
fn port_and_peer(mode: XdpMode) -> (Linked, XdpPort, UdpSocket) {
    let lab = Linked::new(1);
    let port = open(&lab.hosts[0], &config(&lab::ipv4(1), mode));
    let to = lab::address(&lab::ipv4(2), 7000);
    let peer = lab.hosts[1].enter(|| UdpSocket::bind(to)).unwrap();
    (lab, port, peer)
}

/// Both directions work.
fn exchange(port: &mut XdpPort, peer: &UdpSocket) {
    while heard(peer).is_some() {}
    let there = peer.local_addr().unwrap();
    send_until(port, there, b"there", || heard(peer).is_some_and(|(_, bytes)| bytes == b"there"));
    while receive(port).is_some() {}
    peer.send_to(b"back", port.local_address()).unwrap();
    assert_eq!(expect(port), (there, b"back".to_vec()));
}

/// Lets time pass until something holds.
fn until(port: &mut XdpPort, mut holds: impl FnMut(&mut XdpPort) -> bool) {
    for _ in 0..500 {
        port.transmit();
        if holds(port) {
            return;
        }
        pause(port);
    }
    panic!("it does not come to pass; {:?}", port.counters());
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_outlives_a_device_that_goes_down_and_up() {
    for mode in [XdpMode::Generic, XdpMode::Native] {
        let (lab, mut port, peer) = port_and_peer(mode);
        exchange(&mut port, &peer);
        let free = port.available(Share::Reply);
        let there = peer.local_addr().unwrap();
        for round in 0..3 {
            let host = round % 2;
            lab.hosts[host].ip(&format!("link set {DEVICE} down"));
            let before = port.counters();
            for _ in 0..10 {
                submit(&mut port, there, b"lost or late");
                port.transmit();
            }
            let after = port.counters();
            let told = |counters: nic_ports::PortCounters| {
                counters.transmit_blocked + counters.transmit_errors + counters.transmit_unresolved
            };
            assert!(told(after) > told(before), "{mode} {host}: {after:?}");
            assert!(port.fault().is_none());
            lab.hosts[host].ip(&format!("link set {DEVICE} up"));
            exchange(&mut port, &peer);
            until(&mut port, |port| port.available(Share::Reply) == free);
        }
    }
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_follows_changes_of_the_link() {
    let (lab, mut port, peer) = port_and_peer(XdpMode::Native);
    let [one, two] = &lab.hosts;
    exchange(&mut port, &peer);
    one.ip(&format!("link set {DEVICE} mtu 1400"));
    until(&mut port, |port| port.capabilities().packet_bytes_max == 1372);
    one.ip(&format!("link set {DEVICE} mtu 3000"));
    until(&mut port, |port| port.capabilities().packet_bytes_max == 2048);
    // A neighbour in use is confirmed before the kernel forgets it.
    let hop = lab::ipv4(2);
    let state = || one.ip(&format!("neighbour show {hop}"));
    let mac = two.ip(&format!("-brief link show {DEVICE}"));
    let mac = mac.split_whitespace().find(|word| word.matches(':').count() == 5).unwrap();
    one.ip(&format!("neighbour replace {hop} lladdr {mac} dev {DEVICE} nud stale"));
    assert!((0..500).any(|_| !state().contains("STALE")), "{}", state());
    // Either side becomes another on the link.
    for host in [one, two] {
        host.ip(&format!("link set {DEVICE} address 02:00:00:00:77:01"));
        one.ip(&format!("neighbour flush dev {DEVICE}"));
        two.ip(&format!("neighbour flush dev {DEVICE}"));
        exchange(&mut port, &peer);
        host.ip(&format!("link set {DEVICE} address 02:00:00:00:77:02"));
        one.ip(&format!("neighbour flush dev {DEVICE}"));
        two.ip(&format!("neighbour flush dev {DEVICE}"));
        exchange(&mut port, &peer);
    }
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_says_that_its_device_is_gone() {
    for mode in [XdpMode::Generic, XdpMode::Native] {
        let (lab, mut port, peer) = port_and_peer(mode);
        let free = port.available(Share::Reply);
        exchange(&mut port, &peer);
        lab.hosts[0].ip(&format!("link del {DEVICE}"));
        until(&mut port, |port| port.fault() == Some(PortFault::DeviceGone));
        submit(&mut port, peer.local_addr().unwrap(), b"too late");
        port.transmit();
        assert_eq!(receive(&mut port), None);
        assert_eq!(port.available(Share::Reply), free);
        assert!(port.wait_descriptor().is_none());
    }
}

/// Set in the child, which is this test run again, within the first host.
const CHILD: &str = "NIC_PORTS_XDP_CHILD";

/// The child opens a port, keeps it busy and is killed.
fn owner(mode: XdpMode) {
    let mut port = XdpPort::open(&config(&lab::ipv4(1), mode)).unwrap();
    println!("\nopen");
    loop {
        submit(&mut port, lab::address(&lab::ipv4(2), 7000), b"from the child");
        port.transmit();
        pause(&mut port);
    }
}

fn spawn(lab: &Linked, mode: XdpMode) -> Child {
    let mut child = lab.hosts[0].enter(|| {
        Command::new(std::env::current_exe().unwrap())
            .args(["xdp_leaves_nothing_behind", "--include-ignored", "--nocapture"])
            .env(CHILD, mode.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    });
    let output = BufReader::new(child.stdout.as_mut().unwrap());
    assert!(output.lines().any(|line| line.unwrap() == "open"), "the child opens no port");
    child
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_leaves_nothing_behind_when_its_process_is_killed() {
    match std::env::var(CHILD).as_deref() {
        Ok("native") => return owner(XdpMode::Native),
        Ok(_) => return owner(XdpMode::Generic),
        Err(_) => {}
    }
    let lab = Linked::new(1);
    let to = lab::address(&lab::ipv4(2), 7000);
    let peer = lab.hosts[1].enter(|| UdpSocket::bind(to)).unwrap();
    for mode in [XdpMode::Generic, XdpMode::Native, XdpMode::Native, XdpMode::Generic] {
        let mut child = spawn(&lab, mode);
        assert!(lab.hosts[0].has_program());
        child.kill().unwrap();
        child.wait().unwrap();
        lab.hosts[0].assert_no_program();
        let mut port = open(&lab.hosts[0], &config(&lab::ipv4(1), mode));
        exchange(&mut port, &peer);
    }
}
