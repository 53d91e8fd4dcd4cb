use std::net::UdpSocket;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use nic_wire::ConnectionId;
use nic_wire::packet::{PacketHeader, PacketKind};

use super::socket::set_option;
use super::*;

fn port(change: impl FnOnce(&mut UdpConfig)) -> UdpPort {
    let mut config = UdpConfig::new("127.0.0.1:0".parse().unwrap());
    config.pool = PoolConfig::with_frames(256);
    change(&mut config);
    UdpPort::bind(config).unwrap()
}

fn submit(port: &mut UdpPort, to: SocketAddr, bytes: &[u8]) {
    let frame = port.allocate(Share::Reply).unwrap();
    port.bytes_mut(frame)[..bytes.len()].copy_from_slice(bytes);
    port.submit(frame, bytes.len(), to);
    port.release(frame);
}

fn wait(port: &UdpPort) {
    let mut readable = [PollFd::new(&port.socket, PollFlags::IN)];
    let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
    assert_eq!(poll(&mut readable, Some(&patience)).unwrap(), 1, "nothing arrives");
}

/// Receives until `count` packets have come, in bursts of `room`.
fn receive(port: &mut UdpPort, count: usize, room: usize) -> Vec<Vec<u8>> {
    let mut burst = Burst::new(room);
    let mut packets = Vec::new();
    while packets.len() < count {
        if port.receive(&mut burst) == 0 {
            wait(port);
        }
        packets.extend(burst.views().iter().map(|view| port.view(view).to_vec()));
        port.release_burst(&mut burst);
    }
    assert_eq!(port.receive(&mut burst), 0, "nothing but what was sent");
    packets
}

/// A packet that says how long it is and is otherwise full of `byte`.
fn packet(byte: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![byte; length];
    PacketHeader::new(PacketKind::Data, ConnectionId::NONE).write(&mut bytes);
    bytes
}

fn numbered(count: u8, length: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| packet(number, length)).collect()
}

#[test]
fn a_run_of_equal_packets_is_one_call_on_each_side() {
    let (mut left, mut right) = (port(|_| {}), port(|_| {}));
    let supported = right.capabilities.segmentation && right.capabilities.coalescing;
    assert!(supported, "the kernels that tests run on have both: {}", right.capabilities);
    let mut packets = numbered(20, 1000);
    packets.push(packet(99, 300));
    for _ in 0..3 {
        let (sends, receives) = (left.counters().transmit_calls, right.counters().receive_calls);
        packets.iter().for_each(|packet| submit(&mut left, right.local, packet));
        left.transmit();
        assert_eq!(receive(&mut right, 21, 64), packets);
        assert_eq!(left.counters().transmit_calls, sends + 1);
        assert_eq!(right.counters().receive_calls, receives + 1);
    }
    assert_eq!(left.counters().transmitted_bytes, 3 * (20 * 1000 + 300));
    assert_eq!(right.counters().received_bytes, 3 * (20 * 1000 + 300));
}

#[test]
fn packets_of_many_lengths_and_peers_are_one_call() {
    let (mut left, mut right, mut third) = (port(|_| {}), port(|_| {}), port(|_| {}));
    let lengths = [500, 500, 700, 700, 70, 900, 64];
    for (number, length) in lengths.into_iter().enumerate() {
        submit(&mut left, right.local, &packet(number as u8, length));
        submit(&mut left, third.local, &packet(number as u8, length));
    }
    left.transmit();
    assert_eq!(left.counters().transmit_calls, 1);
    for peer in [&mut right, &mut third] {
        let found = receive(peer, lengths.len(), 64);
        assert!(found.iter().map(Vec::len).eq(lengths), "in order");
    }
}

#[test]
fn what_does_not_fit_a_burst_comes_with_the_next() {
    let (mut left, mut right) = (port(|_| {}), port(|_| {}));
    let packets = numbered(40, 200);
    packets.iter().for_each(|packet| submit(&mut left, right.local, packet));
    left.transmit();
    assert_eq!(receive(&mut right, 40, 3), packets);

    // While a part is held back, the descriptor would not wake anyone: there is no sleeping.
    packets.iter().for_each(|packet| submit(&mut left, right.local, packet));
    left.transmit();
    wait(&right);
    let mut burst = Burst::new(3);
    assert_eq!(right.receive(&mut burst), 3);
    assert!(!right.prepare_wait());
    right.release_burst(&mut burst);
    assert_eq!(receive(&mut right, 37, 64), packets[3..]);
    assert!(right.prepare_wait());
}

#[test]
fn segmentation_that_fails_on_the_way_is_given_up_without_loss() {
    let (mut left, mut right) = (port(|_| {}), port(|_| {}));
    assert!(left.capabilities.segmentation, "{}", left.capabilities);
    // Without checksums the kernel refuses to segment, and sends single packets as ever.
    set_option(left.socket.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    let packets = numbered(10, 100);
    for round in 0..2 {
        packets.iter().for_each(|packet| submit(&mut left, right.local, packet));
        left.transmit();
        assert_eq!(receive(&mut right, 10, 64), packets, "round {round}");
    }
    assert_eq!(left.counters().segmentation_failures, 1);
    assert_eq!(left.counters().transmit_errors, 0);
    assert_eq!((left.capabilities.segmentation, &*left.capabilities.mode), (false, "gro"));
    assert!(left.capabilities.reasons[0].contains("gso off"), "{}", left.capabilities);
    assert_eq!(left.available(Share::Reply), 248, "all frames are back");
}

#[test]
fn without_offloads_packets_travel_one_by_one() {
    let plain = |config: &mut UdpConfig| {
        config.segmentation = false;
        config.coalescing = false;
    };
    let (mut left, mut right) = (port(plain), port(plain));
    assert_eq!(&*left.capabilities.mode, "plain");
    assert_eq!(left.capabilities.reasons.len(), 2);
    let packets = numbered(100, 1400);
    packets.iter().for_each(|packet| submit(&mut left, right.local, packet));
    left.transmit();
    assert_eq!(receive(&mut right, 100, 64), packets);
    let calls = (left.counters().transmit_calls, right.counters().receive_calls);
    assert!(calls.0 == 1 && calls.1 <= 12, "one send and few, growing receives: {calls:?}");
}

#[test]
fn what_no_engine_sends_is_dropped_and_counted() {
    let mut right = port(|_| {});
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for bytes in [&[][..], &[1; MAX_PACKET_BYTES + 1], &[2; 60_000], &[3; MAX_PACKET_BYTES]] {
        stranger.send_to(bytes, right.local).unwrap();
    }
    assert_eq!(receive(&mut right, 1, 8), [[3; MAX_PACKET_BYTES]]);
    assert_eq!(right.counters().receive_foreign, 3);

    // Without coalescing the buffers are small, and a long datagram is cut off.
    let mut right = port(|config| config.coalescing = false);
    for bytes in [&[2; 60_000][..], &[3; 10]] {
        stranger.send_to(bytes, right.local).unwrap();
    }
    assert_eq!(receive(&mut right, 1, 8), [[3; 10]]);
    assert_eq!(right.counters().receive_truncated, 1);
}

#[test]
fn a_strangers_run_is_cut_where_its_packets_say_so() {
    let mut right = port(|_| {});
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let cut_at = |bytes| set_option(stranger.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, bytes);
    // Tiny pieces say nothing, so the run goes on whole, to be refused.
    cut_at(1).unwrap();
    let tiny: Vec<u8> = (0..64).collect();
    stranger.send_to(&tiny, right.local).unwrap();
    assert_eq!(receive(&mut right, 1, 5), [tiny]);
    // Packets that lie about their length only make each other unreadable.
    cut_at(100).unwrap();
    let mut lies = numbered(3, 100).concat();
    lies[2..4].copy_from_slice(&(150u16 << 4).to_le_bytes());
    stranger.send_to(&lies, right.local).unwrap();
    assert_eq!(receive(&mut right, 2, 5).concat(), lies);
}

#[test]
fn held_bursts_starve_the_port_until_released() {
    let (mut left, mut right) = (port(|_| {}), port(|_| {}));
    let mut held = Vec::new();
    // Different lengths, so that each packet takes a buffer.
    for round in 0..40usize {
        submit(&mut left, right.local, &vec![round as u8; 1 + round % 7]);
        left.transmit();
        wait(&right);
        let mut burst = Burst::new(4);
        if right.receive(&mut burst) == 0 {
            break;
        }
        held.push((round, burst));
    }
    assert!(right.counters().receive_starved > 0);
    for (round, burst) in &held {
        for view in burst.views() {
            let bytes = right.view(view);
            assert!(bytes.iter().all(|&byte| usize::from(byte) == *round), "unchanged");
        }
    }
    for (_, burst) in &mut held {
        right.release_burst(burst);
    }
    assert_eq!(receive(&mut right, 1, 4).len(), 1);
}

#[test]
fn a_full_queue_sends_early_instead_of_dropping() {
    let small = |config: &mut UdpConfig| config.pool = PoolConfig::with_frames(8);
    let (mut left, mut right) = (port(small), port(small));
    let frame = left.allocate(Share::Request).unwrap();
    left.bytes_mut(frame)[..64].copy_from_slice(&packet(7, 64));
    for _ in 0..30 {
        left.submit(frame, 64, right.local);
    }
    left.transmit();
    left.release(frame);
    assert_eq!(receive(&mut right, 30, 64), vec![packet(7, 64); 30]);
    assert_eq!(left.counters().transmit_errors, 0);
}

#[test]
fn a_packet_to_nobody_is_lost_quietly() {
    let mut left = port(|_| {});
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut burst = Burst::new(4);
    for _ in 0..3 {
        submit(&mut left, nobody, b"anyone?");
        left.transmit();
        assert_eq!(left.receive(&mut burst), 0);
    }
    // Not routable from the loopback's address: the kernel refuses, the packet is dropped.
    submit(&mut left, "240.0.0.1:9".parse().unwrap(), b"anyone?");
    left.transmit();
    assert!(left.queue.is_empty());
    assert_eq!(left.available(Share::Reply), 248);
}

#[test]
fn refused_addresses_are_typed() {
    let first = port(|_| {});
    let again = UdpPort::bind(UdpConfig::new(first.local));
    assert!(matches!(again, Err(UdpError::AddressInUse { address }) if address == first.local));
    let elsewhere = UdpPort::bind(UdpConfig::new("203.0.113.7:0".parse().unwrap()));
    assert!(matches!(elsewhere, Err(UdpError::NoSuchAddress { .. })));
    let refused = socket::refused(first.local, rustix::io::Errno::ACCESS);
    assert!(matches!(refused, UdpError::Permission { .. }));
}

#[test]
fn the_window_fits_the_receive_buffer() {
    for (buffer_bytes, length) in [(106_496, 1400), (106_496, 2048), (1 << 20, 1400)] {
        let plain = |config: &mut UdpConfig| {
            config.socket_buffer_bytes = buffer_bytes;
            config.segmentation = false;
            config.coalescing = false;
            config.pool = PoolConfig::with_frames(4096);
        };
        let (mut left, mut right) = (port(plain), port(plain));
        let fitting = right.capabilities.window_bytes as usize / length;
        assert!(fitting > 30);
        for _ in 0..fitting {
            submit(&mut left, right.local, &vec![1; length]);
        }
        left.transmit();
        assert_eq!(receive(&mut right, fitting, 64).len(), fitting);
    }
}
