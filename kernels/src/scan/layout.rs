//! What a SCAN says, on the wire.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::kernel::{BadArguments, HOME_REGION};
use crate::{FETCH_BYTES_MAX, GATHER_BYTES_MAX};

/// The longest record in bytes.
pub const RECORD_BYTES_MAX: u16 = FETCH_BYTES_MAX as u16;
/// The longest part of a record that is answered with, in bytes: one has room in a reply beside a
/// continuation.
pub const PART_BYTES_MAX: u16 = (GATHER_BYTES_MAX - Arguments::BYTES - 4) as u16;

/// A number in a record, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where in the record it begins.
    pub offset: u16,
    /// 1, 2, 4 or 8 bytes.
    pub width: u8,
    /// Whether it is signed.
    pub signed: bool,
}

impl Field {
    /// An unsigned number.
    pub const fn unsigned(offset: u16, width: u8) -> Self {
        Field { offset, width, signed: false }
    }

    /// A signed number.
    pub const fn signed(offset: u16, width: u8) -> Self {
        Field { offset, width, signed: true }
    }

    /// The field's value in a record; zero if it is not within.
    #[inline]
    pub(super) fn of(self, record: &[u8]) -> i128 {
        let (offset, width) = (usize::from(self.offset), usize::from(self.width));
        let mut word = [0; 8];
        if let (Some(bytes), Some(place)) =
            (record.get(offset..offset + width), word.get_mut(..width))
        {
            place.copy_from_slice(bytes);
        }
        let word = u64::from_le_bytes(word);
        if !self.signed {
            return i128::from(word);
        }
        let unused = 64 - 8 * u32::from(self.width.clamp(1, 8));
        i128::from(((word << unused) as i64) >> unused)
    }
}

/// How a field is compared: it stands on the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Comparison {
    /// All records match.
    Always = 0,
    /// Equal.
    Equal = 1,
    /// Not equal.
    NotEqual = 2,
    /// Less.
    Less = 3,
    /// Less or equal.
    LessOrEqual = 4,
    /// Greater.
    Greater = 5,
    /// Greater or equal.
    GreaterOrEqual = 6,
}

impl Comparison {
    pub(super) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Comparison::Always,
            1 => Comparison::Equal,
            2 => Comparison::NotEqual,
            3 => Comparison::Less,
            4 => Comparison::LessOrEqual,
            5 => Comparison::Greater,
            6 => Comparison::GreaterOrEqual,
            _ => return None,
        })
    }

    #[inline]
    pub(super) fn holds(self, left: i128, right: i128) -> bool {
        match self {
            Comparison::Always => true,
            Comparison::Equal => left == right,
            Comparison::NotEqual => left != right,
            Comparison::Less => left < right,
            Comparison::LessOrEqual => left <= right,
            Comparison::Greater => left > right,
            Comparison::GreaterOrEqual => left >= right,
        }
    }
}

/// What a scan answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// How many records match.
    Count = 0,
    /// The sum of a field of theirs.
    Sum = 1,
    /// Its least value.
    Least = 2,
    /// Its greatest value.
    Greatest = 3,
    /// A part of each.
    Rows = 4,
}

impl Kind {
    pub(super) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Kind::Count,
            1 => Kind::Sum,
            2 => Kind::Least,
            3 => Kind::Greatest,
            4 => Kind::Rows,
            _ => return None,
        })
    }
}

const FIELD_SIGNED: u8 = 1;
const PART_SIGNED: u8 = 2;

/// The arguments of SCAN; see the [module](super).
#[derive(
    Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Arguments {
    /// Address of the first record.
    pub address: U64,
    /// What the predicate compares with.
    pub value: U64,
    /// How many records.
    pub count: U32,
    /// Their region's number within the domain, or [`HOME_REGION`].
    pub region: U16,
    /// Length of a record.
    pub record_bytes: U16,
    /// Where in a record the compared field begins.
    pub field_offset: U16,
    /// Its width in bytes.
    pub field_width: u8,
    /// A [`Comparison`].
    pub comparison: u8,
    /// Where in a record the part begins that is answered with.
    pub part_offset: U16,
    /// Its length in bytes.
    pub part_length: U16,
    /// A [`Kind`].
    pub answer: u8,
    /// Bit 0: the field is signed; bit 1: the part is.
    pub signed: u8,
    /// Zero.
    pub reserved: U16,
}

const _: () = assert!(size_of::<Arguments>() == Arguments::BYTES);
const _: () = assert!(Arguments::BYTES <= crate::ARGUMENT_BYTES_MAX);

impl Arguments {
    /// Length in bytes.
    pub const BYTES: usize = 36;

    /// Counts records of the home region: refine it by the other methods.
    pub fn home(address: u64, record_bytes: u16, count: u32) -> Self {
        Self::new(HOME_REGION, address, record_bytes, count)
    }

    /// Counts records of a region that the rkey may follow pointers into.
    pub fn new(region: u16, address: u64, record_bytes: u16, count: u32) -> Self {
        Arguments {
            address: address.into(),
            value: 0.into(),
            count: count.into(),
            region: region.into(),
            record_bytes: record_bytes.into(),
            field_offset: 0.into(),
            field_width: 0,
            comparison: Comparison::Always as u8,
            part_offset: 0.into(),
            part_length: 0.into(),
            answer: Kind::Count as u8,
            signed: 0,
            reserved: 0.into(),
        }
    }

    /// Only records whose field compares so with a value; for a signed field, the value is that of
    /// an `i64`.
    #[must_use]
    pub fn only(self, field: Field, comparison: Comparison, value: u64) -> Self {
        Arguments {
            value: value.into(),
            field_offset: field.offset.into(),
            field_width: field.width,
            comparison: comparison as u8,
            signed: self.signed & !FIELD_SIGNED | if field.signed { FIELD_SIGNED } else { 0 },
            ..self
        }
    }

    /// The sum of a field.
    #[must_use]
    pub fn sum(self, field: Field) -> Self {
        self.number(Kind::Sum, field)
    }

    /// The least value of a field.
    #[must_use]
    pub fn least(self, field: Field) -> Self {
        self.number(Kind::Least, field)
    }

    /// The greatest value of a field.
    #[must_use]
    pub fn greatest(self, field: Field) -> Self {
        self.number(Kind::Greatest, field)
    }

    /// A part of each record, of at most [`PART_BYTES_MAX`] bytes.
    #[must_use]
    pub fn rows(self, part_offset: u16, part_length: u16) -> Self {
        Arguments {
            part_offset: part_offset.into(),
            part_length: part_length.into(),
            answer: Kind::Rows as u8,
            ..self
        }
    }

    fn number(self, kind: Kind, field: Field) -> Self {
        Arguments {
            part_offset: field.offset.into(),
            part_length: u16::from(field.width).into(),
            answer: kind as u8,
            signed: self.signed & !PART_SIGNED | if field.signed { PART_SIGNED } else { 0 },
            ..self
        }
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

    /// What is compared; `None` if all records match.
    pub(super) fn field(&self) -> Result<(Field, Comparison), BadArguments> {
        let comparison = Comparison::from_code(self.comparison)
            .ok_or(BadArguments::Value { field: "comparison" })?;
        let field = Field {
            offset: self.field_offset.get(),
            width: self.field_width,
            signed: self.signed & FIELD_SIGNED != 0,
        };
        if comparison != Comparison::Always {
            self.check_number(field, "field_width")?;
        }
        Ok((field, comparison))
    }

    /// What is answered with.
    pub(super) fn part(&self) -> Result<(Kind, Field), BadArguments> {
        let kind = Kind::from_code(self.answer).ok_or(BadArguments::Value { field: "answer" })?;
        let length = self.part_length.get();
        let part = Field {
            offset: self.part_offset.get(),
            // Of the longer ones only rows are taken, which have no width.
            width: length.min(255) as u8,
            signed: self.signed & PART_SIGNED != 0,
        };
        match kind {
            Kind::Count => {}
            Kind::Rows => {
                let end = u32::from(part.offset) + u32::from(length);
                let fits = end <= u32::from(self.record_bytes.get());
                if !fits || !(1..=PART_BYTES_MAX).contains(&length) {
                    return Err(BadArguments::Value { field: "part_length" });
                }
            }
            Kind::Sum | Kind::Least | Kind::Greatest => self.check_number(part, "part_length")?,
        }
        Ok((kind, part))
    }

    fn check_number(&self, field: Field, name: &'static str) -> Result<(), BadArguments> {
        let end = u32::from(field.offset) + u32::from(field.width);
        let is_number = matches!(field.width, 1 | 2 | 4 | 8);
        if !is_number || end > u32::from(self.record_bytes.get()) {
            return Err(BadArguments::Value { field: name });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_golden() {
        let arguments = Arguments::new(3, 0x0102, 0x0405, 7)
            .only(Field::signed(8, 2), Comparison::Less, 0x0a0b)
            .greatest(Field::signed(9, 4));
        let expected = [
            2, 1, 0, 0, 0, 0, 0, 0, 0x0b, 0x0a, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 3, 0, 5, 4, 8, 0, 2,
            3, 9, 0, 4, 0, 3, 3, 0, 0,
        ];
        assert_eq!(arguments.encode(), expected);
        assert_eq!(Arguments::decode(&expected), Ok(arguments));
        assert!(Arguments::decode(&expected[1..]).is_err());
        assert_eq!(PART_BYTES_MAX, 472);
    }

    #[test]
    fn fields_have_their_sign() {
        let record = [0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(Field::unsigned(0, 1).of(&record), 0x80);
        assert_eq!(Field::signed(0, 1).of(&record), -0x80);
        assert_eq!(Field::signed(0, 2).of(&record), -0x80);
        assert_eq!(Field::unsigned(1, 8).of(&record), 0x7fff_ffff_ffff_ffff);
        assert_eq!(Field::signed(0, 8).of(&record), -0x80);
        assert_eq!(Field::unsigned(0, 8).of(&record), i128::from(u64::MAX - 0x7f));
    }
}
