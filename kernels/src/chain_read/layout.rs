//! What a CHAIN_READ says, on the wire.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::kernel::{BadArguments, HOME_REGION};
use crate::version_chain::Link;
use crate::version_chain::layout::HEADER_BYTES;

/// There is a shortcut.
const HAS_SHORTCUT: u16 = 1;

/// The arguments of CHAIN_READ; see the [module](super).
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Arguments {
    /// A [`Link`], or 0: there is none.
    pub cursor: U64,
    /// Address of the shortcut's word, a multiple of 8.
    pub shortcut: U64,
    /// Its region's number within the domain, or [`HOME_REGION`].
    pub shortcut_region: U16,
    /// How many links are followed at most; at least 1.
    pub hops_max: U16,
    /// After how many hops the shortcut is asked.
    pub shortcut_after: U16,
    /// Bit 0: there is a shortcut.
    pub flags: U16,
}

const _: () = assert!(size_of::<Arguments>() == Arguments::BYTES);
const _: () = assert!(Arguments::BYTES <= crate::ARGUMENT_BYTES_MAX);

impl Arguments {
    /// Length in bytes.
    pub const BYTES: usize = 24;
    /// The hops of a walk unless it is given others (start).
    pub const HOPS_MAX: u16 = 256;

    /// Walks from a cursor.
    pub fn from_cursor(cursor: Link) -> Self {
        Arguments {
            cursor: cursor.raw().into(),
            shortcut: 0.into(),
            shortcut_region: HOME_REGION.into(),
            hops_max: Self::HOPS_MAX.into(),
            shortcut_after: 0.into(),
            flags: 0.into(),
        }
    }

    /// Walks from where the shortcut at an address of the home region leads.
    pub fn from_shortcut(address: u64) -> Self {
        Self::from_cursor(Link::NONE).or_shortcut(HOME_REGION, address, 0)
    }

    /// Asks a shortcut after so many hops, or where the cursor's buffer was recycled.
    #[must_use]
    pub fn or_shortcut(self, region: u16, address: u64, after: u16) -> Self {
        Arguments {
            shortcut: address.into(),
            shortcut_region: region.into(),
            shortcut_after: after.into(),
            flags: HAS_SHORTCUT.into(),
            ..self
        }
    }

    /// Follows at most so many links.
    #[must_use]
    pub fn hops_max(self, hops_max: u16) -> Self {
        Arguments { hops_max: hops_max.into(), ..self }
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
        Self::view(bytes).copied()
    }

    /// The same, in place.
    #[inline(always)]
    pub(super) fn view(bytes: &[u8]) -> Result<&Self, BadArguments> {
        Self::ref_from_bytes(bytes)
            .map_err(|_| BadArguments::Length { found: bytes.len(), expected: Self::BYTES })
    }

    /// Whether there is a shortcut.
    ///
    /// # Errors
    /// Flags that nobody knows.
    #[inline]
    pub(super) fn has_shortcut(&self) -> Result<bool, BadArguments> {
        match self.flags.get() {
            0 => Ok(false),
            HAS_SHORTCUT => Ok(true),
            _ => Err(BadArguments::Value { field: "flags" }),
        }
    }
}

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At the latest committed entry.
    Latest,
    /// At a buffer that was recycled: ask the owner for a new cursor.
    Recycled,
}

/// What precedes the entry in a reply.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct ReplyHeader {
    /// 0: latest, 1: recycled.
    pub outcome: u8,
    /// See [`ReplyHeader::PENDING`] and [`ReplyHeader::BY_SHORTCUT`].
    pub flags: u8,
    /// How many links were followed.
    pub hops: U16,
    /// Zero.
    pub reserved: U32,
    /// The link of the entry at which the walk ended.
    pub at: U64,
}

/// Length of a reply's header in bytes.
pub const REPLY_HEADER_BYTES: usize = 16;
const _: () = assert!(size_of::<ReplyHeader>() == REPLY_HEADER_BYTES);

impl ReplyHeader {
    /// An entry follows whose link is not committed.
    pub const PENDING: u8 = 1;
    /// The shortcut led there.
    pub const BY_SHORTCUT: u8 = 2;

    /// The outcome; `None` for a number that is none.
    pub const fn outcome(&self) -> Option<Outcome> {
        match self.outcome {
            0 => Some(Outcome::Latest),
            1 => Some(Outcome::Recycled),
            _ => None,
        }
    }
}

/// Length of the reply for a value of such a length: what its landing place must have.
pub const fn reply_bytes(value_bytes: u32) -> u32 {
    value_bytes.saturating_add((REPLY_HEADER_BYTES + HEADER_BYTES) as u32)
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::kernel::Pointer;

    #[test]
    fn bytes_are_golden() {
        let cursor = Link::new(Pointer { region: 2, address: 64 }, 1).unwrap();
        let arguments = Arguments::from_cursor(cursor).or_shortcut(3, 0x0102, 4).hops_max(0x0506);
        let expected = [0, 0x20, 0, 2, 0, 0, 0, 2, 2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 6, 5, 4, 0, 1, 0];
        assert_eq!(arguments.encode(), expected);
        assert_eq!(Arguments::decode(&expected), Ok(arguments));
        assert!(Arguments::decode(&expected[..23]).is_err());
        let header = ReplyHeader {
            outcome: 1,
            flags: 3,
            hops: 0x0102.into(),
            reserved: 0.into(),
            at: 0x0304.into(),
        };
        assert_eq!(header.as_bytes(), [1, 3, 2, 1, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(reply_bytes(1), 41);
    }
}
