//! The hash of a key.

use xxhash_rust::xxh3::xxh3_128;

/// XXH3-128 of a key. The high half chooses the bucket, the low half stands in the index, and the
/// whole stands in the data entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(pub u128);

impl KeyHash {
    /// The hash of a key.
    #[inline]
    pub fn of(key: &[u8]) -> Self {
        KeyHash(xxh3_128(key))
    }

    /// What stands in the index.
    #[inline]
    pub const fn low(self) -> u64 {
        self.0 as u64
    }

    /// What chooses the bucket.
    #[inline]
    pub const fn high(self) -> u64 {
        (self.0 >> 64) as u64
    }
}
