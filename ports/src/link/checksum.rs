//! The Internet checksum (RFC 1071).

/// A sum of 16-bit words in ones' complement, not yet folded. Words are taken in the machine's own
/// order; folding and complementing keep it (RFC 1071 §2 (B)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum(u64);

impl Sum {
    pub(super) const ZERO: Sum = Sum(0);

    /// Adds a big-endian word.
    #[inline]
    pub(super) fn word(self, word: u16) -> Sum {
        self.wide(u64::from(word.to_be()))
    }

    /// Adds bytes, as words in their order; an odd last byte counts as followed by a zero.
    #[inline]
    pub(super) fn bytes(self, bytes: &[u8]) -> Sum {
        let (chunks, rest) = bytes.as_chunks::<8>();
        let sum = chunks.iter().fold(self, |sum, chunk| sum.wide(u64::from_ne_bytes(*chunk)));
        if rest.is_empty() {
            return sum;
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        sum.wide(u64::from_ne_bytes(last))
    }

    #[inline]
    fn wide(self, word: u64) -> Sum {
        let (sum, carry) = self.0.overflowing_add(word);
        Sum(sum + u64::from(carry))
    }

    /// The checksum, as the bytes that go into a header.
    #[inline]
    pub(super) fn finish(self) -> [u8; 2] {
        let mut sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        sum = (sum >> 32) + (sum & 0xffff_ffff);
        sum = (sum >> 16) + (sum & 0xffff);
        sum = (sum >> 16) + (sum & 0xffff);
        (!(((sum >> 16) + (sum & 0xffff)) as u16)).to_ne_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_literature_hold() {
        // RFC 1071 §3: the sum of these is ddf2, its complement 220d.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::ZERO.bytes(&bytes).finish(), [0x22, 0x0d]);
        assert_eq!(Sum::ZERO.finish(), [0xff, 0xff]);
    }

    /// Word by word, in 32 bits, as the RFC writes it.
    fn plain(bytes: &[u8]) -> [u8; 2] {
        let words = bytes.chunks(2).map(|pair| {
            u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default())
        });
        let mut sum: u32 = words.sum();
        while sum >> 16 != 0 {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        (!(sum as u16)).to_be_bytes()
    }

    #[test]
    fn any_bytes_give_the_same_as_word_by_word() {
        let bytes: Vec<u8> = (0..2000u32).map(|byte| ((byte * 7919) >> 3) as u8).collect();
        for length in (0..64).chain([1399, 1400, 2000]) {
            let bytes = &bytes[..length];
            assert_eq!(Sum::ZERO.bytes(bytes).finish(), plain(bytes), "{length}");
            if length >= 2 {
                let first = u16::from_be_bytes([bytes[0], bytes[1]]);
                let parted = Sum::ZERO.word(first).bytes(&bytes[2..]);
                assert_eq!(parted.finish(), plain(bytes), "{length}");
            }
        }
        assert_eq!(Sum::ZERO.bytes(&[0xff; 1500]).finish(), plain(&[0xff; 1500]));
    }
}
