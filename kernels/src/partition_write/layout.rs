//! What a PARTITION_WRITE says, on the wire, and the bytes of partitions.

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::FETCH_BYTES_MAX;
use crate::kernel::{BadArguments, HOME_REGION};

/// How a header begins.
pub const MAGIC: u64 = u64::from_le_bytes(*b"nic-par1");
/// Length of a header in bytes; the counters follow.
pub const HEADER_BYTES: u64 = 64;
/// The logarithm of the most partitions.
pub const PARTITION_BITS_MAX: u8 = 8;
/// The longest record in bytes.
pub const RECORD_BYTES_MAX: u16 = 256;
/// The most partitions.
pub(super) const PARTITIONS_MAX: usize = 1 << PARTITION_BITS_MAX;
/// Length of a partition's counters in bytes.
pub(super) const COUNTERS_BYTES: u64 = 16;
/// In place of a partition's number: all is written.
const ALL: u16 = u16::MAX;

// An op looks at all of them at once.
const _: () = assert!(PARTITIONS_MAX * COUNTERS_BYTES as usize <= FETCH_BYTES_MAX);

/// How keys are distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The key's bits from this one on: `key >> shift`, modulo the number of partitions.
    Radix {
        /// By how many bits, 0 to 63.
        shift: u8,
    },
    /// The uppermost bits of the key's XXH3-64.
    Hash,
}

/// What kind of records there are, and how they are distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Logarithm of the number of partitions: 0 to [`PARTITION_BITS_MAX`].
    pub bits: u8,
    /// Length of a record: 8 to [`RECORD_BYTES_MAX`], a power of two.
    pub record_bytes: u16,
    /// Where in a record its key is, 8 bytes: a multiple of 8.
    pub key_offset: u16,
    /// How keys are distributed.
    pub by: By,
    /// How many records each partition has room for.
    pub capacity: u64,
}

impl Shape {
    /// How many partitions there are.
    pub const fn count(&self) -> u16 {
        1 << self.bits
    }

    /// Length of header, counters and partitions together, in bytes; `None` if that is no number.
    pub fn bytes(&self) -> Option<u64> {
        let each = self.capacity.checked_mul(self.record_bytes.into())?;
        each.checked_mul(self.count().into())?.checked_add(self.first_partition())
    }

    /// The partition that a record belongs to, which has the shape's length.
    #[inline]
    pub fn partition_of(&self, record: &[u8]) -> u16 {
        let key = record.get(self.key_offset.into()..).and_then(|rest| rest.first_chunk());
        let key = u64::from_le_bytes(*key.unwrap_or(&[0; 8]));
        let place = match self.by {
            By::Radix { shift } => key >> (shift & 63),
            By::Hash => xxh3_64(&key.to_le_bytes()) >> 56 >> (PARTITION_BITS_MAX - self.bits),
        };
        place as u16 & (self.count() - 1)
    }

    /// The logarithm of a record's length.
    pub(super) fn record_shift(&self) -> u32 {
        self.record_bytes.trailing_zeros()
    }

    /// Whether there can be such partitions.
    pub(super) fn makes_sense(&self) -> bool {
        self.bits <= PARTITION_BITS_MAX
            && self.record_bytes.is_power_of_two()
            && (8..=RECORD_BYTES_MAX).contains(&self.record_bytes)
            && self.key_offset.is_multiple_of(8)
            && self.key_offset < self.record_bytes
            && !matches!(self.by, By::Radix { shift: 64.. })
            && self.bytes().is_some()
    }

    /// Where a partition's counters are, behind the header's address.
    pub(super) fn counters(&self, partition: u16) -> u64 {
        HEADER_BYTES + COUNTERS_BYTES * u64::from(partition)
    }

    /// Where a record of a partition is, behind the header's address. For shapes that make sense
    /// and records within the capacity.
    #[inline]
    pub fn place(&self, partition: u16, record: u64) -> u64 {
        let before = u64::from(partition) * self.capacity + record;
        self.first_partition() + before * u64::from(self.record_bytes)
    }

    fn first_partition(&self) -> u64 {
        self.counters(self.count()).next_multiple_of(64)
    }
}

/// A header as it stands in memory.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct HeaderLayout {
    magic: U64,
    capacity: U64,
    record_bytes: U16,
    key_offset: U16,
    bits: u8,
    by: u8,
    shift: u8,
    zero: [u8; 41],
}

const _: () = assert!(size_of::<HeaderLayout>() == HEADER_BYTES as usize);

impl HeaderLayout {
    pub(super) fn new(shape: &Shape) -> Self {
        let (by, shift) = match shape.by {
            By::Radix { shift } => (0, shift),
            By::Hash => (1, 0),
        };
        HeaderLayout {
            magic: MAGIC.into(),
            capacity: shape.capacity.into(),
            record_bytes: shape.record_bytes.into(),
            key_offset: shape.key_offset.into(),
            bits: shape.bits,
            by,
            shift,
            zero: [0; 41],
        }
    }

    /// What the header says; `None` if it is none.
    pub(super) fn shape(bytes: &[u8]) -> Option<Shape> {
        let (header, _) = HeaderLayout::read_from_prefix(bytes).ok()?;
        let by = match header.by {
            0 => By::Radix { shift: header.shift },
            1 if header.shift == 0 => By::Hash,
            _ => return None,
        };
        let shape = Shape {
            bits: header.bits,
            record_bytes: header.record_bytes.get(),
            key_offset: header.key_offset.get(),
            by,
            capacity: header.capacity.get(),
        };
        let is_one = header.magic.get() == MAGIC && header.zero == [0; 41];
        (is_one && shape.makes_sense()).then_some(shape)
    }
}

/// The arguments of PARTITION_WRITE. The records are the payload.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Arguments {
    /// Address of the header, a multiple of 64.
    pub header: U64,
    /// The number of its region within the domain, or [`HOME_REGION`].
    pub region: U16,
    /// Records of partitions below this one are left out.
    pub from_partition: U16,
    /// Zero.
    pub reserved: U32,
}

const _: () = assert!(size_of::<Arguments>() == Arguments::BYTES);
const _: () = assert!(Arguments::BYTES <= crate::ARGUMENT_BYTES_MAX);

impl Arguments {
    /// Length in bytes.
    pub const BYTES: usize = 16;

    /// The partitions lie in the region that the rkey names.
    pub fn home(header: u64) -> Self {
        Self::new(HOME_REGION, header)
    }

    /// They lie in a region that the rkey may follow pointers into.
    pub fn new(region: u16, header: u64) -> Self {
        Arguments {
            header: header.into(),
            region: region.into(),
            from_partition: 0.into(),
            reserved: 0.into(),
        }
    }

    /// Goes on with a payload whose records of partitions below this one are written.
    #[must_use]
    pub fn from_partition(mut self, partition: u16) -> Self {
        self.from_partition = partition.into();
        self
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

/// How far an op came.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Answer {
    rest_from: U16,
    zero: [u8; 6],
    records: U64,
}

const _: () = assert!(size_of::<Answer>() == Answer::BYTES as usize);

impl Answer {
    /// Length in bytes.
    pub const BYTES: u32 = 16;

    pub(super) fn new(rest_from: Option<u16>, records: u64) -> Self {
        let rest_from = rest_from.unwrap_or(ALL).into();
        Answer { rest_from, zero: [0; 6], records: records.into() }
    }

    /// The partition that had no room for the op's records, or too many other writers. Those below
    /// it have theirs; it and those above got none, and another op with the same payload goes on
    /// [from](Arguments::from_partition) there. `None` if all is written.
    pub fn rest_from(&self) -> Option<u16> {
        Some(self.rest_from.get()).filter(|partition| *partition != ALL)
    }

    /// How many records the op has written.
    pub fn records(&self) -> u64 {
        self.records.get()
    }

    /// Reads a reply; `None` if it is none to a PARTITION_WRITE.
    pub fn decode(reply: &[u8]) -> Option<Answer> {
        Answer::read_from_bytes(reply).ok().filter(|answer| answer.zero == [0; 6])
    }
}
