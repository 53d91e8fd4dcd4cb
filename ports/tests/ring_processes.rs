//! A ring between two processes, one of which is killed.

// Helpers of tests fail like the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nic_ports::ring::{RingConfig, RingPort};
use nic_ports::{Burst, Port, PortFault, Share};
use nic_shm::{ControlSocket, wait_any};
use nic_transport::Frames;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// Set in the child, which is this test run again with its end of the socket as standard input.
const CHILD: &str = "NIC_PORTS_RING_CHILD";
const ECHOES: u32 = 1000;

fn addresses() -> [SocketAddr; 2] {
    ["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()]
}

/// Sleeps until the port has something or the socket ends. False: it ended.
fn wait(port: &mut RingPort, socket: &ControlSocket) -> bool {
    let mut open = true;
    if port.prepare_wait() {
        let descriptors = [port.wait_descriptor().unwrap(), socket.as_fd()];
        let ready = wait_any(&descriptors, Some(Duration::from_secs(20))).unwrap();
        assert!(!ready.is_empty(), "neither a packet nor the end of the peer");
        open = !ready.contains(1);
    }
    port.end_wait();
    open
}

/// The child sends everything back until it is killed or its parent ends.
fn echo() {
    assert!(!io::stdin().is_terminal(), "standard input is a socket");
    let socket = ControlSocket::from_fd(io::stdin().as_fd().try_clone_to_owned().unwrap());
    let [parent, child] = addresses();
    let mut port = RingPort::connect(&socket, RingConfig::default(), child, parent).unwrap();
    let mut burst = Burst::new(64);
    while wait(&mut port, &socket) {
        port.receive(&mut burst);
        for view in burst.views() {
            let frame = port.allocate(Share::Reply).unwrap();
            let packet = port.view(view).to_vec();
            port.bytes_mut(frame)[..packet.len()].copy_from_slice(&packet);
            port.submit(frame, packet.len(), parent);
            port.release(frame);
        }
        port.transmit();
        port.release_burst(&mut burst);
    }
}

fn spawn(socket: OwnedFd) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["a_peer_process_echoes_and_dies", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_peer_process_echoes_and_dies() {
    if std::env::var_os(CHILD).is_some() {
        return echo();
    }
    let (one, other) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let mut child = spawn(other);
    let socket = ControlSocket::from_fd(one);
    let [here, there] = addresses();
    let config = RingConfig { patience: Duration::from_secs(20), ..RingConfig::default() };
    let mut port = RingPort::connect(&socket, config, here, there).unwrap();
    let free = port.available(Share::Reply);

    let mut burst = Burst::new(64);
    for number in 0..ECHOES {
        let length = 4 + (number as usize * 7) % 1996;
        let frame = port.allocate(Share::Reply).unwrap();
        let bytes = port.bytes_mut(frame);
        bytes[..length].fill(number as u8);
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        port.submit(frame, length, there);
        port.transmit();
        while port.receive(&mut burst) == 0 {
            assert!(wait(&mut port, &socket), "the child died early");
        }
        let echo = port.view(&burst.views()[0]);
        assert_eq!(echo, &port.bytes(frame)[..length]);
        port.release(frame);
        port.release_burst(&mut burst);
    }

    child.kill().unwrap();
    child.wait().unwrap();
    let frame = port.allocate(Share::Reply).unwrap();
    port.submit(frame, 10, there);
    port.transmit();
    while wait(&mut port, &socket) {
        port.receive(&mut burst);
        port.release_burst(&mut burst);
    }
    assert!(port.is_queued(frame), "nobody took it");
    port.peer_gone();
    port.release(frame);
    assert_eq!(port.fault(), Some(PortFault::PeerGone));
    assert_eq!(port.available(Share::Reply), free, "all frames are back");
}
