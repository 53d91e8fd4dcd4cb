//! What a TRAVERSE and its reply say, on the wire.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::kernel::{BadArguments, HOME_REGION, Pointer};

/// The longest element in bytes: one bit of the mask for each unit of 4.
pub const ELEMENT_BYTES_MAX: u16 = 256;

bitflags::bitflags! {
    /// How a structure is made.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Flags: u16 {
        /// Elements point to the next one; without it only the levels are gone down.
        const NEXT = 1;
        /// `value_offset` counts from the field that matched, not from the element's start.
        const RELATIVE = 2;
        /// Pointers carry their region: [`PointerForm::Tagged`](crate::PointerForm::Tagged).
        const TAGGED = 4;
        /// Keys are 4 bytes long instead of 8.
        const SHORT_KEYS = 8;
        /// A match is looked for in inner nodes, too.
        const MATCH_ABOVE = 16;
    }
}

/// When a field fits: how it, on the left, compares with the key of the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Predicate {
    /// The field equals the key.
    Equal = 0,
    /// The field is less than the key.
    Less = 1,
    /// The field is greater than the key.
    Greater = 2,
    /// The field differs from the key.
    NotEqual = 3,
    /// The element lies `key` pointers behind the first; fields mean nothing, the mask is zero.
    AtDepth = 4,
}

impl Predicate {
    /// The predicate of a code.
    #[inline]
    pub(super) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Predicate::Equal,
            1 => Predicate::Less,
            2 => Predicate::Greater,
            3 => Predicate::NotEqual,
            4 => Predicate::AtDepth,
            _ => return None,
        })
    }
}

/// Where the value of a match is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Value {
    /// Nowhere: the reply says which element matched.
    None = 0,
    /// Where the pointer at `value_offset` leads.
    Pointer = 1,
    /// In the element, at `value_offset`: the reply has it from the very copy that matched.
    Within = 2,
}

impl Value {
    /// The value of a code.
    #[inline]
    pub(super) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Value::None,
            1 => Value::Pointer,
            2 => Value::Within,
            _ => return None,
        })
    }
}

/// The arguments of TRAVERSE; see the module for what they mean.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Arguments {
    /// Address of the first element.
    pub start: U64,
    /// What fields are compared with, or the depth.
    pub key: U64,
    /// Bit n: a key begins at byte 4n of the element.
    pub mask: U64,
    /// Length of the value in bytes.
    pub value_length: U32,
    /// How many elements this op may look at; 0: as many as the executor allows.
    pub hops_max: U32,
    /// How many bytes of elements it may fetch; 0: as many as the executor allows.
    pub bytes_max: U32,
    /// How many elements the ops have looked at that this one continues.
    pub hops_before: U32,
    /// The region of the first element and of all that plain pointers lead to, or
    /// [`HOME_REGION`].
    pub region: U16,
    /// The region of the values that plain pointers lead to, or [`HOME_REGION`].
    pub value_region: U16,
    /// Length of an element in bytes, a multiple of 4.
    pub element_bytes: U16,
    /// [`Flags`].
    pub flags: U16,
    /// [`Predicate`].
    pub predicate: u8,
    /// [`Value`].
    pub value: u8,
    /// Place of the value or its pointer, in units of 4 bytes.
    pub value_offset: i8,
    /// Place of the pointer to the next element, in units of 4 bytes from the element's start.
    pub next_offset: u8,
    /// How many levels of inner nodes there are above the elements that are searched.
    pub levels: U16,
    /// The [`Predicate`] by which inner nodes are gone down.
    pub descend: u8,
    /// Place of a child's pointer, in units of 4 bytes from its key.
    pub child_offset: i8,
}

const _: () = assert!(size_of::<Arguments>() == Arguments::BYTES);
const _: () = assert!(Arguments::BYTES <= crate::ARGUMENT_BYTES_MAX);

impl Arguments {
    /// Length in bytes.
    pub const BYTES: usize = 56;

    /// Searches StRoM's linked list: elements {key, next, value pointer} of 24 bytes.
    ///
    /// ```
    /// use nic_kernels::traverse::{Arguments, Predicate};
    ///
    /// // The first element of the list at 0x40 whose key is above 10, at most 100 elements far.
    /// let arguments = Arguments {
    ///     predicate: Predicate::Greater as u8,
    ///     ..Arguments::list(0x40, 10, 256).hops(100)
    /// };
    /// assert_eq!(arguments.encode().len(), Arguments::BYTES);
    /// ```
    pub fn list(start: u64, key: u64, value_length: u32) -> Self {
        Arguments {
            start: start.into(),
            key: key.into(),
            mask: 1.into(),
            value_length: value_length.into(),
            hops_max: 0.into(),
            bytes_max: 0.into(),
            hops_before: 0.into(),
            region: HOME_REGION.into(),
            value_region: HOME_REGION.into(),
            element_bytes: 24.into(),
            flags: Flags::NEXT.bits().into(),
            predicate: Predicate::Equal as u8,
            value: Value::Pointer as u8,
            value_offset: 4,
            next_offset: 2,
            levels: 0.into(),
            descend: 0,
            child_offset: 0,
        }
    }

    /// Searches a hash bucket of 64 bytes and those chained to it: three times {key, value
    /// pointer}, then the pointer to the next bucket.
    pub fn bucket(start: u64, key: u64, value_length: u32) -> Self {
        Arguments {
            mask: 0b1_0001_0001.into(),
            element_bytes: 64.into(),
            flags: (Flags::NEXT | Flags::RELATIVE).bits().into(),
            value_offset: 2,
            next_offset: 12,
            ..Self::list(start, key, value_length)
        }
    }

    /// Searches a B-tree of nodes with `keys_per_node` keys (1 to 15), whose leaves lie `levels`
    /// below the root: keys in ascending order, unused ones `u64::MAX`; then, in inner nodes, as
    /// many pointers to children and one more, and in leaves as many to values and one to the next
    /// leaf. A child holds the keys that are not below the key before it.
    pub fn tree(root: u64, levels: u16, keys_per_node: u8, key: u64, value_length: u32) -> Self {
        let keys = keys_per_node.min(15);
        // At most 15 of 2 units each.
        let behind_keys = 2 * keys as i8;
        Arguments {
            mask: (0..u32::from(keys)).fold(0u64, |mask, place| mask | 1 << (2 * place)).into(),
            element_bytes: (8 * (2 * u16::from(keys) + 1)).into(),
            flags: Flags::RELATIVE.bits().into(),
            value_offset: behind_keys,
            next_offset: 4 * keys,
            levels: levels.into(),
            descend: Predicate::Greater as u8,
            child_offset: behind_keys,
            ..Self::list(root, key, value_length)
        }
    }

    /// With a bound on the elements that it looks at.
    #[must_use]
    pub fn hops(self, most: u32) -> Self {
        Arguments { hops_max: most.into(), ..self }
    }

    /// With further flags.
    #[must_use]
    pub fn with(self, flags: Flags) -> Self {
        Arguments { flags: (self.flags.get() | flags.bits()).into(), ..self }
    }

    /// How much reply there is at most: what its landing place must have.
    #[inline]
    pub fn reply_bytes(&self) -> u32 {
        let found = (ReplyHeader::BYTES as u32).saturating_add(self.value_length.get());
        found.max(Self::BYTES as u32)
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

    /// The same where they are.
    #[inline]
    pub(super) fn view(bytes: &[u8]) -> Result<&Self, BadArguments> {
        Self::ref_from_bytes(bytes)
            .map_err(|_| BadArguments::Length { found: bytes.len(), expected: Self::BYTES })
    }
}

/// What precedes the value in a reply.
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct ReplyHeader {
    /// Elements looked at, those of the ops before included.
    pub hops: U32,
    /// 1 if there was a match.
    pub is_found: u8,
    /// Which unit of the element matched.
    pub field: u8,
    /// The region of the element.
    pub element_region: u8,
    /// The region of the value.
    pub value_region: u8,
    /// Address of the match, or else of the last element.
    pub element: U64,
    /// Address of the value; zero if there is none.
    pub pointer: U64,
}

const _: () = assert!(size_of::<ReplyHeader>() == ReplyHeader::BYTES);

/// A match, as a reply tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The byte of the element at which the field that matched begins.
    pub field: u16,
    /// The element.
    pub element: Pointer,
    /// The value.
    pub value: Pointer,
}

impl ReplyHeader {
    /// Length in bytes; the value follows.
    pub const BYTES: usize = 24;

    /// The match, if there was one.
    pub fn found(&self) -> Option<Found> {
        let (element, value) = (self.element.get(), self.pointer.get());
        (self.is_found == 1).then_some(Found {
            field: u16::from(self.field) * 4,
            element: Pointer { region: self.element_region, address: element },
            value: Pointer { region: self.value_region, address: value },
        })
    }

    /// Parts a reply into its header and the value.
    pub fn parse(reply: &[u8]) -> Option<(Self, &[u8])> {
        Self::read_from_prefix(reply).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_golden() {
        let arguments = Arguments {
            hops_max: 0x0100.into(),
            bytes_max: 0x0200.into(),
            hops_before: 3.into(),
            region: 4.into(),
            value: Value::Within as u8,
            value_offset: -2,
            ..Arguments::tree(0x1122_3344_5566_7788, 2, 3, 0xabcd, 0x1000).with(Flags::TAGGED)
        };
        let expected = [
            0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xcd, 0xab, 0, 0, 0, 0, 0, 0, //
            0b1_0101, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 1, 0, 0, //
            0, 2, 0, 0, 3, 0, 0, 0, 4, 0, 0xff, 0xff, 56, 0, 6, 0, //
            0, 2, 0xfe, 12, 2, 0, 2, 6,
        ];
        assert_eq!(arguments.encode(), expected);
        assert_eq!(Arguments::decode(&expected), Ok(arguments));
        assert_eq!(
            Arguments::decode(&expected[1..]),
            Err(BadArguments::Length { found: 55, expected: 56 })
        );
        let reply =
            [9, 0, 0, 0, 1, 4, 2, 3, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, b'v'];
        let (header, value) = ReplyHeader::parse(&reply).unwrap();
        let found = Found {
            field: 16,
            element: Pointer { region: 2, address: 0x40 },
            value: Pointer { region: 3, address: 0x80 },
        };
        assert_eq!((header.hops.get(), header.found(), value), (9, Some(found), &b"v"[..]));
        assert_eq!(ReplyHeader::parse(&reply[..23]), None);
    }
}
