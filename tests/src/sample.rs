//! The memory that target applications of the tests offer, and what initiators expect in it.
//!
//! Every word follows from its place, every value from its key: what an op brings can be checked
//! without asking anyone.

/// Length of a target's plain region in bytes.
pub const REGION_BYTES: u64 = 1 << 20;
/// The part that is only read: word `i` of it is `pattern(i)`. Length in bytes, from address 0.
pub const PATTERN_BYTES: u64 = 256 << 10;
/// The part that is written: address and length in bytes.
pub const WRITTEN: (u64, u64) = (PATTERN_BYTES, 256 << 10);
/// The part of the words for atomics, all zero at the start: address and length in bytes.
pub const WORDS: (u64, u64) = (512 << 10, 64 << 10);
/// Length of a table's values in bytes.
pub const VALUE_BYTES: usize = 64;
/// The service that target applications serve: it answers with the request, each byte inverted.
pub const INVERT: u16 = 7;
/// Another: it is asked for so many words, and answers with `pattern(i)` for each.
pub const PATTERN: u16 = 8;

/// A word that follows from a number (SplitMix64's finalizer).
pub const fn pattern(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Whether bytes are what stands at an address of the part that is only read.
pub fn is_pattern(address: u64, bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let expected = (address / 8..).map(pattern);
    rest.is_empty() && words.iter().zip(expected).all(|(word, e)| u64::from_le_bytes(*word) == e)
}

/// Writes the part that is only read.
pub fn pattern_bytes() -> Vec<u8> {
    (0..PATTERN_BYTES / 8).flat_map(|number| pattern(number).to_le_bytes()).collect()
}

/// A key of a table; those from the table's number of keys on are not in it.
pub fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:............";
    key[8..].copy_from_slice(&number.to_le_bytes());
    key
}

/// A key's value.
pub fn value(number: u64) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    for (place, word) in value.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *word = pattern(number << 8 | place as u64).to_le_bytes();
    }
    value
}
