//! How large a table is.

use super::layout::{
    BUCKET_BYTES_MAX, BUCKET_HEADER_BYTES, BUCKETS_OFFSET, ENTRY_HEADER_BYTES, INDEX_ENTRY_BYTES,
};
use super::slab::bytes_for;

/// The load that a geometry aims at, in percent: more overflows, less costs memory.
const LOAD_PERCENT: u64 = 30;

/// Size and number of a table's buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    bucket_count: u64,
    bucket_bytes: u32,
}

impl Geometry {
    /// Buckets of 256 bytes for `entries` keys. The number of buckets is the power of two that
    /// brings the load nearest to 30 %: it lies between 21 and 42 %.
    pub fn for_entries(entries: u64) -> Self {
        Self { bucket_count: 1, bucket_bytes: BUCKET_BYTES_MAX as u32 }.sized_for(entries)
    }

    /// The same for buckets of `bucket_bytes`: 64, 128, 192 or 256, which hold 2, 4, 7 and 10 keys.
    /// Smaller ones are cheaper to fetch and overflow sooner. `None` for other sizes.
    pub fn with_bucket_bytes(entries: u64, bucket_bytes: u32) -> Option<Self> {
        Self::of(1, bucket_bytes).map(|geometry| geometry.sized_for(entries))
    }

    /// A geometry of its parts; `None` if the count is no power of two below 2^32, or the size none
    /// of 64, 128, 192 and 256.
    pub fn of(bucket_count: u64, bucket_bytes: u32) -> Option<Self> {
        let sized = matches!(bucket_bytes, 64 | 128 | 192 | 256);
        let counted = bucket_count.is_power_of_two() && bucket_count < 1 << 32;
        (sized && counted).then_some(Geometry { bucket_count, bucket_bytes })
    }

    fn sized_for(self, entries: u64) -> Self {
        let per_bucket = self.entries_per_bucket() as u64;
        let wanted = (entries.saturating_mul(100)).div_ceil(LOAD_PERCENT * per_bucket).max(1);
        let wanted = wanted.min(1 << 31);
        let above = wanted.next_power_of_two();
        let below = (above / 2).max(1);
        // Nearest as a ratio: below is chosen if wanted/below < above/wanted.
        let bucket_count = if u128::from(wanted).pow(2) < u128::from(above) * u128::from(below) {
            below
        } else {
            above
        };
        Geometry { bucket_count, ..self }
    }

    /// How many buckets; a power of two.
    #[inline]
    pub const fn bucket_count(&self) -> u64 {
        self.bucket_count
    }

    /// Length of a bucket in bytes.
    #[inline]
    pub const fn bucket_bytes(&self) -> u32 {
        self.bucket_bytes
    }

    /// How many keys a bucket holds.
    #[inline]
    pub const fn entries_per_bucket(&self) -> usize {
        (self.bucket_bytes as usize - BUCKET_HEADER_BYTES) / INDEX_ENTRY_BYTES
    }

    /// Length of the index region in bytes.
    #[inline]
    pub const fn index_bytes(&self) -> u64 {
        BUCKETS_OFFSET + self.bucket_count * self.bucket_bytes as u64
    }

    /// Length of an entries region, in bytes, that surely holds `entries` keys and values of such
    /// lengths, and room to replace them.
    pub fn entries_bytes(entries: u64, key_bytes: u64, value_bytes: u64) -> u64 {
        bytes_for(entries, ENTRY_HEADER_BYTES as u64 + key_bytes + value_bytes)
    }

    /// Offset in the index region of the bucket for a hash whose high half is `high`.
    #[inline]
    pub const fn bucket_offset(&self, high: u64) -> u64 {
        BUCKETS_OFFSET + (high & (self.bucket_count - 1)) * self.bucket_bytes as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_near_what_is_aimed_at() {
        for entries in [10, 1000, 12_345, 1_000_000, 77_000_000] {
            for bucket_bytes in [64, 128, 192, 256] {
                let geometry = Geometry::with_bucket_bytes(entries, bucket_bytes).unwrap();
                let places = geometry.bucket_count() * geometry.entries_per_bucket() as u64;
                let load = entries as f64 / places as f64;
                assert!((0.20..0.43).contains(&load), "{entries} in {geometry:?}: {load}");
            }
        }
        assert_eq!(Geometry::for_entries(0).bucket_count(), 1);
        assert!(Geometry::for_entries(1_000_000).index_bytes() <= 128 << 20);
        assert_eq!(Geometry::with_bucket_bytes(10, 100), None);
        assert_eq!(Geometry::of(3, 256), None);
    }

    #[test]
    fn buckets_hold_what_the_layout_says() {
        let held = |bytes| Geometry::of(4, bytes).unwrap().entries_per_bucket();
        assert_eq!([64, 128, 192, 256].map(held), [2, 4, 7, 10]);
        let geometry = Geometry::of(4, 128).unwrap();
        assert_eq!(geometry.bucket_offset(6), 256 + 2 * 128);
        assert_eq!(geometry.index_bytes(), 256 + 4 * 128);
    }
}
