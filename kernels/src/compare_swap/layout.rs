//! What a COMPARE_SWAP says, on the wire.

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::kernel::{BadArguments, HOME_REGION};

/// The arguments of COMPARE_SWAP. The reply is the word as it was before, 8 bytes; the swap took
/// place if that is `expected`.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Arguments {
    /// Address of the word, a multiple of 8.
    pub address: U64,
    /// What the word must hold.
    pub expected: U64,
    /// What it then holds.
    pub desired: U64,
    /// The region's number within the domain, or [`HOME_REGION`].
    pub region: U16,
    /// Zero.
    pub reserved: U16,
}

const _: () = assert!(size_of::<Arguments>() == Arguments::BYTES);
const _: () = assert!(Arguments::BYTES <= crate::ARGUMENT_BYTES_MAX);

impl Arguments {
    /// Length in bytes.
    pub const BYTES: usize = 28;

    /// Works on the region that the rkey names.
    pub fn home(address: u64, expected: u64, desired: u64) -> Self {
        Self::new(HOME_REGION, address, expected, desired)
    }

    /// Works on a region that the rkey may follow pointers into.
    pub fn new(region: u16, address: u64, expected: u64, desired: u64) -> Self {
        Arguments {
            address: address.into(),
            expected: expected.into(),
            desired: desired.into(),
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
        Self::view(bytes).copied()
    }

    /// The same, in place.
    #[inline(always)]
    pub(super) fn view(bytes: &[u8]) -> Result<&Self, BadArguments> {
        Self::ref_from_bytes(bytes)
            .map_err(|_| BadArguments::Length { found: bytes.len(), expected: Self::BYTES })
    }
}

/// The old word of a reply; `None` if that does not have 8 bytes.
#[inline]
pub fn decode_reply(reply: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(reply.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_golden() {
        let arguments = Arguments::new(7, 0x10, 0x0102_0304_0506_0708, 0xff);
        let mut expected = [0u8; 28];
        expected[0] = 0x10;
        expected[8..16].copy_from_slice(&[8, 7, 6, 5, 4, 3, 2, 1]);
        expected[16] = 0xff;
        expected[24] = 7;
        assert_eq!(arguments.encode(), expected);
        assert_eq!(Arguments::decode(&expected), Ok(arguments));
        assert!(Arguments::decode(&[0; 24]).is_err());
        assert_eq!(decode_reply(&[1, 0, 0, 0, 0, 0, 0, 2]), Some(0x0200_0000_0000_0001));
        assert_eq!(decode_reply(&[1; 7]), None);
    }
}
