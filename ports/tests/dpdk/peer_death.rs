//! The other side of a vhost pair is killed, and comes back.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nic_ports::dpdk::DpdkPort;
use nic_ports::{Burst, Port, Share};

use crate::devices::{Address, alone, config, open, until_link};
use crate::harness::{contents, submit};
use crate::network::{MAC_A, MAC_B, unique};

/// Set for the process that is killed: the device that it opens.
const PEER_VARIABLE: &str = "NIC_TEST_DPDK_PEER_DEVICE";

/// No test by itself: sends back what it receives until it is killed.
#[test]
#[ignore = "needs to be started by the tests of this file"]
fn echoing_peer() {
    let Ok(device) = std::env::var(PEER_VARIABLE) else { return };
    let [us, them] = Address::V4.pair();
    let mut port = open(&config(&device, them, &[(us.ip(), MAC_A)]));
    let mut burst = Burst::new(32);
    loop {
        port.receive(&mut burst);
        let views = burst.views().to_vec();
        for view in views {
            let bytes = port.view(&view).to_vec();
            if port.available(Share::Reply) > 0 {
                submit(&mut port, view.from, &bytes);
            }
        }
        port.release_burst(&mut burst);
        port.transmit();
        std::thread::yield_now();
    }
}

/// The process that is killed, at the latest when this is dropped.
struct Peer(Child);

impl Peer {
    fn start(device: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        command.env(PEER_VARIABLE, device).args([
            "--include-ignored",
            "--nocapture",
            "echoing_peer",
        ]);
        Peer(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends packets until one comes back.
fn echo(port: &mut DpdkPort, number: usize) {
    let to = Address::V4.pair()[1];
    let mut burst = Burst::new(32);
    let begun = Instant::now();
    loop {
        let counters = port.counters();
        let patient = begun.elapsed() < Duration::from_secs(10);
        assert!(patient, "round {number}: nothing comes back: {counters:?}");
        if port.available(Share::Reply) > 0 {
            submit(port, to, &contents(number, 500));
        }
        port.transmit();
        port.receive(&mut burst);
        let came = burst.views().iter().any(|view| port.view(view) == contents(number, 500));
        port.release_burst(&mut burst);
        if came {
            return;
        }
        std::thread::yield_now();
    }
}

/// Opens a device and has its peer killed several times. A server of virtio_user opens only when
/// its peer is there, a client of it only when its server is.
fn survive(device: &str, peers: &str, peer_first: bool) {
    let mut early = peer_first.then(|| Peer::start(peers));
    let us = Address::V4.pair();
    let mut port = open(&config(device, us[0], &[(us[1].ip(), MAC_B)]));
    let mut peer = early.take().unwrap_or_else(|| Peer::start(peers));
    let free = port.available(Share::Reply);
    for round in 0..3 {
        until_link(&port, true);
        echo(&mut port, round * 2);
        // Killed amid packets, whose frames all come back.
        while port.available(Share::Reply) > 20 {
            submit(&mut port, us[1], &contents(1000, 900));
        }
        port.transmit();
        drop(peer);
        until_link(&port, false);
        port.transmit();
        assert_eq!(port.available(Share::Reply), free, "round {round}");
        submit(&mut port, us[1], b"to nobody");
        port.transmit();
        assert_eq!(port.available(Share::Reply), free, "round {round}");
        peer = Peer::start(peers);
    }
    until_link(&port, true);
    echo(&mut port, 9);
}

fn socket_path() -> String {
    let name = format!("nic-dpdk-{}.sock", unique());
    std::env::temp_dir().join(name).to_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs libdpdk (apt-get install libdpdk-dev) and 600 MB of memory"]
fn vhost_survives_its_virtio_user() {
    let _alone = alone();
    let path = socket_path();
    let number = unique().replace('-', "");
    survive(
        &format!("net_vhost{number},iface={path},queues=1"),
        &format!("net_virtio_user0,path={path},queues=1"),
        false,
    );
}

#[test]
#[ignore = "needs libdpdk (apt-get install libdpdk-dev) and 600 MB of memory"]
fn virtio_user_survives_its_vhost() {
    let _alone = alone();
    let path = socket_path();
    let number = unique().replace('-', "");
    survive(
        &format!("net_virtio_user{number},path={path},queues=1,server=1"),
        &format!("net_vhost0,iface={path},queues=1,client=1"),
        true,
    );
    let _ = std::fs::remove_file(path);
}
