//! What sender and receiver say to each other. Each request is the request of a call to the
//! receiver's service; all of them are answered by a [`Verdict`].
//!
//! ```text
//! request   kind 1, version 1, stream 2, sequence 4, channel 8, number 8, length 8, then
//!   OPEN      address 16, UDP port 2, family 1, 5 reserved: the engine beside the sender's memory
//!   ANNOUNCE  place 1, slot 1, 2 reserved, rkey 12, address 8; the message itself if place is 0
//!   SETTLE    nothing: the message of this number will not come, or has to end
//!   CREDIT    nothing: `number` is the limit that the sender knows; answered once there is another
//!   CLOSE     nothing: the channel was not wanted any more before its opening was answered
//! verdict   code 1, reserved 1, status 2, reserved 4, limit 8, most 8
//! ```
//! Numbers are little-endian.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nic_wire::{Rkey, Status};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The version that this build speaks; a receiver refuses any other.
pub(super) const VERSION: u8 = 1;

pub(super) const OPEN: u8 = 1;
pub(super) const ANNOUNCE: u8 = 2;
pub(super) const SETTLE: u8 = 3;
pub(super) const CREDIT: u8 = 4;
pub(super) const CLOSE: u8 = 5;

/// Where an announced message lies: in the announcement, or in the sender's memory.
pub(super) const HERE: u8 = 0;
pub(super) const THERE: u8 = 1;

/// What every request begins with.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub(super) struct Head {
    pub(super) kind: u8,
    pub(super) version: u8,
    pub(super) stream: U16,
    pub(super) sequence: U32,
    pub(super) channel: U64,
    pub(super) number: U64,
    pub(super) length: U64,
}

/// What follows in OPEN; `stream` of its head is the number of streams, `length` that of the
/// sender's memory.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub(super) struct Engine {
    address: [u8; 16],
    port: U16,
    family: u8,
    reserved: [u8; 5],
}

/// What follows in ANNOUNCE.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub(super) struct Place {
    pub(super) place: u8,
    pub(super) slot: u8,
    pub(super) reserved: U16,
    pub(super) rkey: Rkey,
    pub(super) address: U64,
}

/// The answer to every request.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub(super) struct Verdict {
    code: u8,
    reserved: u8,
    status: U16,
    reserved_too: U32,
    /// Messages of smaller numbers have, or had, a buffer.
    pub(super) limit: U64,
    /// Of OPEN: the longest message that goes into its announcement. Of a message that is too
    /// long: the longest that there is a buffer for.
    pub(super) most: U64,
}

/// The length of a [`Verdict`] in bytes: what callers have room for.
pub(super) const VERDICT_BYTES: u32 = size_of::<Verdict>() as u32;
/// What an announcement has before the message, in bytes.
pub(super) const ANNOUNCE_BYTES: usize = size_of::<Head>() + size_of::<Place>();

const _: () = assert!(size_of::<Head>() == 32);
const _: () = assert!(size_of::<Engine>() == 24 && size_of::<Place>() == 24);
const _: () = assert!(size_of::<Verdict>() == 24);

/// How a request ended at the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// Received, opened, settled, or there is credit.
    Done,
    /// No buffer is posted that is not spoken for.
    NoBuffer,
    /// No posted buffer is long enough.
    TooLong,
    /// The sender has said that it has to end.
    Cancelled,
    /// It could not be read: the status says why.
    Unread(Status),
    /// The channel is not open here: another sender has opened, or the receiver was made anew.
    Closed,
}

impl Head {
    pub(super) fn new(kind: u8, channel: u64) -> Head {
        Head {
            kind,
            version: VERSION,
            stream: U16::ZERO,
            sequence: U32::ZERO,
            channel: channel.into(),
            number: U64::ZERO,
            length: U64::ZERO,
        }
    }
}

impl Engine {
    pub(super) fn at(address: SocketAddr) -> Engine {
        let (octets, family) = match address.ip() {
            IpAddr::V4(ip) => (ip.to_ipv6_mapped().octets(), 4),
            IpAddr::V6(ip) => (ip.octets(), 6),
        };
        Engine { address: octets, port: address.port().into(), family, reserved: [0; 5] }
    }

    pub(super) fn address(&self) -> SocketAddr {
        let [.., a, b, c, d] = self.address;
        let ip = match self.family {
            4 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            _ => IpAddr::V6(Ipv6Addr::from(self.address)),
        };
        SocketAddr::new(ip, self.port.get())
    }
}

impl Place {
    pub(super) fn here() -> Place {
        Place::there(HERE, 0, Rkey::new(0, 0, 0), 0)
    }

    pub(super) fn there(place: u8, slot: u8, rkey: Rkey, address: u64) -> Place {
        Place { place, slot, reserved: U16::ZERO, rkey, address: address.into() }
    }
}

impl Verdict {
    pub(super) fn new(code: Code, limit: u64, most: u64) -> Verdict {
        let (code, status) = match code {
            Code::Done => (0, Status::Ok),
            Code::NoBuffer => (1, Status::Ok),
            Code::TooLong => (2, Status::Ok),
            Code::Cancelled => (3, Status::Ok),
            Code::Unread(status) => (4, status),
            Code::Closed => (5, Status::Ok),
        };
        Verdict {
            code,
            reserved: 0,
            status: status.code().into(),
            reserved_too: U32::ZERO,
            limit: limit.into(),
            most: most.into(),
        }
    }

    /// `None`: a code that this build does not know.
    pub(super) fn code(&self) -> Option<Code> {
        Some(match self.code {
            0 => Code::Done,
            1 => Code::NoBuffer,
            2 => Code::TooLong,
            3 => Code::Cancelled,
            4 => Code::Unread(Status::from_code(self.status.get()).ok()?),
            5 => Code::Closed,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_verdicts_have_golden_bytes() {
        let mut head = Head::new(ANNOUNCE, 3);
        (head.stream, head.sequence) = (U16::new(1), U32::new(2));
        (head.number, head.length) = (U64::new(4), U64::new(5));
        let mut expected = [0; 32];
        for (place, value) in [(0, 2), (1, 1), (2, 1), (4, 2), (8, 3), (16, 4), (24, 5)] {
            expected[place] = value;
        }
        assert_eq!(head.as_bytes(), expected);

        let place = Place::there(THERE, 7, Rkey::new(1, 2, 3), 4);
        let mut expected = [0; 24];
        for (place, value) in [(0, 1), (1, 7), (4, 1), (6, 2), (8, 3), (16, 4)] {
            expected[place] = value;
        }
        assert_eq!(place.as_bytes(), expected);

        let verdict = Verdict::new(Code::Unread(Status::Revoked), 6, 7);
        let mut expected = [0; 24];
        for (place, value) in [(0, 4), (2, 5), (8, 6), (16, 7)] {
            expected[place] = value;
        }
        assert_eq!(verdict.as_bytes(), expected);
    }

    #[test]
    fn addresses_and_codes_come_back() {
        for text in ["127.0.0.1:80", "[::1]:65535", "[fe80::1]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Engine::at(address).address(), address);
        }
        let codes = [
            Code::Done,
            Code::NoBuffer,
            Code::TooLong,
            Code::Cancelled,
            Code::Unread(Status::Revoked),
            Code::Closed,
        ];
        for code in codes {
            assert_eq!(Verdict::new(code, 0, 0).code(), Some(code));
        }
        let mut unknown = Verdict::new(Code::Done, 0, 0);
        unknown.code = 6;
        assert_eq!(unknown.code(), None);
    }
}
