//! What the memory of a target holds: a header, then an area for each kind of op.
//!
//! ```text
//! header 4 KiB | words: atomics, a cache line each | writes | structures | data
//! ```
//! Structures ([`super::structures`]) and data are read and never written. Initiators find all of it out from the header and the region's length, and claim what they write
//! to by FETCH_ADD, so that several may run at the same target.

use std::ops::Range;

use anyhow::Result;
use nic_host::RacyMem;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::pattern::Pattern;

/// The shortest region in bytes.
pub const REGION_BYTES_MIN: u64 = 1 << 20;
/// What areas are multiples of, in bytes.
const PAGE_BYTES: u64 = 4096;
/// Each atomic has a cache line to itself, and each piece to write begins one, in bytes.
pub const LINE_BYTES: u64 = 64;
/// With this the header begins; the last digit is the layout's version.
const MAGIC: [u8; 8] = *b"nicbnch2";
/// The number of the pattern in the data area.
const DATA: u64 = 0xda7a;

/// The first bytes of the memory.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Header {
    magic: [u8; 8],
    /// Keys in the table beside the memory.
    entries: U64,
    /// The length of each value in bytes.
    value_bytes: U64,
    /// The number of the memory's region within its domain.
    region: U64,
}

impl Header {
    /// Length in bytes.
    pub const BYTES: u64 = size_of::<Header>() as u64;

    /// Of the region of that number, beside a table of so many keys.
    pub fn new(region: u8, entries: u64, value_bytes: u64) -> Self {
        let region = u64::from(region).into();
        Header { magic: MAGIC, entries: entries.into(), value_bytes: value_bytes.into(), region }
    }

    /// Reads it; `None` if it is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header = Header::read_from_bytes(bytes).ok()?;
        (header.magic == MAGIC).then_some(header)
    }

    /// Keys in the table.
    pub fn entries(&self) -> u64 {
        self.entries.get()
    }

    /// The length of each value in bytes.
    pub fn value_bytes(&self) -> u64 {
        self.value_bytes.get()
    }

    /// The number of the memory's region within its domain.
    pub fn region(&self) -> u8 {
        // As it was put in.
        self.region.get() as u8
    }
}

/// An area that initiators claim parts of: the word that counts what was claimed, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The address of the counting word.
    pub counter: u64,
    /// The area.
    pub range: Range<u64>,
}

/// Where everything is, relative to the region's base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Areas {
    /// For atomics.
    pub words: Claimed,
    /// For writes.
    pub writes: Claimed,
    /// For kernels.
    pub structures: Range<u64>,
    /// For reads.
    pub data: Range<u64>,
}

impl Areas {
    /// Of a region of this length; `None` if it is too short.
    pub fn of(length: u64) -> Option<Self> {
        if length < REGION_BYTES_MIN {
            return None;
        }
        let whole = |bytes: u64| bytes / PAGE_BYTES * PAGE_BYTES;
        let words = PAGE_BYTES..PAGE_BYTES + whole(length / 8);
        let writes = words.end..words.end + whole(length / 8 * 3);
        let structures = writes.end..writes.end + whole(length / 8);
        let data = structures.end..whole(length);
        Some(Areas {
            words: Claimed { counter: LINE_BYTES, range: words },
            writes: Claimed { counter: 2 * LINE_BYTES, range: writes },
            structures,
            data,
        })
    }

    /// The shortest region whose area for writes has so many bytes.
    pub fn region_for_writes(bytes: u64) -> u64 {
        let least = bytes.saturating_mul(8) / 3;
        least.saturating_add(8 * PAGE_BYTES).max(REGION_BYTES_MIN)
    }

    /// The shortest region whose area for reads has so many bytes.
    pub fn region_for_data(bytes: u64) -> u64 {
        let least = bytes.saturating_mul(8) / 3;
        least.saturating_add(8 * PAGE_BYTES).max(REGION_BYTES_MIN)
    }

    /// The shortest region whose area for atomics has so many bytes.
    pub fn region_for_words(bytes: u64) -> u64 {
        bytes.saturating_add(PAGE_BYTES).saturating_mul(8).max(REGION_BYTES_MIN)
    }

    /// What stands at an offset of the data area.
    #[inline]
    pub fn data_pattern(offset: u64) -> Pattern {
        Pattern::of(DATA).after(offset / super::pattern::WORD_BYTES as u64)
    }

    /// Fills the data area, and writes the header last.
    pub fn fill(&self, memory: &RacyMem, header: &Header) -> Result<()> {
        let mut page = [0; PAGE_BYTES as usize];
        for offset in (0..self.data.end - self.data.start).step_by(page.len()) {
            Areas::data_pattern(offset).fill(&mut page);
            memory.write(self.data.start + offset, &page)?;
        }
        Ok(memory.write(0, header.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_lie_side_by_side_within_the_region() {
        for length in [REGION_BYTES_MIN, (1 << 20) + 1, 3 << 20, (1 << 30) + 12_345] {
            let areas = Areas::of(length).unwrap();
            let Areas { words, writes, structures, data } = &areas;
            assert_eq!(words.range.start, PAGE_BYTES);
            assert_eq!(words.range.end, writes.range.start);
            assert_eq!((writes.range.end, structures.end), (structures.start, data.start));
            assert!(data.start < data.end && data.end <= length);
        }
        assert_eq!(Areas::of(REGION_BYTES_MIN - 1), None);
    }

    #[test]
    fn a_region_made_for_an_area_has_it() {
        for bytes in [64, 4096, 100_000, 1 << 20, 123_456_789] {
            let length = |range: Range<u64>| range.end - range.start;
            let areas = Areas::of(Areas::region_for_writes(bytes)).unwrap();
            assert!(length(areas.writes.range) + PAGE_BYTES > bytes, "{bytes}");
            let areas = Areas::of(Areas::region_for_data(bytes)).unwrap();
            assert!(length(areas.data) >= bytes, "{bytes}");
            let areas = Areas::of(Areas::region_for_words(bytes)).unwrap();
            assert!(length(areas.words.range) >= bytes, "{bytes}");
        }
    }

    #[test]
    fn the_data_area_is_filled_and_the_header_found() {
        let memory = RacyMem::allocate(REGION_BYTES_MIN);
        let areas = Areas::of(REGION_BYTES_MIN).unwrap();
        areas.fill(&memory, &Header::new(3, 5, 64)).unwrap();
        let mut bytes = vec![0; 4096];
        memory.read(areas.data.start + 8192, &mut bytes).unwrap();
        assert!(Areas::data_pattern(8192).is(&bytes));
        memory.read(0, &mut bytes[..Header::BYTES as usize]).unwrap();
        let header = Header::parse(&bytes[..Header::BYTES as usize]).unwrap();
        assert_eq!((header.region(), header.entries(), header.value_bytes()), (3, 5, 64));
        assert!(Header::parse(&[0; Header::BYTES as usize]).is_none());
    }
}
