//! Ethernet, IP and UDP around packets, for ports that hand whole link frames to a device.
//!
//! Only what an engine's packets need: UDP without fragments and extension headers, on IPv4 or
//! IPv6, with or without one VLAN tag. The rest of what arrives is somebody else's.

// Each port uses a part; with both of them none may be left over.
#![cfg_attr(not(all(feature = "xdp", feature = "dpdk")), allow(dead_code, unused_imports))]

mod checksum;
mod destinations;
mod header;
mod parse;

pub(crate) use self::destinations::{Destinations, Resolve};
pub(crate) use self::header::{Endpoint, HEADER_BYTES_MAX, Header};
pub(crate) use self::parse::{Datagram, Foreign, parse};
pub(crate) use crate::MacAddress;

/// Bytes of an Ethernet header without a tag.
const ETHERNET_BYTES: usize = 14;
/// Bytes of a VLAN tag.
const VLAN_BYTES: usize = 4;
/// Bytes of an IPv4 header without options.
const IPV4_BYTES: usize = 20;
/// Bytes of an IPv6 header.
const IPV6_BYTES: usize = 40;
/// Bytes of a UDP header.
const UDP_BYTES: usize = 8;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
/// The number of UDP among the protocols of IP.
const PROTOCOL_UDP: u8 = 17;

/// How long a packet may be, so that with IP and UDP headers it fits a link's MTU.
pub(crate) const fn payload_bytes_max(mtu: usize, is_ipv4: bool) -> usize {
    mtu.saturating_sub(UDP_BYTES + if is_ipv4 { IPV4_BYTES } else { IPV6_BYTES })
}
