//! Entries as bytes.

use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64_with_seed;
use zerocopy::{FromBytes, IntoBytes};

use super::layout::{EntryHeader, HEADER_BYTES, Link, PointerWord};

/// How much of a header its checksum does not cover: the pointer word, which changes, and itself.
const UNCOVERED_BYTES: usize = 16;

/// The longest value in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// An entry as it will stand in its buffer: what a CHAIN_APPEND brings as payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    fresh: Link,
    bytes: Vec<u8>,
}

/// The value does not fit its buffer. Nothing was composed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value of {found} bytes does not fit a buffer that has room for {room}")]
pub struct ValueTooLong {
    /// Its length in bytes.
    pub found: usize,
    /// What a value may have in such a buffer.
    pub room: usize,
}

impl Image {
    /// The entry of a value in a fresh buffer, which has `buffer_bytes` bytes.
    ///
    /// # Errors
    /// The value does not fit.
    pub fn compose(fresh: Link, buffer_bytes: u32, value: &[u8]) -> Result<Self, ValueTooLong> {
        let mut image = Image { fresh, bytes: Vec::new() };
        image.compose_again(fresh, buffer_bytes, value)?;
        Ok(image)
    }

    /// The same over an image that is not needed any more: nothing is allocated once it is as long
    /// as any.
    ///
    /// # Errors
    /// The value does not fit; the image is as before.
    pub fn compose_again(
        &mut self,
        fresh: Link,
        buffer_bytes: u32,
        value: &[u8],
    ) -> Result<(), ValueTooLong> {
        let room = (buffer_bytes as usize).saturating_sub(HEADER_BYTES).min(VALUE_BYTES_MAX);
        if value.len() > room {
            return Err(ValueTooLong { found: value.len(), room });
        }
        let header = EntryHeader {
            word: PointerWord::last(fresh.version()).raw().into(),
            checksum: 0.into(),
            length: (value.len() as u32).into(),
            reserved: 0.into(),
        };
        self.fresh = fresh;
        self.bytes.clear();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(value);
        let checksum = checksum(fresh.version(), &self.bytes[UNCOVERED_BYTES..]);
        self.bytes[8..UNCOVERED_BYTES].copy_from_slice(&checksum.to_le_bytes());
        Ok(())
    }

    /// The buffer that it is for.
    #[inline]
    pub fn fresh(&self) -> Link {
        self.fresh
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The checksum of an entry of a version: of its length and what follows.
pub(super) fn checksum(version: u16, covered: &[u8]) -> u64 {
    xxh3_64_with_seed(covered, version.into())
}

/// What an entry's bytes are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// They are whole.
    Whole {
        /// The value's length in bytes; the value is all that follows the header.
        length: usize,
    },
    /// They are of more than one entry, or of another than was named.
    Torn,
}

/// Judges a private copy of the entry that a link names: its header and its value, no more.
pub fn check_entry(at: Link, entry: &[u8]) -> EntryState {
    let Ok((header, value)) = EntryHeader::ref_from_prefix(entry) else {
        return EntryState::Torn;
    };
    let version = PointerWord::from_raw(header.word.get()).version();
    let is_whole = version == at.version()
        && value.len() == header.length.get() as usize
        && header.checksum.get() == checksum(version, &entry[UNCOVERED_BYTES..]);
    if is_whole { EntryState::Whole { length: value.len() } } else { EntryState::Torn }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Pointer;

    #[test]
    fn every_changed_byte_of_an_entry_is_noticed() {
        let fresh = Link::new(Pointer { region: 1, address: 128 }, 9).unwrap();
        let image = Image::compose(fresh, 128, b"a value").unwrap();
        assert_eq!(check_entry(fresh, image.bytes()), EntryState::Whole { length: 7 });
        assert_eq!(check_entry(fresh.reborn(), image.bytes()), EntryState::Torn);
        for place in (0..2).chain(8..image.bytes().len()) {
            let mut changed = image.bytes().to_vec();
            changed[place] ^= 0x12;
            assert_eq!(check_entry(fresh, &changed), EntryState::Torn, "{place}");
        }
        // What follows it in its chain may change.
        let mut linked = image.bytes().to_vec();
        linked[7] = 5;
        assert_eq!(check_entry(fresh, &linked), EntryState::Whole { length: 7 });
        assert_eq!(check_entry(fresh, &image.bytes()[..30]), EntryState::Torn);
    }

    #[test]
    fn a_value_fits_its_buffer() {
        let fresh = Link::new(Pointer { region: 1, address: 128 }, 9).unwrap();
        assert!(Image::compose(fresh, 64, &[1; 40]).is_ok());
        let refused = Image::compose(fresh, 64, &[1; 41]);
        assert_eq!(refused, Err(ValueTooLong { found: 41, room: 40 }));
    }
}
