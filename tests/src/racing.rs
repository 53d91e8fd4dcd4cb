//! The table that a writer and readers race on: few keys, values of eight cache lines, every word
//! of which follows from the key and the number of the change that wrote it.

/// Length of a value in bytes: eight cache lines.
pub const VALUE_BYTES: usize = 512;
/// Keys of the table.
pub const KEYS: u64 = 6;
/// The first keys are only ever replaced: no reader may miss one. The others come and go.
pub const STEADY: u64 = 3;
/// Length of the entries' region in bytes: a slab for each size of entries in use, and no more.
pub const ENTRIES_BYTES: u64 = 24 << 10;

/// Where the structures of racing owners lie, each in a region of its own.
pub mod places {
    /// Length of the region in bytes.
    pub const REGION_BYTES: u64 = 64 << 10;
    /// Slots for values, hardly more than there are keys.
    pub const SLOTS: u64 = 8192;
    /// How many.
    pub const SLOT_COUNT: u64 = super::KEYS + 2;
    /// The list's first element; the others follow, 64 bytes apart.
    pub const LIST: u64 = 64;
    /// Length of a sealed object in bytes: a value and its checksum.
    pub const OBJECT_BYTES: u16 = super::VALUE_BYTES as u16 + 8;
    /// Length of a chain's buffers in bytes.
    pub const BUFFER_BYTES: u32 = 576;
    /// How many fresh buffers others are given.
    pub const FRESH: usize = 40;
    /// How many entries that are not the latest any more are kept.
    pub const KEPT: usize = 8;
    /// Words in which the owner of a free list says what it took.
    pub const TAKEN: u64 = 4096;
    /// How many.
    pub const TAKEN_COUNT: u64 = 4096;
    /// Length of a log in bytes.
    pub const LOG_BYTES: u64 = 32 << 10;
    /// How many records are scanned.
    pub const RECORDS: u64 = 1000;
    /// How many records a partition has room for.
    pub const CAPACITY: u64 = 200;
}

/// A key.
pub fn key(number: u64) -> [u8; 8] {
    let mut key = *b"racing :";
    key[7] = b'0' + number as u8;
    key
}

/// The value that a change of a key wrote.
pub fn value(number: u64, count: u64) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    for (place, word) in value.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *word = word_of(number, count, place as u64).to_le_bytes();
    }
    value
}

/// The change that wrote a value, if it is whole and this key's.
pub fn written_by(number: u64, value: &[u8]) -> Option<u64> {
    let (words, rest) = value.as_chunks::<8>();
    let count = u64::from_le_bytes(*words.first()?);
    let is_right = |(place, word): (usize, &[u8; 8])| {
        *word == word_of(number, count, place as u64).to_le_bytes()
    };
    let is_whole = value.len() == VALUE_BYTES && rest.is_empty();
    (is_whole && words.iter().enumerate().all(is_right)).then_some(count)
}

/// The first word is the change's number, the others follow from it, the key and their place.
fn word_of(number: u64, count: u64, place: u64) -> u64 {
    match place {
        0 => count,
        place => (count << 8 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_values_of_the_key_are_right() {
        let value_of_one = value(1, 77);
        assert_eq!(written_by(1, &value_of_one), Some(77));
        assert_eq!(written_by(2, &value_of_one), None);
        let mut mixed = value_of_one;
        mixed[448..].copy_from_slice(&value(1, 78)[448..]);
        assert_eq!(written_by(1, &mixed), None);
        assert_eq!(written_by(1, &value_of_one[..504]), None);
    }
}
