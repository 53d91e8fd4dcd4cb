//! Whether an object is whole.

use crc::{CRC_64_XZ, Crc, Table};

use super::layout::{Arguments, Checksum};

static CRC64: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_XZ);

impl Checksum {
    /// The checksum of bytes, as a number of 8 bytes.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> u64 {
        match self {
            Checksum::Crc32 => crc32fast::hash(bytes).into(),
            Checksum::Crc64 => CRC64.checksum(bytes),
            Checksum::Xxh3 => xxhash_rust::xxh3::xxh3_64(bytes),
        }
    }
}

impl Arguments {
    /// Whether an object's checksum is that of what it covers. The target asks this; so does an
    /// initiator that has read the object by READ.
    #[inline]
    pub fn is_whole(&self, object: &[u8]) -> bool {
        let Ok(checksum) = self.check() else { return false };
        let at = usize::from(self.checksum_at.get());
        let found = object.get(at..at + usize::from(checksum.bytes()));
        let covered = object.get(usize::from(self.from.get())..usize::from(self.to.get()));
        let (Some(found), Some(covered)) = (found, covered) else { return false };
        let mut word = [0; 8];
        word[..found.len()].copy_from_slice(found);
        object.len() == usize::from(self.length.get())
            && u64::from_le_bytes(word) == checksum.of(covered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_the_ones_that_everybody_knows() {
        // The check values of the catalogue of CRCs, and of xxhsum.
        assert_eq!(Checksum::Crc32.of(b"123456789"), 0xcbf4_3926);
        assert_eq!(Checksum::Crc64.of(b"123456789"), 0x995d_c9bb_df19_39fa);
        assert_eq!(Checksum::Xxh3.of(b""), 0x2d06_8005_38d3_94c2);
    }
}
