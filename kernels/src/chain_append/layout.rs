//! What a CHAIN_APPEND says, on the wire.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::kernel::{BadArguments, HOME_REGION};
use crate::version_chain::{Link, PointerWord};

bitflags::bitflags! {
    /// How the op goes about it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Flags: u8 {
        /// There is a shortcut.
        const HAS_SHORTCUT = 1;
        /// The walk begins there.
        const SHORTCUT_FIRST = 2;
        /// The link is not committed, and the shortcut is left.
        const UNCOMMITTED = 4;
        /// The payload was written before, and none comes.
        const WRITTEN = 8;
    }
}

/// The arguments of CHAIN_APPEND; see the [module](super). The payload is the fresh entry's
/// [`Image`](crate::version_chain::Image).
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Arguments {
    /// A [`Link`], or 0: begin at the shortcut.
    pub cursor: U64,
    /// The buffer, as a [`Link`] with the version that the entry has.
    pub fresh: U64,
    /// Address of the shortcut's word, a multiple of 8.
    pub shortcut: U64,
    /// Its region's number within the domain, or [`HOME_REGION`].
    pub shortcut_region: U16,
    /// How many links are followed at most; at least 1.
    pub hops_max: u8,
    /// Bit 0: there is a shortcut; bit 1: begin there; bit 2: link without committing, and leave
    /// the shortcut; bit 3: the payload was written before, and none comes.
    pub flags: u8,
}

const _: () = assert!(size_of::<Arguments>() == Arguments::BYTES);
const _: () = assert!(Arguments::BYTES <= crate::ARGUMENT_BYTES_MAX);

impl Arguments {
    /// Length in bytes.
    pub const BYTES: usize = 28;
    /// The hops of a walk unless it is given others (start).
    pub const HOPS_MAX: u8 = 64;

    /// Appends the entry in a fresh buffer to the chain into which a cursor leads.
    pub fn new(cursor: Link, fresh: Link) -> Self {
        Arguments {
            cursor: cursor.raw().into(),
            fresh: fresh.raw().into(),
            shortcut: 0.into(),
            shortcut_region: HOME_REGION.into(),
            hops_max: Self::HOPS_MAX,
            flags: 0,
        }
    }

    /// Points the chain's shortcut to the entry, and takes it if the cursor's buffer was recycled;
    /// `first`: takes it at once.
    #[must_use]
    pub fn with_shortcut(self, region: u16, address: u64, first: bool) -> Self {
        let first = if first { Flags::SHORTCUT_FIRST } else { Flags::empty() };
        Arguments { shortcut: address.into(), shortcut_region: region.into(), ..self }
            .flagged(Flags::HAS_SHORTCUT | first)
    }

    /// Links the entry without committing: nobody reads it yet, and nobody appends behind it.
    #[must_use]
    pub fn uncommitted(self) -> Self {
        self.flagged(Flags::UNCOMMITTED)
    }

    /// Takes the entry for written, and brings no payload: to go on, or to find out what became of
    /// an op whose fate is unknown.
    #[must_use]
    pub fn written(self) -> Self {
        self.flagged(Flags::WRITTEN)
    }

    /// Follows at most so many links.
    #[must_use]
    pub fn hops_max(self, hops_max: u8) -> Self {
        Arguments { hops_max, ..self }
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

    /// How the op goes about it.
    ///
    /// # Errors
    /// Flags that nobody knows.
    #[inline]
    pub(super) fn flags(&self) -> Result<Flags, BadArguments> {
        Flags::from_bits(self.flags).ok_or(BadArguments::Value { field: "flags" })
    }

    fn flagged(self, more: Flags) -> Self {
        Arguments { flags: self.flags | more.bits(), ..self }
    }
}

/// What became of the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// It is the chain's latest, or was for a moment.
    Linked = 0,
    /// Nothing: the walk ended at a buffer that was recycled. Ask the owner for a new cursor.
    Recycled = 1,
    /// Nothing: another writer's link is not committed. Try again, or commit it in its place.
    Pending = 2,
    /// It had been linked before.
    LinkedBefore = 3,
}

/// The reply.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Reply {
    /// An [`Outcome`].
    pub outcome: u8,
    /// Zero.
    pub reserved: u8,
    /// How many links were followed.
    pub hops: U16,
    /// Zero.
    pub reserved_too: U32,
    /// The [`Link`] of the entry behind which it was linked, or at which the walk ended.
    pub at: U64,
    /// The [`PointerWord`] of that entry, as it was left or found.
    pub word: U64,
}

const _: () = assert!(size_of::<Reply>() == Reply::BYTES);

impl Reply {
    /// Length in bytes; a landing place must have those of the arguments, for a continuation.
    pub const BYTES: usize = 24;

    /// Reads a reply; `None` if it is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let reply = Self::read_from_bytes(bytes).ok()?;
        reply.outcome().map(|_| reply)
    }

    /// The outcome; `None` for a number that is none.
    pub const fn outcome(&self) -> Option<Outcome> {
        match self.outcome {
            0 => Some(Outcome::Linked),
            1 => Some(Outcome::Recycled),
            2 => Some(Outcome::Pending),
            3 => Some(Outcome::LinkedBefore),
            _ => None,
        }
    }

    /// The entry behind which it was linked, or at which the walk ended.
    pub const fn at(&self) -> Link {
        Link::from_raw(self.at.get())
    }

    /// That entry's pointer word, as it was left or found.
    pub const fn word(&self) -> PointerWord {
        PointerWord::from_raw(self.word.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Pointer;

    #[test]
    fn bytes_are_golden() {
        let link = |address| Link::new(Pointer { region: 2, address }, 1).unwrap();
        let arguments = Arguments::new(link(64), link(128)).with_shortcut(3, 0x0102, true);
        let arguments = arguments.uncommitted().written().hops_max(9);
        let expected = [
            0, 0x20, 0, 2, 0, 0, 0, 2, 0, 0x20, 0, 4, 0, 0, 0, 2, 2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 9,
            15,
        ];
        assert_eq!(arguments.encode(), expected);
        assert_eq!(Arguments::decode(&expected), Ok(arguments));
        assert!(Arguments::decode(&expected[..24]).is_err());
        let reply = Reply {
            outcome: 2,
            reserved: 0,
            hops: 0x0102.into(),
            reserved_too: 0.into(),
            at: link(64).raw().into(),
            word: 5.into(),
        };
        let bytes = [2, 0, 2, 1, 0, 0, 0, 0, 0, 0x20, 0, 2, 0, 0, 0, 2, 5, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(reply.as_bytes(), bytes);
        assert_eq!(Reply::decode(&bytes), Some(reply));
        assert_eq!((reply.at(), reply.word().version()), (link(64), 2));
        assert_eq!(Reply::decode(&[4; 24]), None, "an outcome that is none");
        assert_eq!(Reply::decode(&bytes[1..]), None);
    }
}
