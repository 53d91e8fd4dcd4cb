//! The header of every packet.
//!
//! ```text
//!  0 version u8 | kind u8 | flags u4, length u12 | check u32
//!  8 connection_id u64          chosen by the receiver of this packet
//! 16 packet_number u32          low half of a 64-bit number
//! 20 acknowledged u32           all numbers below this one have arrived
//! 24 selective u64 x 2          bit i: number acknowledged + 1 + i has arrived
//! 40 window_bytes u32           how much may be unacknowledged towards the sender of this packet
//! 44 send_time_ns u32           the sender's clock, low half; echoed by the receiver
//! 48 echo_time_ns u32           send time of the newest packet that this one acknowledges
//! 52 dwell_ns u32               how long that packet's ack was held back
//! 56 op_credits u16             how many ops the receiver of this packet may have out
//! 58 reply_credits_kib u16      how many KiB of replies those ops may ask for together
//! 60 age_us u32                 how long ago this packet was first sent
//! 64 op frames
//! ```
//! `check` covers every other byte of the packet: four bytes before it and all after it. `length`
//! is the packet's own in bytes, so that a run of packets that the kernel hands over in one piece
//! can be cut apart. It and `version` are at this place in every version.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Ref, Unaligned};

use crate::WIRE_VERSION;

/// Length of the packet header in bytes.
pub const HEADER_BYTES: usize = 64;
/// How many packets beyond [`PacketHeader::acknowledged`] an ack can name.
pub const SELECTIVE_BITS: u64 = 128;
/// Packet size until path MTU discovery finds a larger one, in bytes, header included.
pub const DEFAULT_PACKET_BYTES: usize = 1400;
/// The largest packet that any port carries, in bytes: what buffers are made for.
pub const MAX_PACKET_BYTES: usize = 2048;

/// Where in the word of flags the length begins.
const LENGTH_SHIFT: u32 = 4;
const _: () = assert!(MAX_PACKET_BYTES < 1 << (16 - LENGTH_SHIFT), "the length has 12 bits");
const _: () = assert!(PacketFlags::all().bits() < 1 << LENGTH_SHIFT, "the flags have 4 bits");

/// What a packet is for.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// Op frames and acks of an open flow.
    Data = 1,
    /// An initiator asks for a flow.
    Init = 2,
    /// The target wants the address proven: repeat the init with this cookie.
    Retry = 3,
    /// The target opened the flow.
    Accept = 4,
    /// The sender knows no such flow, or ends it.
    Reset = 5,
    /// The target speaks none of the offered versions; here are its own.
    Versions = 6,
}

impl PacketKind {
    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => PacketKind::Data,
            2 => PacketKind::Init,
            3 => PacketKind::Retry,
            4 => PacketKind::Accept,
            5 => PacketKind::Reset,
            6 => PacketKind::Versions,
            _ => return None,
        })
    }
}

bitflags::bitflags! {
    /// Properties of a packet.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PacketFlags: u16 {
        /// It holds op frames, takes a packet number and wants an ack; else it is a lone ack.
        const NUMBERED = 1;
        /// The ack fields are filled in.
        const ACKS = 2;
        /// The echo fields are filled in.
        const ECHOES = 4;
        /// An ack is wanted at once (a probe).
        const ACK_NOW = 8;
    }
}

/// The fixed header; see the module's picture.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PacketHeader {
    /// Format of all that follows; at this place in every version.
    pub version: u8,
    /// A [`PacketKind`].
    pub kind: u8,
    /// [`PacketFlags`] in the low four bits, the packet's length in the others.
    pub flags: U16,
    /// Checksum, or part of the tag when the flow is encrypted.
    pub check: U32,
    /// The receiver's name for the flow.
    pub connection_id: U64,
    /// Low half of the packet's number.
    pub packet_number: U32,
    /// Low half of the lowest number that has not arrived.
    pub acknowledged: U32,
    /// Which of the following numbers have.
    pub selective: [U64; 2],
    /// How many bytes may be unacknowledged towards the sender of this packet.
    pub window_bytes: U32,
    /// The sender's clock at this sending.
    pub send_time_ns: U32,
    /// The echoed send time.
    pub echo_time_ns: U32,
    /// How long the echo was held back.
    pub dwell_ns: U32,
    /// Ops that the receiver of this packet may have out on this flow.
    pub op_credits: U16,
    /// KiB of replies that they may ask for together.
    pub reply_credits_kib: U16,
    /// Microseconds since this packet was first sent: zero but for retransmissions.
    pub age_us: U32,
}

const _: () = assert!(size_of::<PacketHeader>() == HEADER_BYTES);

/// Why bytes are not a packet. Every variant has a counter of its own at the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedPacket {
    /// Shorter than a header.
    #[error("{found} bytes are too short for a packet: its header has {HEADER_BYTES}")]
    Short {
        /// How many bytes came.
        found: usize,
    },
    /// Another version than this build speaks.
    #[error("packet of wire version {found}; this engine speaks {WIRE_VERSION}")]
    Version {
        /// The version it says.
        found: u8,
    },
    /// Another length than the packet says it has.
    #[error("packet of {found} bytes that says it has {says}")]
    Length {
        /// How many bytes came.
        found: usize,
        /// How many it says.
        says: usize,
    },
    /// An unknown kind.
    #[error("packet of unknown kind {found}")]
    Kind {
        /// The kind it says.
        found: u8,
    },
}

/// A packet whose header has been looked at: long enough, known version and kind.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The header.
    pub header: &'a PacketHeader,
    /// What kind it is.
    pub kind: PacketKind,
    /// The bytes after the header.
    pub body: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Looks at received bytes. The checksum is not verified here.
    ///
    /// # Errors
    /// Too short, another version, another length than it says, an unknown kind.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MalformedPacket> {
        let short = MalformedPacket::Short { found: bytes.len() };
        let (header, body) = Ref::<_, PacketHeader>::from_prefix(bytes).map_err(|_| short)?;
        let header = Ref::into_ref(header);
        if header.version != WIRE_VERSION {
            return Err(MalformedPacket::Version { found: header.version });
        }
        let (found, says) = (bytes.len(), header.length());
        if found != says {
            return Err(MalformedPacket::Length { found, says });
        }
        let kind = PacketKind::from_code(header.kind)
            .ok_or(MalformedPacket::Kind { found: header.kind })?;
        Ok(Packet { header, kind, body })
    }
}

impl PacketHeader {
    /// A header of this version with nothing but its kind and addressee filled in.
    pub fn new(kind: PacketKind, connection_id: crate::ConnectionId) -> Self {
        PacketHeader {
            version: WIRE_VERSION,
            kind: kind as u8,
            connection_id: connection_id.raw().into(),
            ..PacketHeader::default_zero()
        }
    }

    fn default_zero() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }

    /// The flags that this version knows.
    #[inline]
    pub fn flags(&self) -> PacketFlags {
        PacketFlags::from_bits_truncate(self.flags.get())
    }

    /// How long the packet says it is, in bytes.
    #[inline]
    pub fn length(&self) -> usize {
        usize::from(self.flags.get() >> LENGTH_SHIFT)
    }

    /// The receiver's name for the flow.
    #[inline]
    pub fn connection(&self) -> crate::ConnectionId {
        crate::ConnectionId::from_raw(self.connection_id.get())
    }

    /// Writes the header over the first bytes of a packet; `packet` is the whole of it, whose
    /// length the header will say.
    ///
    /// # Panics
    /// If `packet` is shorter than a header: frames are sized by the engine, never by input.
    #[inline]
    pub fn write(&self, packet: &mut [u8]) {
        let flags = self.flags.get() & PacketFlags::all().bits();
        let length = (packet.len() as u16) << LENGTH_SHIFT;
        packet[..HEADER_BYTES].copy_from_slice(self.as_bytes());
        packet[2..4].copy_from_slice(&(flags | length).to_le_bytes());
    }
}

/// The length of the first packet of a run, if the run begins with one: for ports that are handed
/// several in one piece. Nothing else of the packet is looked at.
#[inline]
pub fn first_length(run: &[u8]) -> Option<usize> {
    let says = usize::from(u16::from_le_bytes([*run.get(2)?, *run.get(3)?]) >> LENGTH_SHIFT);
    (HEADER_BYTES..=run.len()).contains(&says).then_some(says)
}

/// Restores a 64-bit number from its low half and a number near it.
#[inline]
pub const fn expand_number(truncated: u32, near: u64) -> u64 {
    let difference = truncated.wrapping_sub(near as u32) as i32;
    near.wrapping_add_signed(difference as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConnectionId;

    #[test]
    fn header_bytes_are_golden() {
        let mut header = PacketHeader::new(PacketKind::Data, ConnectionId::from_raw(0x1122334455));
        header.flags = ((PacketFlags::NUMBERED | PacketFlags::ACKS).bits() | 64 << 4).into();
        header.check = 0xa1a2a3a4.into();
        header.packet_number = 7.into();
        header.acknowledged = 0x0102.into();
        header.selective = [1.into(), 2.into()];
        header.window_bytes = 65536.into();
        header.send_time_ns = 10.into();
        header.echo_time_ns = 11.into();
        header.dwell_ns = 12.into();
        header.op_credits = 256.into();
        header.reply_credits_kib = 64.into();
        header.age_us = 13.into();
        let expected: [u8; 64] = [
            2, 1, 3, 4, 0xa4, 0xa3, 0xa2, 0xa1, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0, 7, 0, 0, 0,
            2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 10, 0, 0, 0,
            11, 0, 0, 0, 12, 0, 0, 0, 0, 1, 64, 0, 13, 0, 0, 0,
        ];
        assert_eq!(header.as_bytes(), expected);
    }

    #[test]
    fn malformed_packets_say_what_is_wrong() {
        let mut bytes = [0u8; 64];
        PacketHeader::new(PacketKind::Init, ConnectionId::NONE).write(&mut bytes);
        assert_eq!(Packet::parse(&bytes).map(|packet| packet.kind), Ok(PacketKind::Init));
        let longer = [bytes.as_slice(), &[0]].concat();
        let length = MalformedPacket::Length { found: 65, says: 64 };
        assert_eq!(Packet::parse(&longer).err(), Some(length));
        assert_eq!(Packet::parse(&bytes[..63]).err(), Some(MalformedPacket::Short { found: 63 }));
        bytes[0] = 9;
        assert_eq!(Packet::parse(&bytes).err(), Some(MalformedPacket::Version { found: 9 }));
        bytes[0] = WIRE_VERSION;
        bytes[1] = 77;
        assert_eq!(Packet::parse(&bytes).err(), Some(MalformedPacket::Kind { found: 77 }));
    }

    #[test]
    fn runs_are_cut_by_the_lengths_that_packets_say() {
        let mut run = [0u8; 200];
        PacketHeader::new(PacketKind::Data, ConnectionId::NONE).write(&mut run[..120]);
        PacketHeader::new(PacketKind::Data, ConnectionId::NONE).write(&mut run[120..]);
        assert_eq!(first_length(&run), Some(120));
        assert_eq!(first_length(&run[120..]), Some(80));
        assert_eq!(first_length(&run[120..199]), None, "longer than what is left");
        assert_eq!(first_length(&run[..3]), None);
        run[2..4].copy_from_slice(&(63u16 << 4).to_le_bytes());
        assert_eq!(first_length(&run), None, "shorter than a header");
    }

    #[test]
    fn numbers_survive_truncation_near_the_wrap() {
        for near in [5u64, 0xffff_fff0, 0x1_0000_0003, 0x7fff_ffff_ffff] {
            for offset in -100i64..100 {
                let number = near.wrapping_add_signed(offset);
                assert_eq!(expand_number(number as u32, near), number);
            }
        }
    }
}
