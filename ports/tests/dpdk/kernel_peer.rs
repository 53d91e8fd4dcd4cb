//! A kernel as the peer: its sockets, its neighbour discovery, its ping.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nic_ports::dpdk::DpdkPort;
use nic_ports::{Burst, Port};
use nic_transport::Frames;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

use crate::devices::{Address, alone, config, open};
use crate::harness::{contents, filled, submit};
use crate::network::{Namespace, join, unique};

/// A port and a kernel on one link.
struct Link {
    ours: Namespace,
    kernels: Namespace,
}

impl Link {
    fn new() -> Self {
        let link = Link { ours: Namespace::new(), kernels: Namespace::new() };
        join(&link.ours, &link.kernels, 1500);
        link.kernels.run(&["sysctl", "-q", "-w", "net.ipv6.conf.vb.disable_ipv6=0"]);
        link.kernels.ip("addr add 10.9.0.2/24 dev vb");
        link.kernels.ip("addr add fd09::2/64 dev vb nodad");
        link
    }

    fn port(&self, device: &str, address: SocketAddr) -> DpdkPort {
        let number = unique().replace('-', "");
        let config = config(&format!("net_{device}{number},iface=va"), address, &[]);
        self.ours.within(|| open(&config))
    }

    fn socket(&self, address: SocketAddr) -> UdpSocket {
        let socket = self.kernels.within(|| UdpSocket::bind(address).unwrap());
        socket.set_nonblocking(true).unwrap();
        socket
    }
}

/// Does it again and again until it gives something.
fn until<T>(what: &str, mut act: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(got) = act() {
            return got;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} does not happen");
        std::thread::yield_now();
    }
}

/// A turn that expects nothing, or one packet.
fn turn(port: &mut DpdkPort, burst: &mut Burst) -> Option<(SocketAddr, Vec<u8>)> {
    port.receive(burst);
    let got = burst.views().first().map(|view| (view.from, port.view(view).to_vec()));
    port.release_burst(burst);
    port.transmit();
    got
}

fn to_kernel(port: &mut DpdkPort, socket: &UdpSocket, packet: &[u8]) {
    let to = socket.local_addr().unwrap();
    let mut burst = Burst::new(32);
    let mut room = [0; 4096];
    let (length, from) = until("a packet to the kernel", || {
        submit(port, to, packet);
        turn(port, &mut burst);
        socket.recv_from(&mut room).ok()
    });
    assert_eq!((&room[..length], from), (packet, port.local_address()));
    // What was sent several times meanwhile.
    while socket.recv_from(&mut room).is_ok() {}
}

fn from_kernel(port: &mut DpdkPort, socket: &UdpSocket, packet: &[u8]) {
    socket.send_to(packet, port.local_address()).unwrap();
    let mut burst = Burst::new(32);
    let got = until("a packet from the kernel", || turn(port, &mut burst));
    assert_eq!(got, (socket.local_addr().unwrap(), packet.to_vec()));
}

/// Echoes as `ping` asks for them, by a socket that the kernel has for that.
fn ping(link: &Link, port: &mut DpdkPort) {
    let address = port.local_address().ip();
    link.kernels.run(&["sysctl", "-q", "-w", "net.ipv4.ping_group_range=0 2147483647"]);
    let (family, protocol, asks, answers, any) = match address.is_ipv4() {
        true => (AddressFamily::INET, ipproto::ICMP, 8, 0, "0.0.0.0:0"),
        false => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129, "[::]:0"),
    };
    let socket = link.kernels.within(|| {
        let flags = SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(protocol));
        UdpSocket::from(socket.unwrap())
    });
    rustix::net::bind(&socket, &any.parse::<SocketAddr>().unwrap()).unwrap();
    socket.connect((address, 0)).unwrap();
    let mut burst = Burst::new(32);
    for length in [0, 56, 1200, 1401] {
        let mut question = vec![length as u8; 8 + length];
        question[..8].copy_from_slice(&[asks, 0, 0, 0, 0, 0, 0, 1]);
        socket.send(&question).unwrap();
        let mut room = [0; 2048];
        let answered = until("an echo", || {
            assert!(turn(port, &mut burst).is_none());
            socket.recv(&mut room).ok()
        });
        assert_eq!((room[0], &room[8..answered]), (answers, &question[8..]));
    }
}

fn exchange(device: &str, family: Address, kernel_first: bool) {
    let _alone = alone();
    let link = Link::new();
    let [ours, kernels] = family.pair();
    let mut port = link.port(device, ours);
    let socket = link.socket(kernels);
    if kernel_first {
        from_kernel(&mut port, &socket, &contents(1, 300));
        assert_eq!(port.counters().transmit_unresolved, 0);
    }
    to_kernel(&mut port, &socket, &contents(2, 300));
    assert_eq!(port.counters().transmit_unresolved > 0, !kernel_first, "who asked first");
    from_kernel(&mut port, &socket, &contents(3, 300));
    ping(&link, &mut port);
    assert!(port.counters().neighbour_messages >= 4);

    // At the link's edge, and beyond it.
    let longest = port.capabilities().packet_bytes_max;
    assert_eq!(longest, if ours.is_ipv4() { 1472 } else { 1452 });
    to_kernel(&mut port, &socket, &contents(4, longest));
    from_kernel(&mut port, &socket, &contents(5, longest));
    if ours.is_ipv4() {
        // Pieces of IPv4 are put together by the packet socket behind net_af_packet.
        from_kernel(&mut port, &socket, &contents(6, longest + 1));
        return;
    }
    let foreign = port.counters().receive_foreign;
    socket.send_to(&contents(6, longest + 1), port.local_address()).unwrap();
    let mut burst = Burst::new(32);
    until("the arrival of pieces", || {
        assert!(turn(&mut port, &mut burst).is_none());
        (port.counters().receive_foreign >= foreign + 2).then_some(())
    });
}

#[test]
#[ignore = "needs root and libdpdk: makes network namespaces; run the tests with sudo"]
fn kernel_over_ipv4_asks_first() {
    exchange("af_packet", Address::V4, true);
}

#[test]
#[ignore = "needs root and libdpdk: makes network namespaces; run the tests with sudo"]
fn kernel_over_ipv4_is_asked() {
    exchange("af_packet", Address::V4, false);
}

#[test]
#[ignore = "needs root and libdpdk: makes network namespaces; run the tests with sudo"]
fn kernel_over_ipv6_asks_first() {
    exchange("af_packet", Address::V6, true);
}

#[test]
#[ignore = "needs root and libdpdk: makes network namespaces; run the tests with sudo"]
fn kernel_over_ipv6_is_asked() {
    exchange("af_packet", Address::V6, false);
}

#[test]
#[ignore = "needs root and libdpdk: makes network namespaces; run the tests with sudo"]
fn one_frame_goes_to_several_and_foreign_traffic_is_left_alone() {
    let _alone = alone();
    let link = Link::new();
    link.kernels.ip("addr add 10.9.0.3/24 dev vb");
    let mut port = link.port("af_packet", Address::V4.pair()[0]);
    let sockets = ["10.9.0.2:5000", "10.9.0.3:5000"].map(|text| link.socket(text.parse().unwrap()));
    sockets.iter().for_each(|socket| to_kernel(&mut port, socket, &contents(1, 100)));
    let frame = filled(&mut port, b"to both");
    for socket in &sockets {
        port.submit(frame, 7, socket.local_addr().unwrap());
    }
    port.submit(frame, 7, sockets[0].local_addr().unwrap());
    port.transmit();
    for (socket, times) in sockets.iter().zip([2, 1]) {
        for _ in 0..times {
            let mut room = [0; 64];
            let length = until("its arrival", || socket.recv(&mut room).ok());
            assert_eq!(&room[..length], b"to both");
        }
    }
    assert!(!port.is_queued(frame));
    port.release(frame);

    // Another UDP port, a broadcast, and an echo's answer that nobody waits for.
    let before = port.counters();
    let other = SocketAddr::new(port.local_address().ip(), 1);
    sockets[0].send_to(b"not for us", other).unwrap();
    sockets[0].set_broadcast(true).unwrap();
    sockets[0].send_to(b"for all", "10.9.0.255:4000").unwrap();
    let mut burst = Burst::new(32);
    until("their arrival", || {
        assert!(turn(&mut port, &mut burst).is_none());
        (port.counters().receive_foreign >= before.receive_foreign + 2).then_some(())
    });
    from_kernel(&mut port, &sockets[1], &contents(9, 64));
}
