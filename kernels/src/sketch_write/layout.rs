//! What a SKETCH_WRITE says, on the wire, and the bytes of a sketch.

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::kernel::{BadArguments, HOME_REGION};

/// How a sketch begins.
pub const MAGIC: u64 = u64::from_le_bytes(*b"nic-hll1");
/// Length of a sketch's header in bytes; the registers follow.
pub const HEADER_BYTES: u64 = 64;
/// The least precision.
pub const PRECISION_MIN: u8 = 4;
/// The greatest: the op's own registers have one block of 4 KiB.
pub const PRECISION_MAX: u8 = 12;

/// Length of a sketch in bytes.
pub const fn sketch_bytes(precision: u8) -> u64 {
    HEADER_BYTES + (1 << precision)
}

/// How a sketch's header reads, as two words.
pub(super) const fn header(precision: u8) -> [u64; 2] {
    [MAGIC, precision as u64]
}

/// The register that a value belongs to, and what it raises that to at the least.
#[inline]
pub(super) fn place(value: &[u8; 8], precision: u8) -> (usize, u8) {
    let hash = xxh3_64(value);
    let register = (hash >> (64 - precision)) as usize;
    // One behind the rest of the hash ends the zeros.
    let rest = hash << precision | 1 << (precision - 1);
    (register, rest.leading_zeros() as u8 + 1)
}

/// The arguments of SKETCH_WRITE. The values are the payload.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Arguments {
    /// Address at which the values are stored.
    pub data: U64,
    /// Address of the sketch, a multiple of 64.
    pub sketch: U64,
    /// The number of their region within the domain, or [`HOME_REGION`].
    pub region: U16,
    /// That of the sketch.
    pub precision: U16,
    /// Zero.
    pub reserved: U32,
}

const _: () = assert!(size_of::<Arguments>() == Arguments::BYTES);
const _: () = assert!(Arguments::BYTES <= crate::ARGUMENT_BYTES_MAX);

impl Arguments {
    /// Length in bytes.
    pub const BYTES: usize = 24;

    /// Values and sketch lie in the region that the rkey names.
    pub fn home(data: u64, sketch: u64, precision: u8) -> Self {
        Self::new(HOME_REGION, data, sketch, precision)
    }

    /// They lie in a region that the rkey may follow pointers into.
    pub fn new(region: u16, data: u64, sketch: u64, precision: u8) -> Self {
        Arguments {
            data: data.into(),
            sketch: sketch.into(),
            region: region.into(),
            precision: u16::from(precision).into(),
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

/// How many registers were raised; `None` if it is no reply to a SKETCH_WRITE.
pub fn decode_reply(reply: &[u8]) -> Option<u32> {
    let word = u64::from_le_bytes(reply.try_into().ok()?);
    u32::try_from(word).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_golden() {
        let arguments = Arguments::new(3, 0x0140, 0x80, 12);
        let expected =
            [0x40, 1, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 3, 0, 12, 0, 0, 0, 0, 0];
        assert_eq!(arguments.encode(), expected);
        assert_eq!(Arguments::decode(&expected), Ok(arguments));
        assert!(Arguments::decode(&expected[..23]).is_err());
        assert_eq!(decode_reply(&[7, 1, 0, 0, 0, 0, 0, 0]), Some(263));
        assert_eq!(decode_reply(&[0; 7]), None);
        assert_eq!(header(12), [u64::from_le_bytes(*b"nic-hll1"), 12]);
        for precision in PRECISION_MIN..=PRECISION_MAX {
            for value in 0..1000u64 {
                let (register, rank) = place(&value.to_le_bytes(), precision);
                assert!(register < 1 << precision && (1..=65 - precision).contains(&rank));
            }
        }
    }
}
