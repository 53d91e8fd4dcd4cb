//! What an initiator makes of a header and counters that it has read.

use super::layout::{COUNTERS_BYTES, HEADER_BYTES, HeaderLayout, Shape};

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{length} bytes are no header of partitions; format one, and read 64 bytes of it or more")]
pub struct BadHeader {
    /// How many there are.
    pub length: usize,
}

/// A partition's counters, in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// How many have a place.
    pub reserved: u64,
    /// How many are there.
    pub written: u64,
}

impl Counters {
    /// The records, all of which are whole; `None` while some are on their way.
    pub fn whole(&self) -> Option<u64> {
        (self.reserved == self.written).then_some(self.written)
    }

    /// Of bytes that begin with the header, the counters of a partition; `None` if they are not
    /// among them.
    pub fn parse(bytes: &[u8], partition: u16) -> Option<Counters> {
        let at = HEADER_BYTES as usize + COUNTERS_BYTES as usize * usize::from(partition);
        let (words, _) = bytes.get(at..)?.as_chunks::<8>();
        let [reserved, written, ..] = words else { return None };
        let number = |word: &[u8; 8]| u64::from_le_bytes(*word);
        Some(Counters { reserved: number(reserved), written: number(written) })
    }
}

impl Shape {
    /// What a header says; bytes behind it are ignored.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(header: &[u8]) -> Result<Shape, BadHeader> {
        HeaderLayout::shape(header).ok_or(BadHeader { length: header.len() })
    }

    /// How many bytes header and counters have together.
    pub fn counters_bytes(&self) -> u32 {
        // At most 64 + 256 * 16.
        self.counters(self.count()) as u32
    }
}
