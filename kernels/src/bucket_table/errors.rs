//! What can go wrong with a table.

use super::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Why a table cannot be formatted. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The index region is too short: make it longer, or the geometry smaller.
    #[error("the index needs {needed} bytes and its region has {found}; make the region larger")]
    IndexTooSmall {
        /// The region's length in bytes.
        found: u64,
        /// What the geometry needs.
        needed: u64,
    },
    /// The entries region is of no use: make it longer, or at most 1 TiB.
    #[error("the entries region has {found} bytes; it must have {minimum} to 2^40")]
    EntriesSize {
        /// The region's length in bytes.
        found: u64,
        /// The least that it must have.
        minimum: u64,
    },
    /// A memory cannot be written: use the owner's own mapping.
    #[error("a region of the table is mapped read-only; format through the owner's mapping")]
    ReadOnly,
    /// Words of the index would not be aligned: use memory that begins at a multiple of 64.
    #[error("the index region does not begin at a multiple of 64 bytes; map it on a page")]
    Misaligned,
}

/// Why a key and its value cannot be stored. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The key is empty.
    #[error("the key is empty; a key has 1 to {KEY_BYTES_MAX} bytes")]
    EmptyKey,
    /// The key is too long.
    #[error("the key has {found} bytes; a key has 1 to {KEY_BYTES_MAX}")]
    KeyTooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// The value is too long.
    #[error("the value has {found} bytes; a value has at most {VALUE_BYTES_MAX}")]
    ValueTooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// The entries region has no room: erase keys, or make it larger.
    #[error("no room for {needed} bytes in the entries region; erase keys or make it larger")]
    Full {
        /// Length of the data entry in bytes.
        needed: usize,
    },
}

/// Why a key cannot be inserted. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// The table has the key: replace it.
    #[error("the table already has the key; replace or upsert it")]
    Duplicate,
    /// Key or value do not fit.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// Why a key cannot be replaced. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    /// The table does not have the key: insert it.
    #[error("the table does not have the key; insert or upsert it")]
    Missing,
    /// The value does not fit.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// Why the start of a region is not a table's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTable {
    /// Too few bytes: read more.
    #[error("{found} bytes are too short for a table's header of {expected}")]
    Short {
        /// How many bytes there are.
        found: usize,
        /// How many a header has.
        expected: usize,
    },
    /// There is no table, or it is being formatted: check the ticket, or try again.
    #[error(
        "the region holds no table: it begins with {found:#018x}; is the ticket the right one?"
    )]
    Magic {
        /// What stands in its place.
        found: u64,
    },
    /// The table has another layout: use the owner's version of this program.
    #[error("the table has layout version {found}, this program knows {expected}")]
    Version {
        /// The table's.
        found: u32,
        /// This program's.
        expected: u32,
    },
    /// The header contradicts itself.
    #[error("the table's header is damaged: its {field} makes no sense")]
    Damaged {
        /// Which.
        field: &'static str,
    },
}
