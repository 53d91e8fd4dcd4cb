//! Socket addresses in the kernel's form.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of a `sockaddr_in`.
const IPV4_BYTES: usize = size_of::<libc::sockaddr_in>();
/// Bytes of a `sockaddr_in6`.
const IPV6_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// Room for a `sockaddr_in` or `sockaddr_in6`, as bytes: family (the CPU's byte order), port
/// (network order), then address, or flow information, address and scope.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketName {
    bytes: [u8; 32],
}

impl SocketName {
    /// Room, empty.
    pub(crate) const EMPTY: SocketName = SocketName { bytes: [0; 32] };
    /// How much room there is, in bytes.
    pub(crate) const CAPACITY: libc::socklen_t = 32;

    /// How many bytes an address of this family takes.
    pub(crate) const fn bytes_of(address: &SocketAddr) -> libc::socklen_t {
        match address {
            SocketAddr::V4(_) => IPV4_BYTES as libc::socklen_t,
            SocketAddr::V6(_) => IPV6_BYTES as libc::socklen_t,
        }
    }

    /// What the kernel wrote elsewhere, as far as there is room.
    #[inline]
    #[cfg(feature = "uring")]
    pub(crate) fn copied(written: &[u8]) -> Self {
        let mut name = SocketName::EMPTY;
        let length = written.len().min(name.bytes.len());
        name.bytes[..length].copy_from_slice(&written[..length]);
        name
    }

    /// Writes an address.
    #[inline]
    pub(crate) fn set(&mut self, address: &SocketAddr) {
        match address {
            SocketAddr::V4(address) => {
                self.bytes[0..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                self.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
                self.bytes[4..8].copy_from_slice(&address.ip().octets());
                self.bytes[8..16].fill(0);
            }
            SocketAddr::V6(address) => {
                self.bytes[0..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                self.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
                // The standard library hands flow information to the kernel as it stands.
                self.bytes[4..8].copy_from_slice(&address.flowinfo().to_ne_bytes());
                self.bytes[8..24].copy_from_slice(&address.ip().octets());
                self.bytes[24..28].copy_from_slice(&address.scope_id().to_ne_bytes());
            }
        }
    }

    /// Reads an address of which the kernel filled in `length` bytes.
    #[inline]
    pub(crate) fn get(&self, length: libc::socklen_t) -> Option<SocketAddr> {
        let bytes = &self.bytes;
        let family = i32::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        let length = length as usize;
        if family == libc::AF_INET && length >= IPV4_BYTES {
            let ip = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
            Some(SocketAddrV4::new(ip, port).into())
        } else if family == libc::AF_INET6 && length >= IPV6_BYTES {
            let word = |at: usize| bytes[at..at + 4].try_into().map(u32::from_ne_bytes).ok();
            let octets: [u8; 16] = bytes[8..24].try_into().ok()?;
            let ip = Ipv6Addr::from(octets);
            Some(SocketAddrV6::new(ip, port, word(4)?, word(24)?).into())
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_both_ways() {
        for text in ["127.0.0.1:7", "10.1.2.3:65535", "[::1]:9", "[fe80::1%3]:4242"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut name = SocketName::EMPTY;
            name.set(&address);
            assert_eq!(name.get(SocketName::bytes_of(&address)), Some(address));
            assert_eq!(name.get(4), None, "cut off");
        }
        assert_eq!(SocketName::EMPTY.get(SocketName::CAPACITY), None);
    }
}
