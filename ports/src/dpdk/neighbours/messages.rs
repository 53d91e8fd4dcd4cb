//! Messages between neighbours: ARP, neighbour discovery of IPv6, and echo ("ping").
//!
//! Read and written with smoltcp's wire formats. Nothing here has state; the frames carry no VLAN
//! tag, which is put in and taken out elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet,
    Ipv4Repr, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
};

use crate::MacAddress;

/// Neighbour discovery must not have passed a router (RFC 4861 §7.1.1).
const NEVER_ROUTED: u8 = 255;
/// Hops of an echo's answer.
const HOPS_MAX: u8 = 64;
/// Bytes of an Ethernet header.
const ETHERNET_BYTES: usize = 14;
/// Bytes of an IPv4 and an IPv6 header.
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;

/// Who we are on the link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Us {
    pub(super) mac: MacAddress,
    pub(super) address: IpAddr,
}

/// What a frame told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Somebody's Ethernet address, and whether it was told because we asked or because he wants
    /// something of us, not just announced to all.
    pub(super) neighbour: Option<(IpAddr, MacAddress, bool)>,
    /// How many bytes of an answer were written.
    pub(super) answer: usize,
    /// Whether the frame was of one of these protocols and for us.
    pub(super) ours: bool,
}

/// Reads a frame and writes the answer, if it wants one, into `answer`.
pub(super) fn take(us: &Us, frame: &[u8], answer: &mut [u8]) -> Told {
    let told = EthernetFrame::new_checked(frame).ok().and_then(|ethernet| {
        match (ethernet.ethertype(), us.address) {
            (EthernetProtocol::Arp, IpAddr::V4(own)) => arp(us, own, &ethernet, answer),
            (EthernetProtocol::Ipv4, IpAddr::V4(own)) => echo(us, own, &ethernet, answer),
            (EthernetProtocol::Ipv6, IpAddr::V6(own)) => icmp6(us, own, &ethernet, answer),
            _ => None,
        }
    });
    told.unwrap_or_default()
}

/// Writes the question who has `target`; to everybody, or to the one who had it last. Returns its
/// length: zero if the target is of another family or the room too short.
pub(super) fn ask(us: &Us, target: IpAddr, last: Option<MacAddress>, room: &mut [u8]) -> usize {
    let written = match (us.address, target) {
        (IpAddr::V4(own), IpAddr::V4(target)) => {
            let question = ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Request,
                source_hardware_addr: ethernet(us.mac),
                source_protocol_addr: own,
                target_hardware_addr: EthernetAddress([0; 6]),
                target_protocol_addr: target,
            };
            let to = last.map_or(EthernetAddress::BROADCAST, ethernet);
            write_arp(us, to, &question, room)
        }
        (IpAddr::V6(own), IpAddr::V6(target)) => {
            let question = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
                target_addr: target,
                lladdr: Some(ethernet(us.mac).into()),
            });
            let (ip, mac) = match last {
                Some(mac) => (target, ethernet(mac)),
                None => solicited_node(target),
            };
            write_icmp6(us, (mac, own, ip), NEVER_ROUTED, &question, room)
        }
        _ => None,
    };
    written.unwrap_or(0)
}

fn arp(us: &Us, own: Ipv4Addr, frame: &EthernetFrame<&[u8]>, answer: &mut [u8]) -> Option<Told> {
    let packet = ArpPacket::new_checked(frame.payload()).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: mac,
        source_protocol_addr: ip,
        target_protocol_addr: target,
        ..
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    if !mac.is_unicast() || ip == own {
        return None;
    }
    let to_us = target == own;
    // Who asks whether his address is taken has none yet (RFC 5227).
    let neighbour = (!ip.is_unspecified()).then_some((IpAddr::V4(ip), ours(mac), to_us));
    let mut told = Told { neighbour, answer: 0, ours: true };
    if to_us && operation == ArpOperation::Request {
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: ethernet(us.mac),
            source_protocol_addr: own,
            target_hardware_addr: mac,
            target_protocol_addr: ip,
        };
        told.answer = write_arp(us, mac, &reply, answer)?;
    }
    Some(told)
}

fn echo(us: &Us, own: Ipv4Addr, frame: &EthernetFrame<&[u8]>, answer: &mut [u8]) -> Option<Told> {
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    let sums = ChecksumCapabilities::default();
    let header = Ipv4Repr::parse(&packet, &sums).ok()?;
    let whole = !packet.more_frags() && packet.frag_offset() == 0;
    if header.dst_addr != own || header.next_header != IpProtocol::Icmp || !whole {
        return None;
    }
    let message = Icmpv4Packet::new_checked(packet.payload()).ok()?;
    let Icmpv4Repr::EchoRequest { ident, seq_no, data } =
        Icmpv4Repr::parse(&message, &sums).ok()?
    else {
        return None;
    };
    let reply = Icmpv4Repr::EchoReply { ident, seq_no, data };
    let header = Ipv4Repr {
        src_addr: own,
        dst_addr: header.src_addr,
        next_header: IpProtocol::Icmp,
        payload_len: reply.buffer_len(),
        hop_limit: HOPS_MAX,
    };
    let ip_bytes = IPV4_BYTES + reply.buffer_len();
    let room = write_ethernet(us, frame.src_addr(), EthernetProtocol::Ipv4, ip_bytes, answer)?;
    header.emit(&mut Ipv4Packet::new_unchecked(&mut *room), &sums);
    reply.emit(&mut Icmpv4Packet::new_unchecked(&mut room[IPV4_BYTES..]), &sums);
    Some(Told { neighbour: None, answer: ETHERNET_BYTES + ip_bytes, ours: true })
}

fn icmp6(us: &Us, own: Ipv6Addr, frame: &EthernetFrame<&[u8]>, answer: &mut [u8]) -> Option<Told> {
    let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
    let header = Ipv6Repr::parse(&packet).ok()?;
    let (from, to) = (header.src_addr, header.dst_addr);
    if header.next_header != IpProtocol::Icmpv6 {
        return None;
    }
    let message = Icmpv6Packet::new_checked(packet.payload()).ok()?;
    let sums = ChecksumCapabilities::default();
    match Icmpv6Repr::parse(&from, &to, &message, &sums).ok()? {
        Icmpv6Repr::EchoRequest { ident, seq_no, data } if to == own => {
            let reply = Icmpv6Repr::EchoReply { ident, seq_no, data };
            let back = (frame.src_addr(), own, from);
            let answer = write_icmp6(us, back, HOPS_MAX, &reply, answer)?;
            Some(Told { neighbour: None, answer, ours: true })
        }
        Icmpv6Repr::Ndisc(message) if header.hop_limit == NEVER_ROUTED => {
            neighbour_discovery(us, own, from, frame.src_addr(), message, answer)
        }
        _ => None,
    }
}

fn neighbour_discovery(
    us: &Us,
    own: Ipv6Addr,
    from: Ipv6Addr,
    mac: EthernetAddress,
    message: NdiscRepr<'_>,
    answer: &mut [u8],
) -> Option<Told> {
    match message {
        NdiscRepr::NeighborSolicit { target_addr, lladdr } if target_addr == own => {
            let told = lladdr.and_then(|told| six(told.as_bytes()));
            let neighbour = match from.is_unspecified() {
                true => None,
                false => told.map(|told| (IpAddr::V6(from), told, true)),
            };
            // Who asks whether his address is taken has none yet (RFC 4862 §5.4): tell everybody.
            let (to, mac, solicited) = match from.is_unspecified() {
                true => (ALL_NODES, EthernetAddress(ALL_NODES_MAC), NdiscNeighborFlags::empty()),
                false => {
                    let mac = told.map_or(mac, ethernet);
                    (from, mac, NdiscNeighborFlags::SOLICITED)
                }
            };
            let reply = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
                flags: solicited | NdiscNeighborFlags::OVERRIDE,
                target_addr: own,
                lladdr: Some(ethernet(us.mac).into()),
            });
            let answer = write_icmp6(us, (mac, own, to), NEVER_ROUTED, &reply, answer)?;
            Some(Told { neighbour, answer, ours: true })
        }
        NdiscRepr::NeighborAdvert { flags, target_addr, lladdr } if target_addr != own => {
            // Without an option it is told by the frame itself (RFC 4861 §4.4).
            let mac = lladdr.map_or(Some(ours(mac)), |told| six(told.as_bytes()))?;
            let asked = flags.contains(NdiscNeighborFlags::SOLICITED);
            let neighbour = Some((IpAddr::V6(target_addr), mac, asked));
            Some(Told { neighbour, answer: 0, ours: true })
        }
        _ => None,
    }
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// Where questions for an address go that everybody else may ignore (RFC 4291 §2.7.1).
fn solicited_node(target: Ipv6Addr) -> (Ipv6Addr, EthernetAddress) {
    let [.., a, b, c] = target.octets();
    let low = u16::from_be_bytes([b, c]);
    let ip = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), low);
    (ip, EthernetAddress([0x33, 0x33, 0xff, a, b, c]))
}

fn write_arp(us: &Us, to: EthernetAddress, repr: &ArpRepr, room: &mut [u8]) -> Option<usize> {
    let bytes = repr.buffer_len();
    let payload = write_ethernet(us, to, EthernetProtocol::Arp, bytes, room)?;
    repr.emit(&mut ArpPacket::new_unchecked(payload));
    Some(ETHERNET_BYTES + bytes)
}

fn write_icmp6(
    us: &Us,
    (mac, from, to): (EthernetAddress, Ipv6Addr, Ipv6Addr),
    hop_limit: u8,
    message: &Icmpv6Repr<'_>,
    room: &mut [u8],
) -> Option<usize> {
    let header = Ipv6Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit,
    };
    let bytes = IPV6_BYTES + message.buffer_len();
    let payload = write_ethernet(us, mac, EthernetProtocol::Ipv6, bytes, room)?;
    header.emit(&mut Ipv6Packet::new_unchecked(&mut *payload));
    let mut packet = Icmpv6Packet::new_unchecked(&mut payload[IPV6_BYTES..]);
    message.emit(&from, &to, &mut packet, &ChecksumCapabilities::default());
    Some(ETHERNET_BYTES + bytes)
}

/// Writes an Ethernet header and returns the room for `bytes` after it, if there is that much.
fn write_ethernet<'a>(
    us: &Us,
    to: EthernetAddress,
    protocol: EthernetProtocol,
    bytes: usize,
    room: &'a mut [u8],
) -> Option<&'a mut [u8]> {
    let room = room.get_mut(..ETHERNET_BYTES + bytes)?;
    let header = EthernetRepr { src_addr: ethernet(us.mac), dst_addr: to, ethertype: protocol };
    header.emit(&mut EthernetFrame::new_unchecked(&mut *room));
    Some(&mut room[ETHERNET_BYTES..])
}

fn ethernet(mac: MacAddress) -> EthernetAddress {
    EthernetAddress(mac.0)
}

fn ours(mac: EthernetAddress) -> MacAddress {
    MacAddress(mac.0)
}

/// A unicast Ethernet address, if the bytes are one.
fn six(bytes: &[u8]) -> Option<MacAddress> {
    let bytes: [u8; 6] = bytes.get(..6)?.try_into().ok()?;
    (bytes[0] & 1 == 0).then_some(MacAddress(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const RIGHT: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn us(mac: [u8; 6], address: &str) -> Us {
        Us { mac: MacAddress(mac), address: address.parse().unwrap() }
    }

    fn pairs() -> [(Us, Us); 2] {
        [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")]
            .map(|(left, right)| (us(LEFT, left), us(RIGHT, right)))
    }

    #[test]
    fn who_is_asked_answers_and_both_know_each_other() {
        for (left, right) in pairs() {
            for last in [None, Some(MacAddress(RIGHT))] {
                let (mut question, mut answer) = ([0; 128], [0; 128]);
                let asked = ask(&left, right.address, last, &mut question);
                assert_eq!(question[..6] == RIGHT, last.is_some());
                assert_eq!(question[0] & 1 == 1, last.is_none());
                let told = take(&right, &question[..asked], &mut answer);
                assert_eq!(told.neighbour, Some((left.address, left.mac, true)));
                assert_eq!(answer[..6], LEFT);
                let told = take(&left, &answer[..told.answer], &mut question);
                let neighbour = Some((right.address, right.mac, true));
                assert_eq!(told, Told { neighbour, answer: 0, ours: true });
            }
            // Who is not asked does not answer.
            let (mut question, mut answer) = ([0; 128], [0; 128]);
            let asked = ask(&left, right.address, None, &mut question);
            let other = Us { mac: right.mac, ..us(RIGHT, "10.0.0.3") };
            assert_eq!(take(&other, &question[..asked], &mut answer).answer, 0);
        }
    }

    /// An echo request as `left` would send it to `right`.
    fn ping(left: &Us, right: &Us, room: &mut [u8]) -> usize {
        let (ident, seq_no, data) = (7, 9, &[5; 56][..]);
        let to = EthernetAddress(right.mac.0);
        match (left.address, right.address) {
            (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
                let message = Icmpv4Repr::EchoRequest { ident, seq_no, data };
                let payload_len = message.buffer_len();
                let next_header = IpProtocol::Icmp;
                let header =
                    Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: 9 };
                let bytes = IPV4_BYTES + payload_len;
                let ip = write_ethernet(left, to, EthernetProtocol::Ipv4, bytes, room).unwrap();
                let sums = ChecksumCapabilities::default();
                header.emit(&mut Ipv4Packet::new_unchecked(&mut *ip), &sums);
                message.emit(&mut Icmpv4Packet::new_unchecked(&mut ip[IPV4_BYTES..]), &sums);
                ETHERNET_BYTES + bytes
            }
            (IpAddr::V6(from), IpAddr::V6(ip)) => {
                let message = Icmpv6Repr::EchoRequest { ident, seq_no, data };
                write_icmp6(left, (to, from, ip), 9, &message, room).unwrap()
            }
            _ => unreachable!(),
        }
    }

    #[test]
    fn an_echo_comes_back_with_what_was_sent() {
        for (left, right) in pairs() {
            let (mut question, mut answer) = ([0; 256], [0; 256]);
            let asked = ping(&left, &right, &mut question);
            let told = take(&right, &question[..asked], &mut answer);
            assert_eq!((told.answer, told.ours), (asked, true));
            assert_eq!(answer[asked - 56..asked], [5; 56]);
            assert_eq!(answer[..12], [LEFT, RIGHT].concat());
            // An answer wants none, and neither does what is for somebody else.
            assert_eq!(take(&left, &answer[..asked], &mut question), Told::default());
            let asked = ping(&left, &right, &mut question);
            let other = Us { address: left.address, ..right };
            assert_eq!(take(&other, &question[..asked], &mut answer), Told::default());
            assert_eq!(take(&right, &question[..asked], &mut answer[..40]).answer, 0);
        }
    }

    #[test]
    fn nothing_that_arrives_makes_it_fail() {
        for (left, right) in pairs() {
            let mut answer = [0; 256];
            let mut frames = [[0; 256]; 2];
            let lengths = [
                ping(&left, &right, &mut frames[0]),
                ask(&left, right.address, None, &mut frames[1]),
            ];
            for (frame, length) in frames.iter().zip(lengths) {
                for cut in 0..length {
                    take(&right, &frame[..cut], &mut answer);
                }
                for at in 0..length {
                    for byte in 0..=255 {
                        let mut changed = *frame;
                        changed[at] = byte;
                        take(&right, &changed[..length], &mut answer);
                    }
                }
            }
        }
    }
}
