//! Data entries as bytes.

use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::{FromBytes, IntoBytes};

use super::hash::KeyHash;
use super::layout::{ENTRY_HEADER_BYTES, EntryHeader};

/// Bytes at an entry's start that its checksum does not cover: itself.
pub(super) const CHECKSUM_BYTES: usize = 8;

/// A data entry's parts, in a private copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) header: &'a EntryHeader,
    /// The entry's bytes without what is behind its value.
    pub(super) used: &'a [u8],
    pub(super) key: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Takes an entry apart; `None` if its own lengths do not fit the bytes.
    #[inline]
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, _) = EntryHeader::ref_from_prefix(bytes).ok()?;
        let used = bytes.get(..usize::try_from(header.used_bytes()).ok()?)?;
        let key_end = ENTRY_HEADER_BYTES + usize::from(header.key_length.get());
        Some(Entry { header, used, key: &used[ENTRY_HEADER_BYTES..key_end] })
    }

    /// The checksum that the entry should have.
    #[inline]
    pub(super) fn checksum(&self) -> u64 {
        xxh3_64(&self.used[CHECKSUM_BYTES..])
    }
}

/// Writes an entry over a buffer that is used again and again. Key and value have been checked.
pub(super) fn compose(into: &mut Vec<u8>, hash: KeyHash, version: u64, key: &[u8], value: &[u8]) {
    let mut header = EntryHeader {
        checksum: 0.into(),
        hash: hash.0.into(),
        version: version.into(),
        key_length: (key.len() as u16).into(),
        flags: 0.into(),
        value_length: (value.len() as u32).into(),
    };
    into.clear();
    into.extend_from_slice(header.as_bytes());
    into.extend_from_slice(key);
    into.extend_from_slice(value);
    header.checksum = xxh3_64(&into[CHECKSUM_BYTES..]).into();
    into[..CHECKSUM_BYTES].copy_from_slice(header.checksum.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back() {
        let mut bytes = alloc::vec![0xee; 3];
        let hash = KeyHash::of(b"apple");
        compose(&mut bytes, hash, 7, b"apple", b"red");
        assert_eq!(bytes.len(), 48);
        assert_eq!(&bytes[40..], b"applered");
        bytes.extend_from_slice(&[0xaa; 16]);
        let entry = Entry::parse(&bytes).unwrap();
        assert_eq!((entry.key, entry.used.len()), (&b"apple"[..], 48));
        assert_eq!(entry.header.checksum.get(), entry.checksum());
        assert_eq!(entry.header.hash.get(), hash.0);
        assert!(Entry::parse(&bytes[..47]).is_none(), "cut");
        assert!(Entry::parse(&bytes[..39]).is_none(), "cut in the header");
    }
}
