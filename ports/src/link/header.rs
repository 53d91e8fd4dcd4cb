//! The headers before a packet, prepared once for each destination.

use std::net::{IpAddr, SocketAddr};

use super::checksum::Sum;
use super::{
    ETHERNET_BYTES, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, IPV4_BYTES, IPV6_BYTES,
    MacAddress, PROTOCOL_UDP, UDP_BYTES, VLAN_BYTES,
};

/// The most bytes that headers take.
pub(crate) const HEADER_BYTES_MAX: usize = ETHERNET_BYTES + VLAN_BYTES + IPV6_BYTES + UDP_BYTES;

/// How many routers a packet may pass.
const HOPS_MAX: u8 = 64;

/// The sending side: what stands in every packet of a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    pub(crate) mac: MacAddress,
    pub(crate) address: SocketAddr,
    /// The VLAN whose tag packets carry, from 1 to 4094.
    pub(crate) vlan: Option<u16>,
}

/// Headers for one destination, complete but for lengths and checksums.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    bytes: [u8; HEADER_BYTES_MAX],
    length: u8,
    is_ipv4: bool,
    /// The sum of the words that do not change: of the IPv4 header, or of UDP's over IPv6, its
    /// pseudo header included.
    sum: Sum,
}

impl Header {
    /// For packets from an endpoint to `to`, whose next hop is `via`. `None` if the two addresses
    /// are of different families.
    pub(crate) fn new(from: &Endpoint, to: SocketAddr, via: MacAddress) -> Option<Self> {
        let mut writer = Writer { bytes: [0; HEADER_BYTES_MAX], length: 0 };
        writer.put(&via.0);
        writer.put(&from.mac.0);
        if let Some(vlan) = from.vlan {
            writer.word(ETHERTYPE_VLAN);
            writer.word(vlan & 0xfff);
        }
        let is_ipv4 = to.is_ipv4();
        let ports = [from.address.port(), to.port()];
        let sum = match (from.address.ip(), to.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                writer.word(ETHERTYPE_IPV4);
                let start = usize::from(writer.length);
                // Version and header length; don't fragment.
                writer.put(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, HOPS_MAX, PROTOCOL_UDP, 0, 0]);
                writer.put(&source.octets());
                writer.put(&destination.octets());
                Sum::ZERO.bytes(&writer.bytes[start..start + IPV4_BYTES])
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                writer.word(ETHERTYPE_IPV6);
                writer.put(&[0x60, 0, 0, 0, 0, 0, PROTOCOL_UDP, HOPS_MAX]);
                writer.put(&source.octets());
                writer.put(&destination.octets());
                let addresses = Sum::ZERO.bytes(&source.octets()).bytes(&destination.octets());
                addresses.word(PROTOCOL_UDP.into()).word(ports[0]).word(ports[1])
            }
            _ => return None,
        };
        writer.word(ports[0]);
        writer.word(ports[1]);
        // Length and checksum come with each packet.
        writer.word(0);
        writer.word(0);
        Some(Header { bytes: writer.bytes, length: writer.length, is_ipv4, sum })
    }

    /// How many bytes stand before the packet.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.length.into()
    }

    /// Writes the headers of `packet` into the end of the room before it, and returns how many
    /// bytes they take.
    ///
    /// UDP's own checksum is zero, "none", over IPv4, where packets carry a better one of their
    /// own; over IPv6, where it must not be (RFC 8200 §8.1), it is computed.
    ///
    /// # Panics
    /// If the room is shorter than [`HEADER_BYTES_MAX`], or the packet does not fit a datagram.
    #[inline]
    pub(crate) fn write(&self, headroom: &mut [u8], packet: &[u8]) -> usize {
        let length = self.bytes();
        let start = headroom.len() - length;
        let header = &mut headroom[start..];
        header.copy_from_slice(&self.bytes[..length]);
        let udp_bytes = (UDP_BYTES + packet.len()) as u16;
        let udp = length - UDP_BYTES;
        header[udp + 4..udp + 6].copy_from_slice(&udp_bytes.to_be_bytes());
        if self.is_ipv4 {
            let ip = udp - IPV4_BYTES;
            let total = IPV4_BYTES as u16 + udp_bytes;
            header[ip + 2..ip + 4].copy_from_slice(&total.to_be_bytes());
            header[ip + 10..ip + 12].copy_from_slice(&self.sum.word(total).finish());
        } else {
            let ip = udp - IPV6_BYTES;
            header[ip + 4..ip + 6].copy_from_slice(&udp_bytes.to_be_bytes());
            // The length counts twice: in the pseudo header and in UDP's own.
            let sum = self.sum.word(udp_bytes).word(udp_bytes).bytes(packet).finish();
            let sum = if sum == [0, 0] { [0xff, 0xff] } else { sum };
            header[udp + 6..udp + 8].copy_from_slice(&sum);
        }
        length
    }

    /// The same for a device that computes UDP's checksum over IPv6: it finds the sum of the
    /// pseudo header there and goes on from it. (IPv4's own checksum is prepared but for one word:
    /// asking a device for it would cost more.)
    ///
    /// # Panics
    /// As [`Header::write`].
    #[inline]
    pub(crate) fn write_for_device(&self, headroom: &mut [u8], packet: &[u8]) -> usize {
        if self.is_ipv4 {
            return self.write(headroom, packet);
        }
        let length = self.bytes();
        let start = headroom.len() - length;
        let header = &mut headroom[start..];
        header.copy_from_slice(&self.bytes[..length]);
        let udp_bytes = (UDP_BYTES + packet.len()) as u16;
        let udp = length - UDP_BYTES;
        let ip = udp - IPV6_BYTES;
        header[udp + 4..udp + 6].copy_from_slice(&udp_bytes.to_be_bytes());
        header[ip + 4..ip + 6].copy_from_slice(&udp_bytes.to_be_bytes());
        let pseudo = Sum::ZERO.bytes(&header[ip + 8..udp]).word(PROTOCOL_UDP.into());
        // The sum itself, not its complement: the device complements the whole.
        let [first, second] = pseudo.word(udp_bytes).finish();
        header[udp + 6..udp + 8].copy_from_slice(&[!first, !second]);
        length
    }

    /// Bytes of the IP header behind which the device computes the checksum, if it does: zero over
    /// IPv4, where there is none.
    #[inline]
    pub(crate) const fn summed_by_device(&self, does: bool) -> u16 {
        if does && !self.is_ipv4 { IPV6_BYTES as u16 } else { 0 }
    }
}

struct Writer {
    bytes: [u8; HEADER_BYTES_MAX],
    length: u8,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        let start = usize::from(self.length);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len() as u8;
    }

    fn word(&mut self, word: u16) {
        self.put(&word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    const US: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const THEM: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

    #[test]
    fn what_is_written_is_read_back() {
        for (from, to) in
            [("10.1.2.3:4000", "10.200.0.9:65535"), ("[fd00::1]:4000", "[2001:db8::7]:53")]
        {
            let (address, to): (SocketAddr, SocketAddr) =
                (from.parse().unwrap(), to.parse().unwrap());
            for vlan in [None, Some(77)] {
                let header = Header::new(&Endpoint { mac: US, address, vlan }, to, THEM).unwrap();
                for length in [1, 24, 63, 1400, 1401, 2048] {
                    let packet: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
                    let mut headroom = [0; 128];
                    let written = header.write(&mut headroom, &packet);
                    let mut frame = headroom[128 - written..].to_vec();
                    frame.extend(&packet);
                    // Short frames are padded on the wire.
                    frame.resize(frame.len().max(60), 0);
                    assert_eq!(&frame[..12], [THEM.0, US.0].concat());
                    let read = parse(&frame, vlan).unwrap();
                    assert_eq!((read.from, read.to), (address, to));
                    assert_eq!(&frame[read.offset..read.offset + read.length], packet);
                    check_sums(&frame[written - UDP_BYTES - ip_bytes(to)..written], &packet);
                }
            }
        }
        let endpoint = Endpoint { mac: US, address: "10.0.0.1:1".parse().unwrap(), vlan: None };
        assert!(Header::new(&endpoint, "[::1]:1".parse().unwrap(), THEM).is_none());
    }

    #[test]
    fn a_device_that_sums_ends_with_the_same_checksum() {
        let address = "[fd00::1]:4000".parse().unwrap();
        let endpoint = Endpoint { mac: US, address, vlan: None };
        let header = Header::new(&endpoint, "[fd00::2]:53".parse().unwrap(), THEM).unwrap();
        let packet = [0x5a; 333];
        let (mut ours, mut devices) = ([0; 80], [0; 80]);
        let length = header.write(&mut ours, &packet);
        assert_eq!(header.write_for_device(&mut devices, &packet), length);
        // What a device does: it sums UDP's header, the sum that it finds in it, and the packet.
        let sum = Sum::ZERO.bytes(&devices[80 - UDP_BYTES..]).bytes(&packet).finish();
        devices[78..].copy_from_slice(&sum);
        assert_eq!(ours, devices);
    }

    fn ip_bytes(to: SocketAddr) -> usize {
        if to.is_ipv4() { IPV4_BYTES } else { IPV6_BYTES }
    }

    /// Sums over a header that contains its own checksum fold to all ones.
    fn check_sums(headers: &[u8], packet: &[u8]) {
        let (ip, udp) = headers.split_at(headers.len() - UDP_BYTES);
        if ip.len() == IPV4_BYTES {
            assert_eq!(Sum::ZERO.bytes(ip).finish(), [0, 0]);
            assert_eq!(&udp[6..], [0, 0]);
            return;
        }
        let length = (UDP_BYTES + packet.len()) as u16;
        let pseudo = Sum::ZERO.bytes(&ip[8..40]).word(length).word(PROTOCOL_UDP.into());
        assert_eq!(pseudo.bytes(udp).bytes(packet).finish(), [0, 0]);
    }
}
