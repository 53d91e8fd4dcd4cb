//! What an INDIRECT_READ says, on the wire.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ARGUMENT_BYTES_MAX;
use crate::executor::{STRANDS_MAX, StrandHeader};
use crate::kernel::{BadArguments, HOME_REGION};

/// Length of what precedes the indices, in bytes.
const HEADER_BYTES: usize = 20;
const INDEX_BYTES_MAX: usize = ARGUMENT_BYTES_MAX - HEADER_BYTES;
/// The most lookups of one op.
pub const INDICES_MAX: usize = INDEX_BYTES_MAX / 4;
/// The most lookups of one op if all indices are below 64 Ki.
pub const SHORT_INDICES_MAX: usize = INDEX_BYTES_MAX / 2;
const _: () = assert!(SHORT_INDICES_MAX <= STRANDS_MAX);

bitflags::bitflags! {
    /// How a table is made, and its indices written.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Flags: u16 {
        /// Pointers carry their region: [`PointerForm::Tagged`](crate::PointerForm::Tagged).
        const TAGGED = 1;
        /// Indices are 2 bytes long instead of 4.
        const SHORT_INDICES = 2;
    }
}

/// What precedes the indices; see the module for what it means.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
struct Header {
    table: U64,
    length: U32,
    region: U16,
    value_region: U16,
    flags: U16,
    count: u8,
    entry_words: u8,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);

/// More lookups than one op takes: [`INDICES_MAX`], or [`SHORT_INDICES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found} lookups where one op takes {most}; spread them over several")]
pub struct TooMany {
    /// How many there are.
    pub found: usize,
    /// How many one op takes with such indices.
    pub most: usize,
}

/// The arguments of INDIRECT_READ.
#[derive(Clone, Copy, Debug, PartialEq, IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub struct Arguments {
    header: Header,
    /// The first `count` of them mean something; all others are zero.
    indices: [u8; INDEX_BYTES_MAX],
}

impl Arguments {
    /// Looks entries of a table up, whose pointers are plain and stand one behind the other; reads
    /// `length` bytes through each.
    ///
    /// ```
    /// use nic_kernels::indirect_read::Arguments;
    ///
    /// let arguments = Arguments::new(0x1000, 64, &[7, 100_000, 3])?.tagged();
    /// assert_eq!(arguments.stride(), 8 + 64);
    /// # Ok::<(), nic_kernels::indirect_read::TooMany>(())
    /// ```
    ///
    /// # Errors
    /// There are more indices than fit.
    pub fn new(table: u64, length: u32, entries: &[u32]) -> Result<Self, TooMany> {
        let is_short = entries.iter().all(|index| *index <= u16::MAX.into());
        let most = if is_short { SHORT_INDICES_MAX } else { INDICES_MAX };
        if entries.len() > most {
            return Err(TooMany { found: entries.len(), most });
        }
        let mut indices = [0; INDEX_BYTES_MAX];
        for (place, index) in entries.iter().enumerate() {
            let bytes = index.to_le_bytes();
            if is_short {
                indices[2 * place..2 * place + 2].copy_from_slice(&bytes[..2]);
            } else {
                indices[4 * place..4 * place + 4].copy_from_slice(&bytes);
            }
        }
        let flags = if is_short { Flags::SHORT_INDICES } else { Flags::empty() };
        let header = Header {
            table: table.into(),
            length: length.into(),
            region: HOME_REGION.into(),
            value_region: HOME_REGION.into(),
            flags: flags.bits().into(),
            // At most 64.
            count: entries.len() as u8,
            entry_words: 1,
        };
        Ok(Arguments { header, indices })
    }

    /// The table lies in a region that the rkey may follow pointers into.
    #[must_use]
    pub fn in_region(mut self, region: u8) -> Self {
        self.header.region = u16::from(region).into();
        self
    }

    /// Plain pointers lead into a region that the rkey may follow pointers into.
    #[must_use]
    pub fn values_in_region(mut self, region: u8) -> Self {
        self.header.value_region = u16::from(region).into();
        self
    }

    /// Pointers carry their region.
    #[must_use]
    pub fn tagged(mut self) -> Self {
        self.header.flags = (self.header.flags.get() | Flags::TAGGED.bits()).into();
        self
    }

    /// Entries lie so many words of 8 bytes apart; the pointer is the first of each.
    #[must_use]
    pub fn entries_of(mut self, words: u8) -> Self {
        self.header.entry_words = words;
        self
    }

    /// Address of entry 0.
    #[inline]
    pub fn table(&self) -> u64 {
        self.header.table.get()
    }

    /// Length of a value in bytes.
    #[inline]
    pub fn length(&self) -> u32 {
        self.header.length.get()
    }

    /// The table's region, or [`HOME_REGION`].
    #[inline]
    pub fn region(&self) -> u16 {
        self.header.region.get()
    }

    /// The region of the values, or [`HOME_REGION`].
    #[inline]
    pub fn value_region(&self) -> u16 {
        self.header.value_region.get()
    }

    /// How the table is made; `None` if this version does not know.
    #[inline]
    pub fn flags(&self) -> Option<Flags> {
        Flags::from_bits(self.header.flags.get())
    }

    /// How many lookups there are.
    #[inline]
    pub fn count(&self) -> u8 {
        self.header.count
    }

    /// Distance of the entries in bytes.
    #[inline]
    pub fn entry_bytes(&self) -> u64 {
        u64::from(self.header.entry_words) * 8
    }

    /// The entry of a lookup.
    #[inline]
    pub fn index(&self, place: u8) -> u32 {
        let place = usize::from(place);
        if self.header.flags.get() & Flags::SHORT_INDICES.bits() != 0 {
            let (short, _) = self.indices.as_chunks::<2>();
            return short.get(place).map_or(0, |bytes| u16::from_le_bytes(*bytes).into());
        }
        let (long, _) = self.indices.as_chunks::<4>();
        long.get(place).map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// Distance of the lookups' parts of the reply, in bytes.
    #[inline]
    pub fn stride(&self) -> u32 {
        let length = (StrandHeader::BYTES as u32).saturating_add(self.length());
        length.checked_next_multiple_of(8).unwrap_or(!7)
    }

    /// Length of the reply in bytes: what its landing place must have.
    pub fn reply_bytes(&self) -> u32 {
        self.stride().saturating_mul(self.count().into())
    }

    /// The bytes as they stand in the request.
    #[inline]
    pub fn encoded(&self) -> &[u8] {
        &self.as_bytes()[..self.encoded_bytes()]
    }

    #[inline]
    fn encoded_bytes(&self) -> usize {
        let is_short = self.header.flags.get() & Flags::SHORT_INDICES.bits() != 0;
        HEADER_BYTES + usize::from(self.count()) * if is_short { 2 } else { 4 }
    }

    /// Reads them back.
    ///
    /// # Errors
    /// Another length than the header says.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Self, BadArguments> {
        let wrong = |expected| BadArguments::Length { found: bytes.len(), expected };
        let (header, rest) = Header::read_from_prefix(bytes).map_err(|_| wrong(HEADER_BYTES))?;
        let mut indices = [0; INDEX_BYTES_MAX];
        let expected = Arguments { header, indices }.encoded_bytes();
        if bytes.len() != expected || expected > ARGUMENT_BYTES_MAX {
            return Err(wrong(expected));
        }
        indices[..rest.len()].copy_from_slice(rest);
        Ok(Arguments { header, indices })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_golden() {
        let long = Arguments::new(0x0102, 0x40, &[1, 0x1_0000]).unwrap().tagged().entries_of(3);
        let expected = [
            2, 1, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 2, 3, 1, 0, 0, 0,
            0, 0, 1, 0,
        ];
        assert_eq!(long.encoded(), expected);
        assert_eq!(Arguments::decode(&expected), Ok(long));
        assert_eq!((long.index(0), long.index(1), long.index(255)), (1, 0x1_0000, 0));
        assert_eq!((long.stride(), long.reply_bytes()), (72, 144));
        let short = Arguments::new(8, 5, &[0xffff, 2, 3]).unwrap().in_region(1).values_in_region(2);
        let expected =
            [8, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 2, 0, 2, 0, 3, 1, 0xff, 0xff, 2, 0, 3, 0];
        assert_eq!(short.encoded(), expected);
        assert_eq!(Arguments::decode(&expected), Ok(short));
        assert_eq!((short.index(0), short.index(2), short.stride()), (0xffff, 3, 16));
        for cut in [0, 19, 25] {
            let found = Arguments::decode(&expected[..cut]);
            assert!(matches!(found, Err(BadArguments::Length { .. })), "{cut} bytes");
        }
    }

    #[test]
    fn one_op_takes_so_many() {
        assert_eq!((INDICES_MAX, SHORT_INDICES_MAX), (27, 54));
        assert!(Arguments::new(0, 8, &[1; SHORT_INDICES_MAX]).is_ok());
        assert!(Arguments::new(0, 8, &[1 << 20; INDICES_MAX]).is_ok());
        let refused = Arguments::new(0, 8, &[1 << 20; INDICES_MAX + 1]);
        assert_eq!(refused, Err(TooMany { found: 28, most: 27 }));
        let refused = Arguments::new(0, 8, &[1; SHORT_INDICES_MAX + 1]);
        assert_eq!(refused, Err(TooMany { found: 55, most: 54 }));
    }
}
