//! What a SCAN_AND_READ says, on the wire.

use zerocopy::little_endian::{U16, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bucket_table::KeyHash;
use crate::bucket_table::layout::{BUCKET_HEADER_BYTES, ENTRY_HEADER_BYTES, INDEX_ENTRY_BYTES};
use crate::kernel::BadArguments;

/// The arguments of SCAN_AND_READ.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Arguments {
    /// Address of the bucket in the region that the rkey names, a multiple of 64.
    pub bucket: U64,
    /// The whole hash of the key.
    pub hash: U128,
    /// Length of the bucket: 64, 128, 192 or 256.
    pub bucket_bytes: U16,
    /// Zero.
    pub flags: U16,
}

const _: () = assert!(size_of::<Arguments>() == Arguments::BYTES);
const _: () = assert!(Arguments::BYTES <= crate::ARGUMENT_BYTES_MAX);

impl Arguments {
    /// Length in bytes.
    pub const BYTES: usize = 28;

    /// Looks for a hash in the bucket at an address;
    /// [`TableView::scan_and_read`](crate::bucket_table::TableView::scan_and_read) knows which.
    pub const fn new(bucket: u64, hash: KeyHash, bucket_bytes: u16) -> Self {
        Arguments {
            bucket: U64::new(bucket),
            hash: U128::new(hash.0),
            bucket_bytes: U16::new(bucket_bytes),
            flags: U16::ZERO,
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

/// Length of the reply for a key and value of such lengths: what its landing place must have.
pub const fn reply_bytes(key_bytes: u32, value_bytes: u32) -> u32 {
    let before = BUCKET_HEADER_BYTES + INDEX_ENTRY_BYTES + ENTRY_HEADER_BYTES;
    before as u32 + key_bytes + value_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_golden() {
        let hash = KeyHash(0x1122_3344_5566_7788_99aa_bbcc_ddee_ff00);
        let arguments = Arguments::new(0x0102, hash, 256);
        let expected = [
            2, 1, 0, 0, 0, 0, 0, 0, 0x00, 0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x88, 0x77,
            0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 1, 0, 0,
        ];
        assert_eq!(arguments.encode(), expected);
        assert_eq!(Arguments::decode(&expected), Ok(arguments));
        assert!(Arguments::decode(&expected[..24]).is_err());
        assert_eq!(reply_bytes(5, 3), 88);
    }
}
