//! What a FETCH_ADD says, on the wire.

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::kernel::{BadArguments, HOME_REGION};

/// The arguments of FETCH_ADD. The reply is the word as it was before, 8 bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Arguments {
    /// Address of the word, a multiple of 8.
    pub address: U64,
    /// What is added, wrapping.
    pub addend: U64,
    /// The region's number within the domain, or [`HOME_REGION`].
    pub region: U16,
    /// Zero.
    pub reserved: [U16; 3],
}

const _: () = assert!(size_of::<Arguments>() == Arguments::BYTES);
const _: () = assert!(Arguments::BYTES <= crate::ARGUMENT_BYTES_MAX);

impl Arguments {
    /// Length in bytes.
    pub const BYTES: usize = 24;

    /// Works on the region that the rkey names.
    pub fn home(address: u64, addend: u64) -> Self {
        Self::new(HOME_REGION, address, addend)
    }

    /// Works on a region that the rkey may follow pointers into.
    pub fn new(region: u16, address: u64, addend: u64) -> Self {
        Arguments {
            address: address.into(),
            addend: addend.into(),
            region: region.into(),
            reserved: [0.into(); 3],
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
        let arguments = Arguments::new(7, 0x10, 0x0102_0304_0506_0708);
        let mut expected = [0u8; 24];
        expected[0] = 0x10;
        expected[8..16].copy_from_slice(&[8, 7, 6, 5, 4, 3, 2, 1]);
        expected[16] = 7;
        assert_eq!(arguments.encode(), expected);
        assert_eq!(Arguments::decode(&expected), Ok(arguments));
        assert!(Arguments::decode(&[0; 32]).is_err());
    }
}
