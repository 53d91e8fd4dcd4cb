//! The table's bytes. All little-endian; words of the index are aligned, so none is ever torn.
//!
//! ```text
//! index region
//!   0   TableHeader, padded to 256 bytes
//!   256 buckets of 64, 128, 192 or 256 bytes:
//!         0  BucketHeader {config_id u64, flags u32, used u32}
//!         16 IndexEntry {hash u64, version u64, pointer u64}, as many as fit
//! entries region, at multiples of 16
//!   0   EntryHeader {checksum u64, hash u128, version u64, key_length u16, flags u16,
//!                    value_length u32}
//!   40  key, value
//! ```

use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Says that an index region holds a table; written last.
pub const MAGIC: u64 = u64::from_le_bytes(*b"nic:bkt\0");
/// The layout that this module describes.
pub const LAYOUT_VERSION: u32 = 1;
/// Offset of the first bucket; what stands before is the header.
pub const BUCKETS_OFFSET: u64 = 256;
/// Length of a bucket's header in bytes.
pub const BUCKET_HEADER_BYTES: usize = 16;
/// Length of an index entry in bytes.
pub const INDEX_ENTRY_BYTES: usize = 24;
/// Length of a data entry's header in bytes.
pub const ENTRY_HEADER_BYTES: usize = 40;
/// The longest bucket in bytes.
pub const BUCKET_BYTES_MAX: usize = 256;
/// What a table that serves no calls has for a service number.
pub const NO_SERVICE: u16 = 0xffff;
/// In a bucket's flags: keys of this bucket are in the owner's private memory; ask by CALL.
pub const FLAG_OVERFLOW: u32 = 1;
/// What data entries are aligned to, and their lengths rounded up to, in bytes.
pub const ENTRY_ALIGNMENT: u64 = 16;

/// The start of an index region.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct TableHeader {
    /// [`MAGIC`].
    pub magic: U64,
    /// [`LAYOUT_VERSION`].
    pub layout_version: U32,
    /// Length of a bucket.
    pub bucket_bytes: U32,
    /// How many there are; a power of two.
    pub bucket_count: U64,
    /// Which configuration of the store this table belongs to; in every bucket as well.
    pub config_id: U64,
    /// The number of the entries region in the owner's domain.
    pub entries_region: U16,
    /// The service that answers for overflowed keys, or [`NO_SERVICE`].
    pub service: U16,
    /// Zero.
    pub reserved: U32,
    /// Which of the tables that were formatted here.
    pub generation: U64,
}

/// The start of a bucket.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct BucketHeader {
    /// As in the table's header: tells a reader that it asks the wrong table.
    pub config_id: U64,
    /// [`FLAG_OVERFLOW`].
    pub flags: U32,
    /// Entries from this place on have never been filled: nobody need look at them.
    pub used: U32,
}

impl BucketHeader {
    /// Whether keys of this bucket are elsewhere.
    #[inline]
    pub fn overflowed(&self) -> bool {
        self.flags.get() & FLAG_OVERFLOW != 0
    }
}

/// What a bucket says of one key.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct IndexEntry {
    /// Low half of the key's hash.
    pub hash: U64,
    /// The data entry's version.
    pub version: U64,
    /// An [`EntryPointer`]; zero if the entry is empty.
    pub pointer: U64,
}

/// The start of a data entry; key and value follow.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct EntryHeader {
    /// XXH3-64 of all that follows in the entry.
    pub checksum: U64,
    /// The key's hash.
    pub hash: U128,
    /// Grows with every change of the table.
    pub version: U64,
    /// Length of the key in bytes.
    pub key_length: U16,
    /// Zero.
    pub flags: U16,
    /// Length of the value in bytes.
    pub value_length: U32,
}

impl EntryHeader {
    /// Length of the whole data entry in bytes, as its header says.
    #[inline]
    pub fn used_bytes(&self) -> u64 {
        ENTRY_HEADER_BYTES as u64
            + u64::from(self.key_length.get())
            + u64::from(self.value_length.get())
    }
}

const _: () = assert!(size_of::<TableHeader>() == 48);
const _: () = assert!(size_of::<BucketHeader>() == BUCKET_HEADER_BYTES);
const _: () = assert!(size_of::<IndexEntry>() == INDEX_ENTRY_BYTES);
const _: () = assert!(size_of::<EntryHeader>() == ENTRY_HEADER_BYTES);

/// Where a data entry is: region number (8 bits), offset/16 (36 bits), length/16 (20 bits, rounded
/// up), from the high end. Regions of a table have the base 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryPointer(u64);

impl EntryPointer {
    /// Offsets are below this many bytes.
    pub const OFFSET_LIMIT: u64 = 1 << 40;

    /// Points to `length` bytes at `offset`; `None` if the offset is unaligned or beyond
    /// [`Self::OFFSET_LIMIT`], or the length is zero or beyond 16 MiB.
    pub const fn new(region: u8, offset: u64, length: u32) -> Option<Self> {
        let units = length.div_ceil(16) as u64;
        if !offset.is_multiple_of(ENTRY_ALIGNMENT)
            || offset >= Self::OFFSET_LIMIT
            || units == 0
            || units >= 1 << 20
        {
            return None;
        }
        Some(EntryPointer((region as u64) << 56 | (offset / 16) << 20 | units))
    }

    /// The pointer of an index entry; `None` if that is empty.
    #[inline]
    pub const fn from_raw(raw: u64) -> Option<Self> {
        if raw == 0 { None } else { Some(EntryPointer(raw)) }
    }

    /// As it stands in an index entry.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The number of the region.
    #[inline]
    pub const fn region(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// Where in the region, in bytes.
    #[inline]
    pub const fn offset(self) -> u64 {
        (self.0 >> 20 & ((1 << 36) - 1)) * 16
    }

    /// How many bytes, rounded up to 16.
    #[inline]
    pub const fn length(self) -> u32 {
        (self.0 & ((1 << 20) - 1)) as u32 * 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_golden() {
        let header = TableHeader {
            magic: MAGIC.into(),
            layout_version: 1.into(),
            bucket_bytes: 256.into(),
            bucket_count: 0x0200.into(),
            config_id: 9.into(),
            entries_region: 3.into(),
            service: NO_SERVICE.into(),
            reserved: 0.into(),
            generation: 5.into(),
        };
        let mut expected = [0u8; 48];
        expected[..8].copy_from_slice(b"nic:bkt\0");
        expected[8] = 1;
        expected[13] = 1;
        expected[17] = 2;
        expected[24] = 9;
        expected[32..36].copy_from_slice(&[3, 0, 0xff, 0xff]);
        expected[40] = 5;
        assert_eq!(header.as_bytes(), expected);

        let bucket = BucketHeader { config_id: 7.into(), flags: 1.into(), used: 0.into() };
        assert_eq!(bucket.as_bytes(), [7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert!(bucket.overflowed());

        let entry = IndexEntry { hash: 1.into(), version: 2.into(), pointer: 3.into() };
        let mut expected = [0u8; 24];
        (expected[0], expected[8], expected[16]) = (1, 2, 3);
        assert_eq!(entry.as_bytes(), expected);
    }

    #[test]
    fn data_entries_are_golden() {
        let header = EntryHeader {
            checksum: 1.into(),
            hash: (2u128 << 64 | 3).into(),
            version: 4.into(),
            key_length: 5.into(),
            flags: 0.into(),
            value_length: 0x0706.into(),
        };
        let mut expected = [0u8; 40];
        (expected[0], expected[8], expected[16], expected[24]) = (1, 3, 2, 4);
        (expected[32], expected[36], expected[37]) = (5, 6, 7);
        assert_eq!(header.as_bytes(), expected);
        assert_eq!(header.used_bytes(), 40 + 5 + 0x0706);
    }

    #[test]
    fn pointers_come_back() {
        for (region, offset, length, rounded) in [
            (0, 0, 1, 16),
            (255, EntryPointer::OFFSET_LIMIT - 16, 16, 16),
            (3, 0x1230, 1 << 20, 1 << 20),
            (1, 16, (16 << 20) - 16, (16 << 20) - 16),
        ] {
            let pointer = EntryPointer::new(region, offset, length).unwrap();
            let parts = (pointer.region(), pointer.offset(), pointer.length());
            assert_eq!(parts, (region, offset, rounded));
            assert_eq!(EntryPointer::from_raw(pointer.raw()), Some(pointer));
        }
        assert_eq!(EntryPointer::new(2, 0x30, 33).unwrap().raw(), 2 << 56 | 3 << 20 | 3);
        assert_eq!(EntryPointer::new(0, 8, 16), None, "unaligned");
        assert_eq!(EntryPointer::new(0, EntryPointer::OFFSET_LIMIT, 16), None, "too far");
        assert_eq!(EntryPointer::new(0, 0, 0), None, "empty");
        assert_eq!(EntryPointer::new(0, 0, 16 << 20), None, "too long");
        assert_eq!(EntryPointer::from_raw(0), None);
    }
}
