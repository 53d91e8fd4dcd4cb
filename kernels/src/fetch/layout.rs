//! What a FETCH says, on the wire.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::kernel::{BadArguments, HOME_REGION};

/// The arguments of FETCH.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Arguments {
    /// Address of the log's header, a multiple of 64.
    pub log: U64,
    /// The position from which to read, a multiple of 32.
    pub from: U64,
    /// How long to wait for records, in microseconds.
    pub wait_us: U32,
    /// The region's number within the domain, or [`HOME_REGION`].
    pub region: U16,
    /// Zero.
    pub reserved: U16,
}

const _: () = assert!(size_of::<Arguments>() == Arguments::BYTES);
const _: () = assert!(Arguments::BYTES <= crate::ARGUMENT_BYTES_MAX);

impl Arguments {
    /// Length in bytes.
    pub const BYTES: usize = 24;

    /// Reads a log in the region that the rkey names.
    pub fn home(log: u64, from: u64, wait_us: u32) -> Self {
        Self::new(HOME_REGION, log, from, wait_us)
    }

    /// Reads a log in a region that the rkey may follow pointers into.
    pub fn new(region: u16, log: u64, from: u64, wait_us: u32) -> Self {
        Arguments {
            log: log.into(),
            from: from.into(),
            wait_us: wait_us.into(),
            region: region.into(),
            reserved: 0.into(),
        }
    }

    /// The bytes as they stand in the request.
    #[inline]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        zerocopy::transmute!(*self)
    }

    /// Reads them back.
    ///
    /// # Errors
    /// Another length than [`Self::BYTES`].
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Self, BadArguments> {
        Self::read_from_bytes(bytes)
            .map_err(|_| BadArguments::Length { found: bytes.len(), expected: Self::BYTES })
    }
}

/// What a fetch found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Records, perhaps none.
    Records,
    /// The log begins behind the position.
    Trimmed,
    /// The log ends before the position.
    Beyond,
}

/// How the reply begins.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReplyHeader {
    outcome: U32,
    /// Length of what follows in bytes.
    pub length: U32,
    /// The position from which it was read.
    pub from: U64,
    /// Where the log begins.
    pub head: U64,
    /// Where the log ends.
    pub watermark: U64,
}

impl ReplyHeader {
    /// Length in bytes.
    pub const BYTES: usize = 32;

    pub(super) fn new(outcome: Outcome, length: u32, from: u64, head: u64, watermark: u64) -> Self {
        let outcome: u32 = match outcome {
            Outcome::Records => 0,
            Outcome::Trimmed => 1,
            Outcome::Beyond => 2,
        };
        ReplyHeader {
            outcome: outcome.into(),
            length: length.into(),
            from: from.into(),
            head: head.into(),
            watermark: watermark.into(),
        }
    }

    /// What was found; `None` if it is no reply to a fetch.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.outcome.get() {
            0 => Some(Outcome::Records),
            1 => Some(Outcome::Trimmed),
            2 => Some(Outcome::Beyond),
            _ => None,
        }
    }
}

const _: () = assert!(size_of::<ReplyHeader>() == ReplyHeader::BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_golden() {
        let arguments = Arguments::new(3, 0x40, 0x0120, 500);
        let expected =
            [0x40, 0, 0, 0, 0, 0, 0, 0, 0x20, 1, 0, 0, 0, 0, 0, 0, 0xf4, 1, 0, 0, 3, 0, 0, 0];
        assert_eq!(arguments.encode(), expected);
        assert_eq!(Arguments::decode(&expected), Ok(arguments));
        assert!(Arguments::decode(&expected[..23]).is_err());
        let header = ReplyHeader::new(Outcome::Beyond, 64, 1, 2, 3);
        let mut expected = [0; 32];
        (expected[0], expected[4], expected[8], expected[16], expected[24]) = (2, 64, 1, 2, 3);
        assert_eq!(header.as_bytes(), expected);
        expected[0] = 3;
        assert_eq!(ReplyHeader::read_from_bytes(&expected).unwrap().outcome(), None);
    }
}
