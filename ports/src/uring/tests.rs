use std::net::UdpSocket;

use nic_wire::ConnectionId;
use nic_wire::packet::{PacketHeader, PacketKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::udp::socket::set_option;

fn port(change: impl FnOnce(&mut UringConfig)) -> UringPort {
    let mut config = UringConfig::new("127.0.0.1:0".parse().unwrap());
    config.pool = PoolConfig::with_frames(256);
    change(&mut config);
    UringPort::bind(config).unwrap_or_else(|error| panic!("{error}"))
}

fn plain(config: &mut UringConfig) {
    config.segmentation = false;
    config.coalescing = false;
}

fn submit(port: &mut UringPort, to: SocketAddr, bytes: &[u8]) {
    let frame = port.allocate(Share::Reply).unwrap();
    port.bytes_mut(frame)[..bytes.len()].copy_from_slice(bytes);
    port.submit(frame, bytes.len(), to);
    port.release(frame);
}

fn is_readable(port: &UringPort, seconds: i64) -> bool {
    let bell = port.wait_descriptor().unwrap();
    let mut readable = [PollFd::new(&bell, PollFlags::IN)];
    poll(&mut readable, Some(&Timespec { tv_sec: seconds, tv_nsec: 0 })).unwrap() == 1
}

/// Sleeps until something has come.
fn wait(port: &mut UringPort) {
    if port.prepare_wait() {
        assert!(is_readable(port, 5), "nothing arrives");
        port.end_wait();
    }
}

/// Receives until `count` packets have come, in bursts of `room`.
fn receive(port: &mut UringPort, count: usize, room: usize) -> Vec<Vec<u8>> {
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
fn this_process_may_use_it() {
    probe().unwrap_or_else(|error| panic!("{error}"));
}

/// What the probe finds on a thread whose filter answers so to the call that makes a ring.
fn probe_denied_by(errno: i32) -> UringError {
    use seccompiler::{SeccompAction, SeccompFilter, apply_filter};
    let calls = [(libc::SYS_io_uring_setup, Vec::new())].into();
    let denied = SeccompAction::Errno(errno as u32);
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, denied, architecture).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    let denied = std::thread::spawn(move || {
        apply_filter(&program).unwrap();
        let port = UringPort::bind(UringConfig::new("127.0.0.1:0".parse().unwrap()));
        let [probed, bound] = [probe().err().unwrap(), port.err().unwrap()];
        assert_eq!(probed.to_string(), bound.to_string());
        probed
    });
    denied.join().unwrap()
}

#[test]
fn a_containers_filter_is_named() {
    assert!(matches!(probe_denied_by(libc::EPERM), UringError::Denied));
    assert!(matches!(probe_denied_by(libc::ENOSYS), UringError::Absent));
    let old = probe_denied_by(libc::EINVAL).to_string();
    assert!(old.contains("DEFER_TASKRUN") && old.contains("Linux 6.1"), "{old}");
}

#[test]
fn a_run_of_equal_packets_is_one_call_on_each_side() {
    let (mut left, mut right) = (port(|_| {}), port(|_| {}));
    let supported = right.capabilities.segmentation && right.capabilities.coalescing;
    assert!(supported, "the kernels that tests run on have both: {}", right.capabilities);
    let mut packets = numbered(20, 1000);
    packets.push(packet(99, 300));
    right.receive(&mut Burst::new(1));
    for _ in 0..3 {
        let (sends, receives) = (left.ring.calls(), right.ring.calls());
        packets.iter().for_each(|packet| submit(&mut left, right.local, packet));
        left.transmit();
        let mut burst = Burst::new(64);
        while right.receive(&mut burst) == 0 {}
        assert_eq!(burst.len(), 21);
        right.release_burst(&mut burst);
        assert_eq!((left.ring.calls(), right.ring.calls()), (sends + 1, receives + 1));
    }
    assert_eq!((left.counters().transmit_calls, right.counters().receive_calls), (3, 3));
    assert_eq!(left.counters().transmitted_bytes, 3 * (20 * 1000 + 300));
    assert_eq!(right.counters().received_bytes, 3 * (20 * 1000 + 300));
}

#[test]
fn an_idle_turn_makes_no_system_call() {
    let mut idle = port(|_| {});
    let mut burst = Burst::new(8);
    assert_eq!(idle.receive(&mut burst), 0);
    let calls = idle.ring.calls();
    for _ in 0..1000 {
        assert_eq!(idle.receive(&mut burst), 0);
        idle.release_burst(&mut burst);
        idle.transmit();
    }
    assert_eq!((idle.ring.calls(), idle.counters().empty_polls), (calls, 1001));
}

#[test]
fn a_transmit_brings_what_has_arrived() {
    let (mut left, mut right) = (port(|_| {}), port(|_| {}));
    right.receive(&mut Burst::new(1));
    submit(&mut left, right.local, &packet(1, 100));
    left.transmit();
    submit(&mut right, left.local, &packet(2, 100));
    while !right.ring.has_work() {}
    right.transmit();
    let calls = right.ring.calls();
    assert_eq!(receive(&mut right, 1, 4), [packet(1, 100)]);
    assert_eq!(right.ring.calls(), calls, "it was there already");
    assert_eq!(receive(&mut left, 1, 4), [packet(2, 100)]);
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
    assert_eq!((left.ring.calls(), left.counters().transmit_calls), (1, 1));
    for peer in [&mut right, &mut third] {
        let found = receive(peer, lengths.len(), 64);
        assert!(found.iter().map(Vec::len).eq(lengths), "in order");
    }
}

#[test]
fn what_one_call_cannot_take_goes_with_the_next() {
    let (mut left, mut right) = (port(plain), port(plain));
    let packets = numbered(200, 100);
    packets.iter().for_each(|packet| submit(&mut left, right.local, packet));
    left.transmit();
    let sent = u64::from(MESSAGES_MAX);
    assert_eq!((left.ring.calls(), left.counters().transmitted_packets), (1, sent));
    left.transmit();
    assert_eq!((left.ring.calls(), left.counters().transmitted_packets), (2, 200));
    // There are fewer buffers than packets: the receiving operation ends and is renewed.
    assert_eq!(receive(&mut right, 200, 256), packets);
    assert_eq!(left.available(Share::Reply), 248, "all frames are back");
}

#[test]
fn what_does_not_fit_a_burst_comes_with_the_next() {
    let (mut left, mut right) = (port(|_| {}), port(|_| {}));
    let packets = numbered(40, 200);
    for round in 0..2 {
        packets.iter().for_each(|packet| submit(&mut left, right.local, packet));
        left.transmit();
        let mut burst = Burst::new(3);
        while right.receive(&mut burst) == 0 {
            wait(&mut right);
        }
        // While a part is held back, the bell would not wake anyone: there is no sleeping.
        assert!(!right.prepare_wait(), "round {round}");
        right.release_burst(&mut burst);
        assert_eq!(receive(&mut right, 37, 4), packets[3..]);
        assert!(right.prepare_wait());
        right.end_wait();
    }
}

#[test]
fn segmentation_that_fails_on_the_way_is_given_up_without_loss() {
    let (mut left, mut right) = (port(|_| {}), port(|_| {}));
    assert!(left.capabilities.segmentation, "{}", left.capabilities);
    // Without checksums the kernel refuses to segment, and sends single packets as ever.
    set_option(left._socket.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    let mut packets = numbered(10, 100);
    packets.push(packet(10, 800));
    for round in 0..2 {
        packets.iter().for_each(|packet| submit(&mut left, right.local, packet));
        left.transmit();
        let mut found = receive(&mut right, 11, 64);
        found.sort();
        let mut expected = packets.clone();
        expected.sort();
        assert_eq!(found, expected, "round {round}");
    }
    assert_eq!(left.counters().segmentation_failures, 1);
    assert_eq!(left.counters().transmit_errors, 0);
    assert_eq!((left.capabilities.segmentation, &*left.capabilities.mode), (false, "gro"));
    assert!(left.capabilities.reasons[0].contains("gso off"), "{}", left.capabilities);
    assert_eq!(left.available(Share::Reply), 248, "all frames are back");
}

#[test]
fn what_no_engine_sends_is_dropped_and_counted() {
    let mut right = port(|_| {});
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for bytes in [&[][..], &[1; MAX_PACKET_BYTES + 1], &[], &[2; 60_000], &[3; MAX_PACKET_BYTES]] {
        stranger.send_to(bytes, right.local).unwrap();
    }
    // An empty datagram ends the receiving operation, which is renewed.
    assert_eq!(receive(&mut right, 1, 8), [[3; MAX_PACKET_BYTES]]);
    assert_eq!(right.counters().receive_foreign, 4);

    // Without coalescing the buffers are small, and a long datagram is cut off.
    let mut right = port(plain);
    for bytes in [&[2; 60_000][..], &[3; 10]] {
        stranger.send_to(bytes, right.local).unwrap();
    }
    assert_eq!(receive(&mut right, 1, 8), [[3; 10]]);
    assert_eq!(right.counters().receive_truncated, 1);
    // Whatever is dropped, its buffer is not.
    for number in 0..1000u32 {
        stranger.send_to(&[], right.local).unwrap();
        stranger.send_to(&[2; 60_000], right.local).unwrap();
        stranger.send_to(&number.to_le_bytes(), right.local).unwrap();
        assert_eq!(receive(&mut right, 1, 8), [number.to_le_bytes()]);
    }
}

#[test]
fn held_bursts_starve_the_port_until_released() {
    let (mut left, mut right) = (port(|_| {}), port(|_| {}));
    let buffers = usize::from(right.incoming.buffers().count());
    let mut held = Vec::new();
    // Different lengths, so that each packet takes a buffer.
    for round in 0..buffers + 10 {
        submit(&mut left, right.local, &vec![round as u8; 1 + round % 7]);
        left.transmit();
        let mut burst = Burst::new(4);
        while right.receive(&mut burst) == 0 && right.counters().receive_starved == 0 {}
        if burst.is_empty() {
            break;
        }
        held.push((round, burst));
    }
    assert_eq!((held.len(), right.counters().receive_starved), (buffers, 1));
    assert!(!right.prepare_wait(), "nobody could be woken");
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
    let small = |config: &mut UringConfig| config.pool = PoolConfig::with_frames(8);
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
fn a_full_socket_keeps_the_rest_in_order() {
    let small = |config: &mut UringConfig| {
        plain(config);
        config.socket_buffer_bytes = 4096;
    };
    let (mut left, right) = (port(small), port(|_| {}));
    // Nothing a loopback does fills a socket's buffer, so the kernel's answers are made up.
    for byte in 0..6 {
        submit(&mut left, right.local, &packet(byte, 100));
    }
    let UringPort { outgoing, queue, pool, ring, .. } = &mut left;
    assert!(outgoing.push(queue, pool, ring, false, &mut 0));
    for (number, result) in [(0, 100), (1, -libc::EAGAIN), (2, 100), (3, -libc::ENOBUFS)] {
        let left = outgoing.complete(number, result);
        assert_eq!(left.is_some(), result > 0);
    }
    assert!(outgoing.complete(4, -libc::EPERM).is_none());
    left.settle_failures();
    let queued = |port: &UringPort| -> Vec<u8> {
        let waiting = port.queue.waiting().iter();
        waiting.map(|queued| port.pool.bytes(queued.frame)[99]).collect()
    };
    assert_eq!(queued(&left), [1, 3], "in order");
    assert!(left.blocked);
    assert_eq!((left.counters.transmit_blocked, left.counters.transmit_errors), (1, 1));
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
    assert_eq!(left.counters().transmit_errors, 1);
    assert!(left.queue.is_empty());
    assert_eq!(left.available(Share::Reply), 248);
}

#[test]
fn a_port_is_moved_until_it_is_used() {
    let (mut left, right) = (port(|_| {}), port(|_| {}));
    let to = right.local;
    let there = std::thread::spawn(move || {
        let mut right = right;
        let packets = receive(&mut right, 1, 4);
        (right, packets)
    });
    submit(&mut left, to, b"moved");
    left.transmit();
    let (mut right, packets) = there.join().unwrap();
    assert_eq!(packets, [b"moved"]);

    // Now it belongs to the other thread.
    submit(&mut right, left.local, b"astray");
    right.transmit();
    assert_eq!(right.fault(), Some(PortFault::OtherThread));
    submit(&mut right, left.local, b"astray");
    right.transmit();
    assert_eq!(right.receive(&mut Burst::new(4)), 0);
    assert_eq!((right.available(Share::Reply), right.counters().transmit_errors), (248, 2));
    assert!(right.prepare_wait() && !is_readable(&right, 0));
    right.end_wait();
}

#[test]
fn an_address_is_free_as_soon_as_its_port_is_gone() {
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut first = port(|_| {});
    let address = first.local;
    for _ in 0..50 {
        stranger.send_to(b"x", address).unwrap();
        assert_eq!(receive(&mut first, 1, 4).len(), 1);
        drop(first);
        first = port(|config| config.address = address);
    }
    // Dropped by another thread it is free a little later, and binding waits for that.
    for _ in 0..20 {
        stranger.send_to(b"x", address).unwrap();
        assert_eq!(receive(&mut first, 1, 4).len(), 1);
        std::thread::spawn(move || drop(first)).join().unwrap();
        first = port(|config| config.address = address);
    }
}

#[test]
fn a_ring_serves_nothing_but_the_ports_messages() {
    let mut port = port(|_| {});
    port.transmit();
    port.receive(&mut Burst::new(1));
    let nothing = io_uring::opcode::Nop::new().build().user_data(7);
    // SAFETY: the operation points to nothing.
    assert!(unsafe { port.ring.push(&nothing) });
    port.ring.enter().unwrap();
    let answers: Vec<_> = port.ring.completions().map(|entry| entry.result()).collect();
    assert_eq!(answers, [-libc::EACCES]);
}

#[test]
fn refused_addresses_are_typed() {
    let first = port(|_| {});
    let again = UringPort::bind(UringConfig::new(first.local)).err().unwrap();
    let expected = matches!(again, UringError::Udp(UdpError::AddressInUse { address })
        if address == first.local);
    assert!(expected, "{again}");
    let elsewhere = UringPort::bind(UringConfig::new("203.0.113.7:0".parse().unwrap()));
    assert!(matches!(elsewhere, Err(UringError::Udp(UdpError::NoSuchAddress { .. }))));
}
