//! The bodies of the packets that open and close a flow.
//!
//! ```text
//! initiator                         target
//!   INIT {no cookie}        ──▶     keeps nothing; the cookie proves the address
//!                           ◀──     RETRY {cookie}
//!   INIT {cookie}           ──▶     opens the flow
//!                           ◀──     ACCEPT {ids, credits, transcript}
//! ```
//! A duplicate INIT gets the same ACCEPT again. `transcript` is a keyed-by-nothing hash of the INIT
//! that the target acted on: if a middle box changed the offered versions, the initiator notices.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The most versions that an INIT offers.
pub const MAX_VERSIONS: usize = 8;

/// An initiator asks for a flow. Padded so that no answer is longer than its question.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Init {
    /// The id under which the initiator receives.
    pub initiator_id: U64,
    /// What proves the address; zero in the first try.
    pub cookie: [u8; 16],
    /// Versions offered, highest first, zero-filled.
    pub versions: [u8; MAX_VERSIONS],
    /// The number of the initiator's first packet.
    pub first_packet_number: U64,
    /// How much may be unacknowledged towards the initiator.
    pub window_bytes: U32,
    /// The largest packet that the initiator takes, in bytes.
    pub packet_bytes: U16,
    /// Which of the target process's engines is wanted; 0xffff: any.
    pub wanted_engine: U16,
    /// How long the initiator may hold an ack back, in microseconds.
    pub ack_delay_us: U32,
    /// Zero.
    pub reserved: U32,
    /// Identifies this incarnation of the initiating engine.
    pub incarnation: U64,
}

/// The target's answer to an INIT whose address is not proven.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Retry {
    /// To be sent back in the next INIT.
    pub cookie: [u8; 16],
}

/// The target opened the flow.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Accept {
    /// The id under which the target receives.
    pub target_id: U64,
    /// The number of the target's first packet.
    pub first_packet_number: U64,
    /// Hash of the INIT that was acted on.
    pub transcript: U64,
    /// How much may be unacknowledged towards the target.
    pub window_bytes: U32,
    /// The largest packet that the target takes, in bytes.
    pub packet_bytes: U16,
    /// The version chosen.
    pub version: u8,
    /// Which engine of the target process this is.
    pub engine: u8,
    /// How long the target may hold an ack back, in microseconds.
    pub ack_delay_us: U32,
    /// Ops that the initiator may have out.
    pub op_credits: U16,
    /// KiB of replies that they may ask for together.
    pub reply_credits_kib: U16,
    /// The UDP port of the target's engine; 0 where the packet's own source is meant.
    pub port: U16,
    /// Zero.
    pub reserved: [U16; 3],
    /// Identifies this incarnation of the target engine.
    pub incarnation: U64,
}

/// Why a flow ends.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// The sender has no flow of that id: it restarted, or never had it.
    UnknownFlow = 1,
    /// The engine shuts down.
    Closing = 2,
    /// The target has no room for another flow.
    NoRoom = 3,
    /// The peer broke a rule of the flow (window, credits).
    Violation = 4,
    /// Replies were given up under pool pressure or after 60 s of silence.
    Abandoned = 5,
}

impl ResetReason {
    /// The reason of a code; unknown codes count as [`ResetReason::UnknownFlow`].
    pub const fn from_code(code: u16) -> Self {
        match code {
            2 => ResetReason::Closing,
            3 => ResetReason::NoRoom,
            4 => ResetReason::Violation,
            5 => ResetReason::Abandoned,
            _ => ResetReason::UnknownFlow,
        }
    }
}

/// Ends a flow. Believed only if it names the id under which the flow's other end receives.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Reset {
    /// The id on the packet that is answered: the sender's own receiving id.
    pub answered_id: U64,
    /// A [`ResetReason`].
    pub reason: U16,
    /// Zero.
    pub reserved: [U16; 3],
}

/// The target's versions, none of which was offered. Same place in every version.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Versions {
    /// The initiator's id from the INIT, so that strangers cannot forge this answer.
    pub initiator_id: U64,
    /// Versions spoken, highest first, zero-filled.
    pub versions: [u8; MAX_VERSIONS],
}

const _: () = assert!(size_of::<Init>() == 64);
const _: () = assert!(size_of::<Retry>() == 16);
const _: () = assert!(size_of::<Accept>() == 56);
const _: () = assert!(size_of::<Reset>() == 16);
const _: () = assert!(size_of::<Versions>() == 16);
const _: () = assert!(size_of::<Accept>() <= size_of::<Init>());

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn init_bytes_are_golden() {
        let init = Init {
            initiator_id: 0x0102030405060708.into(),
            cookie: [0xcc; 16],
            versions: [1, 0, 0, 0, 0, 0, 0, 0],
            first_packet_number: 9.into(),
            window_bytes: 0x10000.into(),
            packet_bytes: 1400.into(),
            wanted_engine: 0xffff.into(),
            ack_delay_us: 50.into(),
            reserved: 0.into(),
            incarnation: 3.into(),
        };
        let mut expected = [0u8; 64];
        expected[..8].copy_from_slice(&[8, 7, 6, 5, 4, 3, 2, 1]);
        expected[8..24].fill(0xcc);
        expected[24] = 1;
        expected[32] = 9;
        expected[42] = 1;
        expected[44..48].copy_from_slice(&[0x78, 5, 0xff, 0xff]);
        expected[48] = 50;
        expected[56] = 3;
        assert_eq!(init.as_bytes(), expected);
    }

    #[test]
    fn accept_bytes_are_golden() {
        let mut accept = Accept::new_zeroed();
        accept.target_id = 1.into();
        accept.transcript = 2.into();
        accept.window_bytes = 3.into();
        accept.packet_bytes = 1400.into();
        accept.version = 1;
        accept.engine = 4;
        accept.ack_delay_us = 5.into();
        accept.op_credits = 6.into();
        accept.reply_credits_kib = 7.into();
        accept.port = 8.into();
        accept.incarnation = 9.into();
        let mut expected = [0u8; 56];
        for (place, value) in
            [(0, 1), (16, 2), (24, 3), (28, 0x78), (29, 5), (30, 1), (31, 4), (32, 5), (36, 6)]
        {
            expected[place] = value;
        }
        expected[38] = 7;
        expected[40] = 8;
        expected[48] = 9;
        assert_eq!(accept.as_bytes(), expected);
    }
}
