//! What a WRITE says, on the wire.

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::kernel::{BadArguments, HOME_REGION};

/// The arguments of WRITE. The length is the payload's; the reply is empty.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Arguments {
    /// Address of the first byte.
    pub address: U64,
    /// The region's number within the domain, or [`HOME_REGION`].
    pub region: U16,
    /// Zero.
    pub reserved: [U16; 3],
}

const _: () = assert!(size_of::<Arguments>() == Arguments::BYTES);
const _: () = assert!(Arguments::BYTES <= crate::ARGUMENT_BYTES_MAX);

impl Arguments {
    /// Length in bytes.
    pub const BYTES: usize = 16;

    /// Writes to the region that the rkey names.
    pub fn home(address: u64) -> Self {
        Self::new(HOME_REGION, address)
    }

    /// Writes to a region that the rkey may follow pointers into.
    pub fn new(region: u16, address: u64) -> Self {
        Arguments { address: address.into(), region: region.into(), reserved: [0.into(); 3] }
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
        let arguments = Arguments::new(0x0201, 0x1112_1314_1516_1718);
        let expected = [0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 1, 2, 0, 0, 0, 0, 0, 0];
        assert_eq!(arguments.encode(), expected);
        assert_eq!(Arguments::decode(&expected), Ok(arguments));
        assert!(Arguments::decode(&expected[..8]).is_err());
    }
}
