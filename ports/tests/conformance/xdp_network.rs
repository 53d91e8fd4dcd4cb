//! What else is on an AF_XDP port's network: the kernel's sockets, gateways, several queues.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use nic_ports::udp::{UdpConfig, UdpPort};
use nic_ports::xdp::{XdpMode, XdpPort};
use nic_ports::{Burst, Port};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recv, sendto,
    socket_with,
};

use crate::harness::{contents, submit};
use crate::lab::{self, DEVICE, Linked, Namespace};
use crate::xdp::{config, expect, expect_heard, heard, open, pause, receive, send_until};

const MODES: [XdpMode; 2] = [XdpMode::Generic, XdpMode::Native];

fn bind(host: &Namespace, ip: &str, port: u16) -> UdpSocket {
    host.enter(|| UdpSocket::bind(lab::address(ip, port))).unwrap()
}

/// Between hosts that have never heard of each other, with checksums left to a device that has
/// none.
#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_talks_to_the_kernels_sockets() {
    for mode in MODES {
        for ip in [lab::ipv4, lab::ipv6] {
            let lab = Linked::new(1);
            let features = lab.hosts[1].run("ethtool", &format!("-k {DEVICE}"));
            assert!(features.contains("tx-checksumming: on"), "{features}");
            let mut port = open(&lab.hosts[0], &config(&ip(1), mode));
            let peer = bind(&lab.hosts[1], &ip(2), 7000);
            let (here, there) = (port.local_address(), peer.local_addr().unwrap());

            let mut found = None;
            send_until(&mut port, there, b"anyone?", || {
                found = heard(&peer);
                found.is_some()
            });
            assert_eq!(found, Some((here, b"anyone?".to_vec())));
            assert!(port.counters().transmit_unresolved > 0, "the first found nobody");
            while heard(&peer).is_some() {}

            let lengths = [1, 17, 18, 19, 64, 999, port.capabilities().packet_bytes_max];
            for length in lengths {
                let packet: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
                peer.send_to(&packet, here).unwrap();
                assert_eq!(expect(&mut port), (there, packet.clone()), "{mode} {length}");
                submit(&mut port, there, &packet);
                port.transmit();
                assert_eq!(expect_heard(&peer), (here, packet), "{mode} {length}");
            }
            // An empty datagram is none of an engine's, and gives its chunk back.
            for count in 1..=300 {
                peer.send_to(&[], here).unwrap();
                for _ in 0..250 {
                    pause(&mut port);
                    assert_eq!(port.receive(&mut Burst::new(1)), 0);
                    if port.counters().receive_foreign == count {
                        break;
                    }
                }
                assert_eq!(port.counters().receive_foreign, count);
            }
            peer.send_to(b"still here", here).unwrap();
            assert_eq!(expect(&mut port), (there, b"still here".to_vec()));
        }
    }
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_leaves_foreign_traffic_to_the_kernel() {
    for mode in MODES {
        for ip in [lab::ipv4, lab::ipv6] {
            let lab = Linked::new(1);
            let [one, two] = &lab.hosts;
            let mut port = open(one, &config(&ip(1), mode));
            let here = port.local_address();

            // UDP to the ports around ours, and to ours at another address.
            one.ip(&format!("address add 10.9.0.11/24 dev {DEVICE}"));
            one.ip(&format!("address add fd09::11/64 dev {DEVICE} nodad"));
            let stranger = bind(two, &ip(2), 7000);
            for (ip, number) in [(ip(1), 4790), (ip(1), 4792), (ip(11), 4791)] {
                let socket = bind(one, &ip, number);
                stranger.send_to(b"not for engines", lab::address(&ip, number)).unwrap();
                let (from, bytes) = expect_heard(&socket);
                assert_eq!((from.port(), &bytes[..]), (7000, &b"not for engines"[..]));
                socket.send_to(b"answer", from).unwrap();
                expect_heard(&stranger);
            }

            // TCP, to the same number as ours.
            let listener = one.enter(|| TcpListener::bind(here)).unwrap();
            let mut client = two.enter(|| TcpStream::connect(here)).unwrap();
            client.write_all(&[7; 100_000]).unwrap();
            drop(client);
            let mut received = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
            assert_eq!(received.len(), 100_000);

            ping(two, &ip(1));

            // Pieces of a datagram for us: the kernel's, never ours.
            stranger.send_to(&[9; 5000], here).unwrap();
            stranger.send_to(b"for engines", here).unwrap();
            let from = stranger.local_addr().unwrap();
            assert_eq!(expect(&mut port), (from, b"for engines".to_vec()));
            assert!(reassembled(one) > 0, "the kernel has put the pieces together");
            let counters = port.counters();
            assert_eq!((counters.received_packets, counters.receive_foreign), (1, 0));
            assert_eq!(counters.receive_truncated, 0);
        }
    }
}

/// How many datagrams the kernel of a host has put together from pieces.
fn reassembled(host: &Namespace) -> u64 {
    let words =
        |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    let ipv4 = host.run("cat", "/proc/net/snmp");
    let mut rows = ipv4.lines().filter(|line| line.starts_with("Ip:")).map(words);
    let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
    let place = names.iter().position(|name| name == "ReasmOKs").unwrap();
    let ipv6 = host.run("cat", "/proc/net/snmp6");
    let row = ipv6.lines().find(|line| line.starts_with("Ip6ReasmOKs")).map(words).unwrap();
    values[place].parse::<u64>().unwrap() + row[1].parse::<u64>().unwrap()
}

/// An echo request and its reply; the kernel of the other host answers.
fn ping(host: &Namespace, to: &str) {
    let to = lab::address(to, 0);
    let (family, protocol, request, reply) = if to.is_ipv4() {
        (AddressFamily::INET, ipproto::ICMP, 8, 0)
    } else {
        (AddressFamily::INET6, ipproto::ICMPV6, 128, 129)
    };
    let socket: OwnedFd = host
        .enter(|| socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol)))
        .unwrap();
    // Type, code, checksum (over IPv6 the kernel's work), identifier, sequence.
    let sum = !(u16::from(request) << 8).wrapping_add(0x1234);
    let [high, low] = sum.to_be_bytes();
    let message = [request, 0, high, low, 0x12, 0x34, 0, 0];
    sendto(&socket, &message, SendFlags::empty(), &to).unwrap();
    let mut bytes = [0; 256];
    loop {
        let patience = Some(std::time::Duration::from_secs(5));
        let ready = nic_shm::wait_any(&[rustix::fd::AsFd::as_fd(&socket)], patience).unwrap();
        assert!(!ready.is_empty(), "no reply to a ping");
        let (length, _) = recv(&socket, &mut bytes[..], RecvFlags::empty()).unwrap();
        // IPv4's own header comes along.
        let start = if to.is_ipv4() { 20 } else { 0 };
        if bytes[start] == reply && bytes[start + 4..length][..2] == [0x12, 0x34] {
            return;
        }
    }
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_sends_through_gateways() {
    let lab = Linked::new(1);
    let [one, two] = &lab.hosts;
    let mut port = open(one, &config(&lab::ipv4(1), XdpMode::Native));
    // Behind the other host lies a network; the route comes while the port runs.
    two.ip("address add 10.77.1.1/32 dev lo");
    let distant = bind(two, "10.77.1.1", 7000);
    let to = distant.local_addr().unwrap();
    submit(&mut port, to, b"no route");
    port.transmit();
    assert_eq!(port.counters().transmit_unresolved, 1);
    one.ip(&format!("route add 10.77.0.0/16 via {}", lab::ipv4(2)));
    let mut found = None;
    send_until(&mut port, to, b"through a gateway", || {
        found = heard(&distant);
        found.is_some()
    });
    assert_eq!(found.unwrap().1, b"through a gateway");
    distant.send_to(b"and back", port.local_address()).unwrap();
    assert_eq!(expect(&mut port), (to, b"and back".to_vec()));
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_engines_share_a_device() {
    for mode in MODES {
        let lab = Linked::new(2);
        let [one, two] = &lab.hosts;
        let config = config(&lab::ipv4(1), mode);
        let mut ports = one.enter(|| XdpPort::open_all(&config, 2)).unwrap();
        let addresses = [0, 1].map(|number| lab::address(&lab::ipv4(1), 4791 + number));
        assert!(ports.iter().map(Port::local_address).eq(addresses));

        // Flows land on either queue, whichever engine they are for.
        let senders: Vec<UdpSocket> =
            (0..32).map(|number| bind(two, &lab::ipv4(2), 7000 + number)).collect();
        for sender in &senders {
            for to in addresses {
                sender.send_to(b"which queue?", to).unwrap();
            }
        }
        let mut received = [0, 0];
        for _ in 0..250 {
            for (port, received) in ports.iter_mut().zip(&mut received) {
                while receive(port).is_some() {
                    *received += 1;
                }
            }
            if received.iter().sum::<usize>() == 64 {
                break;
            }
        }
        assert_eq!(received.iter().sum::<usize>(), 64, "{mode}: {received:?}");
        // Virtual links do not tell the generic path on which queue a packet came.
        let spread = received.iter().all(|received| *received > 0);
        assert!(spread || mode == XdpMode::Generic, "{mode}: {received:?}");

        // Each sends under its own name.
        for (port, address) in ports.iter_mut().zip(addresses) {
            let to = senders[0].local_addr().unwrap();
            let expected = Some((address, b"from an engine".to_vec()));
            send_until(port, to, b"from an engine", || heard(&senders[0]) == expected);
        }

        // The program stays until the last of them is gone.
        let last = ports.pop().unwrap();
        drop(ports);
        assert!(one.has_program());
        drop(last);
        one.assert_no_program();
    }
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_counts_what_the_kernel_drops() {
    for mode in MODES {
        let lab = Linked::new(1);
        let mut config = config(&lab::ipv4(1), mode);
        config.receive_chunks = 64;
        let mut port = open(&lab.hosts[0], &config);
        let peer = bind(&lab.hosts[1], &lab::ipv4(2), 7000);
        for number in 0..100u8 {
            peer.send_to(&[number; 100], port.local_address()).unwrap();
        }
        // Told by the watcher, which looks now and then.
        for _ in 0..500 {
            if port.counters().receive_overruns == 36 {
                break;
            }
            assert_eq!(heard(&peer), None);
        }
        assert_eq!(port.counters().receive_overruns, 36, "{mode}");
        for number in 0..64 {
            assert_eq!(expect(&mut port).1, [number; 100]);
        }
        assert_eq!(receive(&mut port), None);
        // And then there is room again.
        peer.send_to(&[7; 100], port.local_address()).unwrap();
        assert_eq!(expect(&mut port).1, [7; 100]);
    }
}

/// Bursts both ways between the two kinds of ports, the one with all its offloads.
#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_interoperates_with_udp() {
    for mode in MODES {
        for ip in [lab::ipv4, lab::ipv6] {
            let lab = Linked::new(1);
            let [one, two] = &lab.hosts;
            if mode == XdpMode::Generic {
                // A virtual link carries whole runs, which no chunk holds; before a program in the
                // driver the kernel cuts them by itself.
                two.run("ethtool", &format!("-K {DEVICE} tx-udp-segmentation off"));
            }
            let mut left = open(one, &config(&ip(1), mode));
            let udp = UdpConfig::new(lab::address(&ip(2), 7000));
            let mut right = two.enter(|| UdpPort::bind(udp)).unwrap();
            assert!(right.capabilities().coalescing, "{}", right.capabilities());
            let (here, there) = (left.local_address(), right.local_address());
            let first = contents(99, 64);
            let mut burst = Burst::new(64);
            send_until(&mut left, there, &first, || {
                let ready = nic_shm::wait_any(&[right.wait_descriptor().unwrap()], MOMENT);
                !ready.unwrap().is_empty() && right.receive(&mut burst) > 0
            });
            right.release_burst(&mut burst);
            let packets: Vec<_> = (0..40).map(|number| contents(number, 1200)).collect();
            for _ in 0..5 {
                exchange_burst(&mut left, &mut right, there, &packets);
                exchange_burst(&mut right, &mut left, here, &packets);
            }
            assert_eq!(left.counters().receive_overruns, 0);
        }
    }
}

const MOMENT: Option<std::time::Duration> = Some(std::time::Duration::from_millis(20));

/// Sends packets in one transmit and sees that they arrive in order.
fn exchange_burst(from: &mut dyn Port, at: &mut dyn Port, to: SocketAddr, packets: &[Vec<u8>]) {
    for packet in packets {
        let frame = from.allocate(nic_ports::Share::Reply).unwrap();
        from.bytes_mut(frame)[..packet.len()].copy_from_slice(packet);
        from.submit(frame, packet.len(), to);
        from.release(frame);
    }
    from.transmit();
    let mut burst = Burst::new(64);
    let mut received = Vec::new();
    for _ in 0..100 {
        at.receive(&mut burst);
        received.extend(burst.views().iter().map(|view| at.view(view).to_vec()));
        at.release_burst(&mut burst);
        if received.len() >= packets.len() {
            break;
        }
        if at.prepare_wait() {
            nic_shm::wait_any(&[at.wait_descriptor().unwrap()], MOMENT).unwrap();
        }
        at.end_wait();
    }
    from.transmit();
    // Neighbours may have sent what the first packet waited for twice.
    received.retain(|packet| packet.len() != 64);
    assert!(received == packets, "{} of {} packets", received.len(), packets.len());
}
