//! What a CONSISTENT_READ says, on the wire.

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::FETCH_BYTES_MAX;
use crate::kernel::{BadArguments, HOME_REGION};

/// The longest object in bytes.
pub const OBJECT_BYTES_MAX: u16 = FETCH_BYTES_MAX as u16;

/// How an object proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Checksum {
    /// CRC-32 as in zlib (IEEE 802.3), 4 bytes.
    Crc32 = 0,
    /// CRC-64 as in xz (ECMA-182, reflected), 8 bytes.
    Crc64 = 1,
    /// XXH3-64 without a seed, 8 bytes.
    Xxh3 = 2,
}

impl Checksum {
    /// The checksum of a code.
    #[inline]
    pub(super) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Checksum::Crc32,
            1 => Checksum::Crc64,
            2 => Checksum::Xxh3,
            _ => return None,
        })
    }

    /// Its length in bytes.
    #[inline]
    pub const fn bytes(self) -> u16 {
        match self {
            Checksum::Crc32 => 4,
            Checksum::Crc64 | Checksum::Xxh3 => 8,
        }
    }
}

/// The arguments of CONSISTENT_READ; see the module for what they mean.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Arguments {
    /// Address of the object.
    pub address: U64,
    /// The region's number within the domain, or [`HOME_REGION`].
    pub region: U16,
    /// Length of the object in bytes, the checksum included.
    pub length: U16,
    /// Where in the object the checksum stands.
    pub checksum_at: U16,
    /// Where in the object begins what the checksum covers.
    pub from: U16,
    /// Where that ends.
    pub to: U16,
    /// [`Checksum`].
    pub checksum: u8,
    /// How often a torn object is read again.
    pub retries: u8,
}

const _: () = assert!(size_of::<Arguments>() == Arguments::BYTES);
const _: () = assert!(Arguments::BYTES <= crate::ARGUMENT_BYTES_MAX);

impl Arguments {
    /// Length in bytes.
    pub const BYTES: usize = 20;

    /// Reads an object whose last bytes are the checksum of all others.
    ///
    /// ```
    /// use nic_kernels::consistent_read::{Arguments, Checksum, writer};
    ///
    /// let mut object = *b"sixteen bytes of it........";
    /// let arguments = Arguments::trailing(0x1000, object.len() as u16, Checksum::Crc64);
    /// writer::seal(&arguments, &mut object);
    /// assert!(arguments.is_whole(&object));
    /// object[3] ^= 1;
    /// assert!(!arguments.is_whole(&object));
    /// ```
    pub fn trailing(address: u64, length: u16, checksum: Checksum) -> Self {
        let end = length.saturating_sub(checksum.bytes());
        Arguments {
            address: address.into(),
            region: HOME_REGION.into(),
            length: length.into(),
            checksum_at: end.into(),
            from: 0.into(),
            to: end.into(),
            checksum: checksum as u8,
            retries: 16,
        }
    }

    /// Reads an object that has the checksum at its start, or in a header, and behind it all that
    /// the checksum covers.
    pub fn leading(address: u64, length: u16, checksum: Checksum, checksum_at: u16) -> Self {
        let behind = checksum_at.saturating_add(checksum.bytes());
        Arguments {
            checksum_at: checksum_at.into(),
            from: behind.into(),
            to: length.into(),
            ..Self::trailing(address, length, checksum)
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

    /// Makes sure that checksum and what it covers lie in the object, apart from each other.
    ///
    /// # Errors
    /// They do not, the object is too long, or nobody knows such a checksum.
    #[inline]
    pub fn check(&self) -> Result<Checksum, BadArguments> {
        let bad = |field| BadArguments::Value { field };
        let checksum = Checksum::from_code(self.checksum).ok_or(bad("checksum"))?;
        let (length, at) = (u32::from(self.length.get()), u32::from(self.checksum_at.get()));
        let (from, to) = (u32::from(self.from.get()), u32::from(self.to.get()));
        let end = at + u32::from(checksum.bytes());
        if length > OBJECT_BYTES_MAX.into() {
            return Err(bad("length"));
        }
        if end > length {
            return Err(bad("checksum_at"));
        }
        let is_apart = to <= at || end <= from;
        if from > to || to > length || !is_apart {
            return Err(bad("from"));
        }
        Ok(checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_golden() {
        let arguments = Arguments {
            region: 3.into(),
            retries: 9,
            ..Arguments::leading(0x1122_3344_5566_7788, 0x0fff, Checksum::Xxh3, 16)
        };
        let expected = [
            0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 3, 0, 0xff, 0x0f, 16, 0, 24, 0, 0xff,
            0x0f, 2, 9,
        ];
        assert_eq!(arguments.encode(), expected);
        assert_eq!(Arguments::decode(&expected), Ok(arguments));
        assert_eq!(
            Arguments::decode(&expected[1..]),
            Err(BadArguments::Length { found: 19, expected: 20 })
        );
        let trailing = Arguments::trailing(8, 68, Checksum::Crc32);
        let expected = [8, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 68, 0, 64, 0, 0, 0, 64, 0, 0, 16];
        assert_eq!(trailing.encode(), expected);
    }
}
