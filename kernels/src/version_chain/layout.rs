//! The chain's bytes. All little-endian.
//!
//! ```text
//! a buffer, at a multiple of 64 in one of the chain's regions; unit 0 of a region is never one
//!   0   pointer word
//!   8   checksum u64: XXH3-64, seeded with the entry's version, over length, reserved and value
//!   16  length u32, of the value
//!   20  reserved u32, zero
//!   24  value
//! the pointer word, from its low end
//!   bit  0       the link to the next entry is not committed
//!   bits 1-12    version of this entry: which of the buffer's successive lives it is
//!   bits 13-24   version of the next entry
//!   bits 25-55   where the next entry's buffer begins, in units of 64 bytes; 0: there is none
//!   bits 56-63   number of the next entry's region
//! a link (a cursor, a shortcut): a pointer word of which only the bits of the next entry are used
//! ```

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::kernel::Pointer;

/// Buffers begin at multiples of this many bytes.
pub const UNIT_BYTES: u64 = 64;
/// Length of what precedes an entry's value in its buffer, in bytes.
pub const HEADER_BYTES: usize = 24;
/// Versions wrap here: a buffer's life and its 4096th successor look the same.
pub const VERSIONS: u16 = 1 << 12;
/// The first address that no link can name.
pub const ADDRESS_LIMIT: u64 = UNIT_BYTES << 31;

const UNCOMMITTED: u64 = 1;
const ENTRY_SHIFT: u32 = 1;
const NEXT_SHIFT: u32 = 13;
const UNIT_SHIFT: u32 = 25;
const REGION_SHIFT: u32 = 56;
const VERSION_MASK: u64 = VERSIONS as u64 - 1;
const UNIT_MASK: u64 = (1 << 31) - 1;
/// The bits that name the next entry.
const NEXT_MASK: u64 = u64::MAX << NEXT_SHIFT;

/// Names one entry: a buffer, and which of its lives. What an initiator caches of a chain (Clover's
/// cursor), and what a shortcut holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Link(u64);

impl Link {
    /// No entry.
    pub const NONE: Link = Link(0);

    /// The entry of a version in the buffer at an address; `None` for an address that is no
    /// buffer's, or a version beyond [`VERSIONS`].
    pub const fn new(at: Pointer, version: u16) -> Option<Self> {
        let unit = at.address / UNIT_BYTES;
        let is_unit = at.address.is_multiple_of(UNIT_BYTES) && unit != 0 && unit <= UNIT_MASK;
        if !is_unit || version >= VERSIONS {
            return None;
        }
        let place = (at.region as u64) << REGION_SHIFT | unit << UNIT_SHIFT;
        Some(Link(place | (version as u64) << NEXT_SHIFT))
    }

    /// The link that a word names; whatever names no buffer is [`Link::NONE`].
    #[inline]
    pub const fn from_raw(raw: u64) -> Self {
        if raw >> UNIT_SHIFT & UNIT_MASK == 0 { Link::NONE } else { Link(raw & NEXT_MASK) }
    }

    /// The word.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Whether it names nothing.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Where the buffer begins.
    #[inline]
    pub const fn pointer(self) -> Pointer {
        Pointer {
            region: (self.0 >> REGION_SHIFT) as u8,
            address: (self.0 >> UNIT_SHIFT & UNIT_MASK) * UNIT_BYTES,
        }
    }

    /// Which of the buffer's lives.
    #[inline]
    pub const fn version(self) -> u16 {
        (self.0 >> NEXT_SHIFT & VERSION_MASK) as u16
    }

    /// The same buffer's next life.
    pub const fn reborn(self) -> Self {
        let version = (self.0 >> NEXT_SHIFT).wrapping_add(1) & VERSION_MASK;
        Link(self.0 & !(VERSION_MASK << NEXT_SHIFT) | version << NEXT_SHIFT)
    }
}

/// The word at a buffer's start: the entry's own version, and the next entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointerWord(u64);

impl PointerWord {
    /// The word of an entry that nothing follows.
    #[inline]
    pub const fn last(version: u16) -> Self {
        PointerWord((version as u64 & VERSION_MASK) << ENTRY_SHIFT)
    }

    /// The word as it was read.
    #[inline]
    pub const fn from_raw(raw: u64) -> Self {
        PointerWord(raw)
    }

    /// The word.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The entry's own version.
    #[inline]
    pub const fn version(self) -> u16 {
        (self.0 >> ENTRY_SHIFT & VERSION_MASK) as u16
    }

    /// What follows, be it committed or not.
    #[inline]
    pub const fn next(self) -> Link {
        Link::from_raw(self.0)
    }

    /// Whether an entry follows whose link is not committed yet.
    #[inline]
    pub const fn is_pending(self) -> bool {
        self.0 & UNCOMMITTED != 0 && !self.next().is_none()
    }

    /// Whether this is the latest entry that is committed.
    #[inline]
    pub const fn is_latest(self) -> bool {
        self.next().is_none() || self.0 & UNCOMMITTED != 0
    }

    /// The same entry, followed by another.
    #[inline]
    pub const fn followed_by(self, next: Link, committed: bool) -> Self {
        let own = self.0 & (VERSION_MASK << ENTRY_SHIFT);
        PointerWord(own | next.raw() | if committed { 0 } else { UNCOMMITTED })
    }

    /// The same with its link committed.
    #[inline]
    pub const fn committed(self) -> Self {
        PointerWord(self.0 & !UNCOMMITTED)
    }
}

/// What precedes an entry's value.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct EntryHeader {
    /// A [`PointerWord`].
    pub word: U64,
    /// XXH3-64, seeded with the version, over all that follows.
    pub checksum: U64,
    /// The value's length in bytes.
    pub length: U32,
    /// Zero.
    pub reserved: U32,
}

const _: () = assert!(size_of::<EntryHeader>() == HEADER_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_golden() {
        let at = Pointer { region: 0xab, address: 0x1234_5678 * 64 };
        let link = Link::new(at, 0x9cd).unwrap();
        assert_eq!(link.raw(), 0xab << 56 | 0x1234_5678 << 25 | 0x9cd << 13);
        assert_eq!((link.pointer(), link.version()), (at, 0x9cd));
        let word = PointerWord::last(0xfff).followed_by(link, false);
        assert_eq!(word.raw(), link.raw() | 0xfff << 1 | 1);
        assert_eq!((word.version(), word.next()), (0xfff, link));
        assert!(word.is_pending() && word.is_latest());
        let word = word.followed_by(link, true);
        assert!(!word.is_pending() && !word.is_latest());
        assert!(PointerWord::last(7).is_latest() && !PointerWord::last(7).is_pending());
    }

    #[test]
    fn what_is_no_buffer_has_no_link() {
        let link = |address, version| Link::new(Pointer { region: 1, address }, version);
        assert_eq!(link(0, 1), None);
        assert_eq!(link(65, 1), None);
        assert_eq!(link(64, VERSIONS), None);
        assert_eq!(link(ADDRESS_LIMIT, 1), None);
        assert!(link(ADDRESS_LIMIT - 64, 1).is_some());
        assert_eq!(Link::from_raw(0xff << 56 | 0x1fff), Link::NONE);
        let last = link(64, VERSIONS - 1).unwrap();
        assert_eq!(last.reborn(), link(64, 0).unwrap(), "versions wrap");
    }
}
