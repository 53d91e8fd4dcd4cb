//! What the kernel says of devices, addresses, routes and neighbours, as far as a port asks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashMap;

use super::netlink::{Answer, Asker, Question};
use super::table::Route;
use crate::MacAddress;

// Numbers of attributes (linux/if_link.h, if_addr.h, rtnetlink.h, neighbour.h).
const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_LOWER: u16 = 5;
const LINK_INFO: u16 = 18;
const LINK_INFO_KIND: u16 = 1;
const LINK_INFO_DATA: u16 = 2;
const LINK_VLAN_ID: u16 = 1;
const ADDRESS_ADDRESS: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ROUTE_DESTINATION: u16 = 1;
const ROUTE_DEVICE: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const ROUTE_METRIC: u16 = 6;
const ROUTE_MULTIPATH: u16 = 9;
const ROUTE_TABLE: u16 = 15;
const ROUTE_VIA: u16 = 18;
const NEIGHBOUR_DESTINATION: u16 = 1;
const NEIGHBOUR_LINK_ADDRESS: u16 = 2;

/// Bytes of `struct rtnexthop`, which begins each way of a route with several.
const NEXT_HOP_BYTES: usize = 8;

/// States in which a neighbour's link address can be used (linux/neighbour.h).
const NEIGHBOUR_VALID: u16 = libc::NUD_PERMANENT
    | libc::NUD_NOARP
    | libc::NUD_REACHABLE
    | libc::NUD_PROBE
    | libc::NUD_STALE
    | libc::NUD_DELAY;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Link {
    pub(in super::super) index: u32,
    pub(in super::super) name: String,
    /// `None`: no Ethernet.
    pub(in super::super) mac: Option<MacAddress>,
    pub(in super::super) mtu: usize,
    /// Whether an administrator has switched it on.
    pub(in super::super) is_up: bool,
    /// Whether it is an end of a virtual link between two namespaces.
    pub(in super::super) is_veth: bool,
    /// For a VLAN: of which device, and which.
    pub(in super::super) vlan_of: Option<(u32, u16)>,
}

pub(in super::super) fn links(asker: &mut Asker) -> io::Result<Vec<Link>> {
    Ok(asker.ask(Question::Links)?.iter().map(link).collect())
}

fn link(answer: &Answer) -> Link {
    const ETHERNET: u16 = libc::ARPHRD_ETHER;
    let octets = answer.attribute(LINK_ADDRESS).and_then(|octets| octets.try_into().ok());
    let info = answer.nested(LINK_INFO);
    let is = |kind: &[u8]| {
        let found = info.as_ref().and_then(|info| info.attribute(LINK_INFO_KIND));
        found.map(|found| found.strip_suffix(b"\0").unwrap_or(found)) == Some(kind)
    };
    let vlan = info
        .as_ref()
        .filter(|_| is(b"vlan"))
        .and_then(|info| info.nested(LINK_INFO_DATA))
        .and_then(|data| data.attribute(LINK_VLAN_ID)?.first_chunk().copied())
        .map(u16::from_ne_bytes);
    let name = answer.attribute(LINK_NAME).unwrap_or_default();
    Link {
        index: answer.word(4),
        name: String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(name)).into_owned(),
        mac: octets.filter(|_| answer.half(2) == ETHERNET).map(MacAddress),
        mtu: answer.attribute_word(LINK_MTU).unwrap_or_default() as usize,
        is_up: answer.word(8) & libc::IFF_UP.cast_unsigned() != 0,
        is_veth: is(b"veth"),
        vlan_of: answer.attribute_word(LINK_LOWER).zip(vlan),
    }
}

/// Addresses of this host, each with its device's index.
pub(in super::super) fn addresses(asker: &mut Asker) -> io::Result<Vec<(u32, IpAddr)>> {
    let answers = asker.ask(Question::Addresses)?;
    Ok(answers
        .iter()
        .filter_map(|answer| {
            // On links with a peer, ADDRESS is the peer's; LOCAL is ours, if it is there.
            let local = answer.attribute(ADDRESS_LOCAL).or(answer.attribute(ADDRESS_ADDRESS));
            Some((answer.word(4), ip(local?)?))
        })
        .collect())
}

/// Unicast routes of the main table through a device, for one family.
pub(super) fn routes(asker: &mut Asker, device: u32, is_ipv4: bool) -> io::Result<Vec<Route>> {
    let answers = asker.ask(Question::Routes)?;
    let mut routes: Vec<Route> = answers
        .iter()
        .filter(|answer| answer.byte(0) == family(is_ipv4))
        .filter_map(|answer| route(answer, device, is_ipv4))
        .collect();
    // The longest prefix wins, then the smallest metric.
    routes.sort_by_key(|route| (u8::MAX - route.prefix_bits, route.metric));
    Ok(routes)
}

fn route(answer: &Answer, device: u32, is_ipv4: bool) -> Option<Route> {
    const MAIN: u32 = libc::RT_TABLE_MAIN as u32;
    let table = answer.attribute_word(ROUTE_TABLE).unwrap_or(answer.byte(4).into());
    if table != MAIN || answer.byte(7) != libc::RTN_UNICAST {
        return None;
    }
    let gateway = match answer.attribute(ROUTE_MULTIPATH) {
        // One way of several: a flow's packets should not be spread anyway.
        Some(ways) => way_through(ways, device)?,
        None if answer.attribute_word(ROUTE_DEVICE) == Some(device) => gateway(answer),
        None => return None,
    };
    let unspecified: IpAddr =
        if is_ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    Some(Route {
        destination: answer.attribute(ROUTE_DESTINATION).and_then(ip).unwrap_or(unspecified),
        prefix_bits: answer.byte(1),
        metric: answer.attribute_word(ROUTE_METRIC).unwrap_or_default(),
        gateway,
    })
}

/// The gateway of the first way of a route that leads through the device.
fn way_through(mut ways: &[u8], device: u32) -> Option<Option<IpAddr>> {
    while let Some(header) = ways.first_chunk::<NEXT_HOP_BYTES>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
        let attributes = ways.get(NEXT_HOP_BYTES..length)?;
        if index == device {
            return Some(gateway(&Answer::parse(attributes, 0)?));
        }
        ways = ways.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn gateway(answer: &Answer) -> Option<IpAddr> {
    // VIA has a family first: IPv4 routes may lead through IPv6 gateways.
    let via = || answer.attribute(ROUTE_VIA).and_then(|via| ip(via.get(2..)?));
    answer.attribute(ROUTE_GATEWAY).and_then(ip).or_else(via)
}

/// What is known of the neighbours on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Neighbours {
    pub(super) known: HashMap<IpAddr, MacAddress>,
    /// Known, but the kernel would like to be told that they are still in use.
    pub(super) stale: Vec<IpAddr>,
}

pub(super) fn neighbours(asker: &mut Asker, device: u32) -> io::Result<Neighbours> {
    let mut neighbours = Neighbours::default();
    for answer in asker.ask(Question::Neighbours)? {
        let state = answer.half(8);
        if answer.word(4) != device || state & NEIGHBOUR_VALID == 0 {
            continue;
        }
        let address = answer.attribute(NEIGHBOUR_DESTINATION).and_then(ip);
        let octets = answer.attribute(NEIGHBOUR_LINK_ADDRESS).and_then(|it| it.try_into().ok());
        let (Some(address), Some(octets)) = (address, octets) else { continue };
        neighbours.known.insert(address, MacAddress(octets));
        if state & libc::NUD_STALE != 0 {
            neighbours.stale.push(address);
        }
    }
    Ok(neighbours)
}

fn family(is_ipv4: bool) -> u8 {
    (if is_ipv4 { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}
