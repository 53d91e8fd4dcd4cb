//! What lies where in the memory that one side shares with the other.
//!
//! ```text
//!   0 magic u64 (written last) | version u32 | frames u32 | entries u32 | stride u32
//!  64 produced u32 | consumed u32 | sleeping u32         all written by the owner alone
//! 128 entries x { frame u32, length u32 }                packets from the owner to its peer
//!   . frames x stride bytes, from the next page on
//! ```
//! The three words share one cache line on purpose: the peer polls `produced` anyway, and an
//! owner that gives frames back and sends in one turn touches the line once. `consumed` and
//! `sleeping` belong to the other direction, in which the owner receives.

use nic_shm::RacyMem;

use super::RingError;
use crate::{FRAME_STRIDE, PoolConfig};

/// Says that a memory is one side of a ring port.
const MAGIC: u64 = u64::from_le_bytes(*b"nic-ring");
/// The layout above, and the offer of it with its bell.
pub(super) const VERSION: u32 = 2;

/// Where the owner's words lie.
pub(super) const PRODUCED_AT: u64 = 64;
pub(super) const CONSUMED_AT: u64 = 68;
pub(super) const SLEEPING_AT: u64 = 72;
const ENTRIES_AT: u64 = 128;
/// Bytes of one entry.
pub(super) const ENTRY_BYTES: u64 = 8;
/// Bytes of the header.
const HEADER_BYTES: usize = 24;
/// The frames begin on a page, so that a frame crosses as few as it can.
const PAGE_BYTES: u64 = 4096;
/// The most frames or entries that a side may have: 132 MiB, of which a peer with nothing behind
/// its frames could make us pay for the pages.
pub(super) const COUNT_MAX: u32 = 1 << 16;
/// How much longer than it needs to be a peer's memory may be, in bytes: for its larger pages.
const EXCESS_BYTES_MAX: u64 = 64 << 10;

/// The sizes that the rest follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) frames: u32,
    /// A power of two.
    pub(super) entries: u32,
}

impl Geometry {
    /// Room for all frames of a pool to be on their way at once.
    pub(super) fn for_pool(pool: &PoolConfig) -> Result<Self, RingError> {
        let frames = pool.frames;
        if !(1..=COUNT_MAX).contains(&frames) {
            return Err(RingError::Frames { found: frames });
        }
        Ok(Geometry { frames, entries: frames.next_power_of_two() })
    }

    const fn frames_at(&self) -> u64 {
        (ENTRIES_AT + self.entries as u64 * ENTRY_BYTES).next_multiple_of(PAGE_BYTES)
    }

    /// Bytes of the whole memory.
    pub(super) const fn bytes(&self) -> u64 {
        self.frames_at() + self.frames as u64 * FRAME_STRIDE as u64
    }

    /// The memory of the entries.
    pub(super) fn entries_of(&self, memory: &RacyMem) -> Result<RacyMem, RingError> {
        Ok(memory.slice(ENTRIES_AT, u64::from(self.entries) * ENTRY_BYTES)?)
    }

    /// The memory of the frames.
    pub(super) fn frames_of(&self, memory: &RacyMem) -> Result<RacyMem, RingError> {
        Ok(memory.slice(self.frames_at(), u64::from(self.frames) * FRAME_STRIDE as u64)?)
    }

    /// Writes the header, the magic last.
    pub(super) fn write(&self, memory: &RacyMem) -> Result<(), RingError> {
        let mut header = [0; HEADER_BYTES - 8];
        header[0..4].copy_from_slice(&VERSION.to_le_bytes());
        header[4..8].copy_from_slice(&self.frames.to_le_bytes());
        header[8..12].copy_from_slice(&self.entries.to_le_bytes());
        header[12..16].copy_from_slice(&(FRAME_STRIDE as u32).to_le_bytes());
        memory.write(8, &header)?;
        memory.write_release_tail(0, &MAGIC.to_le_bytes())?;
        Ok(())
    }

    /// Reads and judges a peer's header, from one private copy.
    pub(super) fn read(memory: &RacyMem) -> Result<Self, RingError> {
        let header: [u8; HEADER_BYTES] = memory.read_array(0)?;
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let magic = u64::from(word(0)) | u64::from(word(4)) << 32;
        if magic != MAGIC {
            return Err(RingError::NotRing { found: magic });
        }
        let version = word(8);
        if version != VERSION {
            return Err(RingError::Version { found: version });
        }
        let (frames, entries, stride) = (word(12), word(16), word(20));
        let plausible = (1..=COUNT_MAX).contains(&frames)
            && (1..=COUNT_MAX).contains(&entries)
            && entries.is_power_of_two()
            && stride == FRAME_STRIDE as u32;
        let geometry = Geometry { frames, entries };
        let fits = |bytes: u64| (bytes..bytes + EXCESS_BYTES_MAX).contains(&memory.len());
        if !plausible || !fits(geometry.bytes()) {
            return Err(RingError::Geometry { frames, entries, stride, bytes: memory.len() });
        }
        Ok(geometry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(geometry: Geometry) -> RacyMem {
        let memory = RacyMem::allocate(geometry.bytes());
        geometry.write(&memory).unwrap();
        memory
    }

    #[test]
    fn a_header_survives_and_its_parts_do_not_overlap() {
        for frames in [8, 100, 4096] {
            let geometry = Geometry::for_pool(&PoolConfig::with_frames(frames)).unwrap();
            let memory = written(geometry);
            assert_eq!(Geometry::read(&memory).unwrap(), geometry);
            let entries = geometry.entries_of(&memory).unwrap();
            let frames = geometry.frames_of(&memory).unwrap();
            let end = entries.as_ptr().wrapping_add(entries.len() as usize);
            assert!(end <= frames.as_ptr());
            assert_eq!(frames.len(), u64::from(geometry.frames) * FRAME_STRIDE as u64);
        }
    }

    #[test]
    fn a_header_that_lies_is_refused() {
        let geometry = Geometry { frames: 16, entries: 16 };
        let lie = |at: u64, value: u32| {
            let memory = written(geometry);
            memory.write(at, &value.to_le_bytes()).unwrap();
            Geometry::read(&memory).unwrap_err()
        };
        assert!(matches!(lie(0, 7), RingError::NotRing { .. }));
        assert!(matches!(lie(8, 9), RingError::Version { found: 9 }));
        let memory = RacyMem::allocate(geometry.bytes() + EXCESS_BYTES_MAX);
        geometry.write(&memory).unwrap();
        assert!(matches!(Geometry::read(&memory), Err(RingError::Geometry { .. })));
        let too_many = Geometry::for_pool(&PoolConfig::with_frames(COUNT_MAX + 1));
        assert!(matches!(too_many, Err(RingError::Frames { .. })));
        for (at, value) in [
            (12, 0),
            (12, 17),
            (12, u32::MAX),
            (16, 0),
            (16, 15),
            (16, 1 << 20),
            (16, 1 << 31),
            (20, 2048),
        ] {
            assert!(matches!(lie(at, value), RingError::Geometry { .. }), "{value} at {at}");
        }
    }
}
