//! The bytes of a log.

use xxhash_rust::xxh3::xxh3_64_with_seed;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// How a log begins.
pub const MAGIC: u64 = u64::from_le_bytes(*b"nic-log1");
/// Length of a log's header in bytes; the ring follows.
pub const HEADER_BYTES: u64 = 64;
/// Length of a record's header in bytes.
pub const RECORD_HEADER_BYTES: u64 = 32;
/// What positions, capacities and records are multiples of, in bytes.
pub const ALIGNMENT: u64 = 32;
/// The largest ring in bytes.
pub const CAPACITY_MAX: u64 = 1 << 40;
/// Offsets of the header's words.
pub const HEAD: u64 = 16;
/// See [`HEAD`].
pub const WATERMARK: u64 = 24;
/// See [`HEAD`].
pub const TAIL: u64 = 32;
/// Positions beyond are taken for nonsense: at 1 GB/s a log gets there after 146 years.
pub const POSITION_MAX: u64 = 1 << 62;
/// Makes it improbable that payload which lay there before looks like a record's state.
const MASK: u64 = 0x9d3c_57a1_e68b_240f;

/// A log's header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: U64,
    /// Bytes of the ring.
    pub capacity: U64,
    /// What is before it may be overwritten.
    pub head: U64,
    /// All records before it are whole.
    pub watermark: U64,
    /// Where the next record begins.
    pub tail: U64,
    /// Zero.
    pub reserved: [U64; 3],
}

const _: () = assert!(size_of::<Header>() as u64 == HEADER_BYTES);
const _: () = assert!(core::mem::offset_of!(Header, head) as u64 == HEAD);
const _: () = assert!(core::mem::offset_of!(Header, watermark) as u64 == WATERMARK);
const _: () = assert!(core::mem::offset_of!(Header, tail) as u64 == TAIL);

impl Header {
    /// A header whose magic and capacity are a log's.
    pub fn parse(bytes: &[u8]) -> Option<&Header> {
        let (header, _) = Header::ref_from_prefix(bytes).ok()?;
        let capacity = header.capacity.get();
        let fits = capacity != 0 && capacity % ALIGNMENT == 0 && capacity <= CAPACITY_MAX;
        (header.magic.get() == MAGIC && fits).then_some(header)
    }

    /// Whether the words stand as those of a log do. A copy that was made while they changed may
    /// not; one that is made again should.
    pub fn is_in_order(&self) -> bool {
        let (head, watermark, tail) = (self.head.get(), self.watermark.get(), self.tail.get());
        head <= watermark
            && watermark <= tail
            && tail - head <= self.capacity.get()
            && tail <= POSITION_MAX
            && (head | watermark | tail) % ALIGNMENT == 0
    }
}

/// A record's header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RecordHeader {
    /// [`state`] once it is whole.
    pub state: U64,
    /// Bytes behind the header, without what fills them up.
    pub length: U32,
    /// Zero.
    pub reserved: U32,
    /// Of tag and payload.
    pub checksum: U64,
    /// Its author's.
    pub tag: U64,
}

const _: () = assert!(size_of::<RecordHeader>() as u64 == RECORD_HEADER_BYTES);

/// What a whole record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One with a payload.
    Data,
    /// Nothing: to be passed over.
    Skip,
}

/// The state of a whole record at a position.
pub const fn state(position: u64, kind: Kind) -> u64 {
    let kind = match kind {
        Kind::Data => 1,
        Kind::Skip => 2,
    };
    (position | kind) ^ MASK
}

impl RecordHeader {
    /// Where a record with this state would be, whatever else it is.
    pub fn position(&self) -> u64 {
        (self.state.get() ^ MASK) & !(ALIGNMENT - 1)
    }

    /// What the record at a position is, if it is whole; and how many bytes it takes.
    pub fn parse(bytes: &[u8], position: u64) -> Option<(Kind, u64)> {
        let (header, _) = RecordHeader::ref_from_prefix(bytes).ok()?;
        let found = header.state.get();
        let kind =
            [Kind::Data, Kind::Skip].into_iter().find(|kind| state(position, *kind) == found)?;
        Some((kind, record_bytes(header.length.get())))
    }
}

/// How many bytes of the ring a record takes.
pub const fn record_bytes(payload_length: u32) -> u64 {
    RECORD_HEADER_BYTES + (payload_length as u64).next_multiple_of(ALIGNMENT)
}

/// The longest payload that a log of some capacity takes, in bytes: its record takes half of the
/// ring. A longer one might never fit, however much is trimmed, as no record goes over the ring's
/// end.
pub const fn payload_bytes_max(capacity: u64) -> u64 {
    (capacity / 2 / ALIGNMENT * ALIGNMENT).saturating_sub(RECORD_HEADER_BYTES)
}

/// The checksum of a record.
pub fn checksum(tag: u64, payload: &[u8]) -> u64 {
    xxh3_64_with_seed(payload, tag)
}

/// How many bytes are left before the ring's end.
pub(crate) const fn to_ring_end(position: u64, capacity: u64) -> u64 {
    capacity - position % capacity
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_golden() {
        let header = Header {
            magic: MAGIC.into(),
            capacity: 64.into(),
            head: 32.into(),
            watermark: 64.into(),
            tail: 96.into(),
            reserved: [0.into(); 3],
        };
        let mut expected = [0; 64];
        expected[..8].copy_from_slice(b"nic-log1");
        (expected[8], expected[16], expected[24], expected[32]) = (64, 32, 64, 96);
        assert_eq!(header.as_bytes(), expected);
        assert!(Header::parse(&expected).unwrap().is_in_order());
        for (place, value) in [(0, 0), (8, 0), (8, 65), (14, 1)] {
            let mut changed = expected;
            changed[place] = value;
            assert!(Header::parse(&changed).is_none(), "{place}");
        }
        for (place, value) in [(16, 96), (24, 128), (32, 128), (32, 65), (39, 0x40)] {
            let mut changed = expected;
            changed[place] = value;
            assert!(!Header::parse(&changed).unwrap().is_in_order(), "{place}");
        }

        let record = RecordHeader {
            state: state(0x40, Kind::Data).into(),
            length: 33.into(),
            reserved: 0.into(),
            checksum: checksum(7, b"apple").into(),
            tag: 7.into(),
        };
        let expected = [
            0x4e, 0x24, 0x8b, 0xe6, 0xa1, 0x57, 0x3c, 0x9d, 33, 0, 0, 0, 0, 0, 0, 0, //
        ];
        assert_eq!(record.as_bytes()[..16], expected);
        assert_eq!(record.as_bytes()[24], 7);
        assert_eq!(RecordHeader::parse(record.as_bytes(), 0x40), Some((Kind::Data, 96)));
        assert_eq!(RecordHeader::parse(record.as_bytes(), 0x60), None);
        assert_eq!(RecordHeader::parse(&[0; 32], 0), None);
        assert_eq!(checksum(7, b"apple"), checksum(7, b"apple"));
        assert_ne!(checksum(7, b"apple"), checksum(8, b"apple"));
    }
}
