//! Bytes that can be told from all others: each word says where it belongs, so that what comes from
//! elsewhere, is torn or was changed does not pass for what was expected.
//!
//! A Weyl sequence: word by word an odd constant is added. Checking costs an addition and a
//! comparison a word.

/// What is added from word to word.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// Length of a word in bytes.
pub const WORD_BYTES: usize = 8;

/// A place in the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern(u64);

impl Pattern {
    /// Where the sequence of a number begins; those of different numbers do not meet within any
    /// length that matters.
    #[inline]
    pub fn of(number: u64) -> Self {
        let mixed = (number ^ (number >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Pattern((mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb))
    }

    /// So many words further.
    #[inline]
    pub fn after(self, words: u64) -> Self {
        Pattern(self.0.wrapping_add(words.wrapping_mul(STEP)))
    }

    /// Fills bytes from here on.
    pub fn fill(self, bytes: &mut [u8]) {
        let mut word = self.0;
        let mut words = bytes.chunks_exact_mut(WORD_BYTES);
        for place in &mut words {
            place.copy_from_slice(&word.to_le_bytes());
            word = word.wrapping_add(STEP);
        }
        let rest = words.into_remainder();
        rest.copy_from_slice(&word.to_le_bytes()[..rest.len()]);
    }

    /// Whether bytes are those from here on.
    #[inline]
    pub fn is(self, bytes: &[u8]) -> bool {
        let mut word = self.0;
        let mut differences = 0;
        let (words, rest) = bytes.as_chunks::<WORD_BYTES>();
        for place in words {
            differences |= u64::from_le_bytes(*place) ^ word;
            word = word.wrapping_add(STEP);
        }
        differences == 0 && rest == &word.to_le_bytes()[..rest.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_where_they_belong_and_nowhere_else() {
        for length in [0, 1, 7, 8, 9, 64, 1001] {
            let mut bytes = vec![0; length];
            let pattern = Pattern::of(7).after(3);
            pattern.fill(&mut bytes);
            assert!(pattern.is(&bytes), "{length}");
            for place in 0..length {
                bytes[place] ^= 1;
                assert!(!pattern.is(&bytes), "{length}, {place}");
                bytes[place] ^= 1;
            }
            let elsewhere = [Pattern::of(7).after(4), Pattern::of(8).after(3)];
            assert!(length == 0 || elsewhere.iter().all(|other| !other.is(&bytes)), "{length}");
        }
    }

    #[test]
    fn a_piece_of_a_longer_filling_is_right_in_its_place() {
        let mut bytes = vec![0; 256];
        Pattern::of(1).fill(&mut bytes);
        assert!(Pattern::of(1).after(5).is(&bytes[40..140]));
    }
}
