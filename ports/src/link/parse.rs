//! What arrived: a datagram for an engine, or something else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    ETHERNET_BYTES, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, IPV4_BYTES, IPV6_BYTES,
    PROTOCOL_UDP, UDP_BYTES, VLAN_BYTES,
};

/// A UDP datagram within a link frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// Where its payload begins, in bytes from the frame's first.
    pub(crate) offset: usize,
    /// How long its payload is, in bytes.
    pub(crate) length: usize,
}

/// Why a frame is none for an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// Another protocol, another VLAN, or a malformed header.
    Other,
    /// A piece of a datagram: engines send none.
    Fragment,
    /// Cut off: its headers promise more bytes than there are.
    Truncated,
}

/// Finds the datagram in a frame of this VLAN. UDP's checksum is not looked at: the packets of
/// engines carry their own, and on virtual links the kernel leaves UDP's unfinished.
///
/// # Errors
/// See [`Foreign`].
#[inline]
pub(crate) fn parse(frame: &[u8], vlan: Option<u16>) -> Result<Datagram, Foreign> {
    let mut rest = frame.get(ETHERNET_BYTES - 2..).ok_or(Foreign::Other)?;
    let mut offset = ETHERNET_BYTES;
    if let Some(vlan) = vlan {
        if word(rest, 0)? != ETHERTYPE_VLAN || word(rest, 2)? & 0xfff != vlan {
            return Err(Foreign::Other);
        }
        rest = rest.get(VLAN_BYTES..).ok_or(Foreign::Other)?;
        offset += VLAN_BYTES;
    }
    let ethertype = word(rest, 0)?;
    let packet = &rest[2..];
    let (source, destination, ip_bytes, length) = match ethertype {
        ETHERTYPE_IPV4 => ipv4(packet)?,
        ETHERTYPE_IPV6 => ipv6(packet)?,
        _ => return Err(Foreign::Other),
    };
    let udp = packet.get(ip_bytes..ip_bytes + length).ok_or(Foreign::Truncated)?;
    if udp.len() < UDP_BYTES {
        return Err(Foreign::Other);
    }
    let udp_bytes = usize::from(word(udp, 4)?);
    if udp_bytes < UDP_BYTES || udp_bytes > length {
        return Err(Foreign::Other);
    }
    Ok(Datagram {
        from: SocketAddr::new(source, word(udp, 0)?),
        to: SocketAddr::new(destination, word(udp, 2)?),
        offset: offset + ip_bytes + UDP_BYTES,
        length: udp_bytes - UDP_BYTES,
    })
}

/// Addresses, the header's length, and that of what follows.
#[inline]
fn ipv4(packet: &[u8]) -> Result<(IpAddr, IpAddr, usize, usize), Foreign> {
    let header = packet.first_chunk::<IPV4_BYTES>().ok_or(Foreign::Other)?;
    let header_bytes = usize::from(header[0] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    if header[0] >> 4 != 4 || header_bytes < IPV4_BYTES || total < header_bytes {
        return Err(Foreign::Other);
    }
    // More fragments follow, or this is not the first.
    if fragment & 0x3fff != 0 {
        return Err(Foreign::Fragment);
    }
    if header[9] != PROTOCOL_UDP {
        return Err(Foreign::Other);
    }
    let address = |at: usize| {
        IpAddr::V4(Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]))
    };
    Ok((address(12), address(16), header_bytes, total - header_bytes))
}

#[inline]
fn ipv6(packet: &[u8]) -> Result<(IpAddr, IpAddr, usize, usize), Foreign> {
    const FRAGMENT: u8 = 44;
    let header = packet.first_chunk::<IPV6_BYTES>().ok_or(Foreign::Other)?;
    if header[0] >> 4 != 6 {
        return Err(Foreign::Other);
    }
    match header[6] {
        PROTOCOL_UDP => {}
        FRAGMENT => return Err(Foreign::Fragment),
        _ => return Err(Foreign::Other),
    }
    let address = |at: usize| {
        let octets: [u8; 16] = std::array::from_fn(|byte| header[at + byte]);
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    Ok((address(8), address(24), IPV6_BYTES, length))
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Result<u16, Foreign> {
    match bytes.get(at..at + 2) {
        Some(word) => Ok(u16::from_be_bytes([word[0], word[1]])),
        None => Err(Foreign::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Endpoint, Header, MacAddress};
    use super::*;

    fn frame(from: &str, to: &str, vlan: Option<u16>) -> Vec<u8> {
        let endpoint = Endpoint { mac: MacAddress([2; 6]), address: from.parse().unwrap(), vlan };
        let header = Header::new(&endpoint, to.parse().unwrap(), MacAddress([4; 6])).unwrap();
        let mut headroom = [0; 80];
        let written = header.write(&mut headroom, &[7; 50]);
        [&headroom[80 - written..], &[7; 50]].concat()
    }

    #[test]
    fn what_is_not_for_an_engine_is_told_apart() {
        let whole = frame("10.0.0.1:1", "10.0.0.2:2", None);
        assert!(parse(&whole, None).is_ok());
        assert_eq!(parse(&whole, Some(1)), Err(Foreign::Other));
        let change = |at: usize, byte: u8| {
            let mut changed = whole.clone();
            changed[at] = byte;
            parse(&changed, None)
        };
        assert_eq!(change(13, 6), Err(Foreign::Other), "ARP");
        assert_eq!(change(14, 0x65), Err(Foreign::Other), "no IPv4");
        assert_eq!(change(14, 0x44), Err(Foreign::Other), "a header too short");
        assert_eq!(change(20, 0x20), Err(Foreign::Fragment), "more follow");
        assert_eq!(change(21, 1), Err(Foreign::Fragment), "not the first");
        assert_eq!(change(23, 6), Err(Foreign::Other), "TCP");
        assert_eq!(change(16, 9), Err(Foreign::Truncated));
        assert_eq!(change(39, 200), Err(Foreign::Other), "UDP longer than IP");
        assert_eq!(change(39, 7), Err(Foreign::Other), "UDP shorter than itself");

        let tagged = frame("[fd00::1]:1", "[fd00::2]:2", Some(5));
        assert!(parse(&tagged, Some(5)).is_ok());
        assert_eq!(parse(&tagged, Some(6)), Err(Foreign::Other));
        assert_eq!(parse(&tagged, None), Err(Foreign::Other));
        let mut piece = frame("[fd00::1]:1", "[fd00::2]:2", None);
        piece[20] = 44;
        assert_eq!(parse(&piece, None), Err(Foreign::Fragment));
    }

    #[test]
    fn options_of_ipv4_are_skipped() {
        let mut options = frame("10.0.0.1:1", "10.0.0.2:2", None);
        options[14] = 0x46;
        options[17] += 4;
        options.splice(34..34, [1, 1, 1, 0]);
        let read = parse(&options, None).unwrap();
        assert_eq!((read.length, &options[read.offset..]), (50, &[7; 50][..]));
    }

    #[test]
    fn no_input_is_read_beyond_its_end() {
        for (from, to, vlan) in
            [("10.0.0.1:1", "10.0.0.2:2", Some(9)), ("[fd00::1]:1", "[fd00::2]:2", None)]
        {
            let whole = frame(from, to, vlan);
            for length in 0..whole.len() {
                assert!(parse(&whole[..length], vlan).is_err(), "{length} bytes");
            }
            // Whatever stands there, what is found lies within the frame.
            for at in 12..whole.len() - 50 {
                for byte in 0..=255 {
                    let mut changed = whole.clone();
                    changed[at] = byte;
                    if let Ok(read) = parse(&changed, vlan) {
                        assert!(read.offset + read.length <= changed.len());
                    }
                }
            }
        }
    }
}
