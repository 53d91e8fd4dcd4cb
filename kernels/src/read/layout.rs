//! What a READ says, on the wire.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::kernel::{BadArguments, HOME_REGION};

/// The arguments of READ. The reply is the range's bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Arguments {
    /// Address of the first byte.
    pub address: U64,
    /// How many bytes.
    pub length: U32,
    /// The region's number within the domain, or [`HOME_REGION`].
    pub region: U16,
    /// Zero.
    pub reserved: U16,
}

const _: () = assert!(size_of::<Arguments>() == Arguments::BYTES);
const _: () = assert!(Arguments::BYTES <= crate::ARGUMENT_BYTES_MAX);

impl Arguments {
    /// Length in bytes.
    pub const BYTES: usize = 16;

    /// Reads from the region that the rkey names.
    pub fn home(address: u64, length: u32) -> Self {
        Self::new(HOME_REGION, address, length)
    }

    /// Reads from a region that the rkey may follow pointers into.
    pub fn new(region: u16, address: u64, length: u32) -> Self {
        Arguments {
            address: address.into(),
            length: length.into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_golden() {
        let arguments = Arguments::new(3, 0x0102_0304_0506_0708, 0x0a0b_0c0d);
        let expected = [8, 7, 6, 5, 4, 3, 2, 1, 0x0d, 0x0c, 0x0b, 0x0a, 3, 0, 0, 0];
        assert_eq!(arguments.encode(), expected);
        assert_eq!(Arguments::decode(&expected), Ok(arguments));
        assert_eq!(
            Arguments::decode(&expected[1..]),
            Err(BadArguments::Length { found: 15, expected: 16 })
        );
        assert_eq!(Arguments::home(0, 0).encode()[12..14], [0xff, 0xff]);
    }
}
