use super::*;
use crate::sim::{SimConfig, SimNetwork};

/// One record read back: time, addresses, payload. Checks lengths and checksums on the way.
fn parse(file: &[u8]) -> Vec<(u64, SocketAddr, SocketAddr, Vec<u8>)> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(20)), (MAGIC, LINKTYPE_RAW));
    let mut records = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let time_ns = u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4));
        let length = word(at + 8) as usize;
        let packet = &file[at + RECORD_BYTES..at + RECORD_BYTES + length];
        at += RECORD_BYTES + length;
        let half = |bytes: &[u8]| u16::from_be_bytes(bytes.try_into().unwrap());
        let (from, to, udp): (IpAddr, IpAddr, &[u8]) = if packet[0] >> 4 == 4 {
            assert_eq!(usize::from(half(&packet[2..4])), length);
            let mut sum = Checksum::default();
            sum.add(&packet[..IPV4_BYTES]);
            assert_eq!(sum.finish(), 0, "the header's checksum covers itself");
            let ip = |at: usize| <[u8; 4]>::try_from(&packet[at..at + 4]).unwrap().into();
            (ip(12), ip(16), &packet[IPV4_BYTES..])
        } else {
            assert_eq!(usize::from(half(&packet[4..6])), length - IPV6_BYTES);
            let ip = |at: usize| <[u8; 16]>::try_from(&packet[at..at + 16]).unwrap().into();
            (ip(8), ip(24), &packet[IPV6_BYTES..])
        };
        assert_eq!(usize::from(half(&udp[4..6])), udp.len());
        let mut sum = Checksum::default();
        for ip in [from, to] {
            match ip {
                IpAddr::V4(ip) => sum.add(&ip.octets()),
                IpAddr::V6(ip) => sum.add(&ip.octets()),
            }
        }
        sum.add(&[0, UDP]);
        sum.add(&udp[4..6]);
        sum.add(udp);
        assert_eq!(sum.finish(), 0, "the UDP checksum covers pseudo header and payload");
        let address = |ip, bytes| SocketAddr::new(ip, half(bytes));
        let (from, to) = (address(from, &udp[0..2]), address(to, &udp[2..4]));
        records.push((time_ns, from, to, udp[UDP_BYTES..].to_vec()));
    }
    records
}

#[test]
fn packets_of_both_directions_and_families_are_written_down() {
    for (left, right) in [("10.0.0.1:7", "10.0.0.2:8"), ("[fd00::1]:7", "[fd00::2]:8")] {
        let network = SimNetwork::new(1, SimConfig::default());
        let left = network.port(left.parse().unwrap()).unwrap();
        let mut right = network.port(right.parse().unwrap()).unwrap();
        let clock = {
            let network = network.clone();
            move || network.now()
        };
        let mut file = Vec::new();
        let mut left = Pcap::new(left, &mut file, clock).unwrap();
        let (here, there) = (left.local_address(), right.local_address());

        let frame = left.allocate(Share::Request).unwrap();
        left.bytes_mut(frame)[..3].copy_from_slice(b"out");
        left.submit(frame, 3, there);
        left.submit(frame, 0, there); // refused: not written
        left.transmit();
        left.release(frame);
        let frame = right.allocate(Share::Request).unwrap();
        right.bytes_mut(frame)[..2].copy_from_slice(b"in");
        right.submit(frame, 2, here);
        right.transmit();
        let arrival = network.next_event().unwrap();
        network.advance_to(arrival);
        let mut burst = Burst::new(8);
        assert_eq!(left.receive(&mut burst), 1);
        left.release_burst(&mut burst);
        left.finish().unwrap();

        let expected =
            [(0, here, there, b"out".to_vec()), (arrival.as_ns(), there, here, b"in".to_vec())];
        assert_eq!(parse(&file), expected);
    }
}

#[test]
fn a_capture_that_cannot_be_written_ends_and_the_port_goes_on() {
    let network = SimNetwork::new(1, SimConfig::default());
    let left = network.port("10.0.0.1:7".parse().unwrap()).unwrap();
    let mut space = [0u8; 60];
    let mut left = Pcap::new(left, &mut space[..], || Time::ZERO).unwrap();
    let frame = left.allocate(Share::Request).unwrap();
    for _ in 0..3 {
        left.submit(frame, 100, "10.0.0.2:8".parse().unwrap());
    }
    left.transmit();
    assert_eq!(left.counters().transmitted_packets, 3);
    assert!(left.error().is_some());
    assert!(left.finish().is_err());
}
