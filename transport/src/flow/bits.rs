//! Sets of packets as the bits of a word.

/// The `count` lowest bits.
#[inline]
pub(super) fn low_bits(count: u32) -> u128 {
    u128::MAX.checked_shr(u128::BITS - count.min(u128::BITS)).unwrap_or(0)
}

/// The places of the bits that are set, from the lowest on.
#[inline]
pub(super) fn bits(set: u128) -> Bits {
    Bits(set)
}

pub(super) struct Bits(u128);

impl Iterator for Bits {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let place = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(place as usize)
    }
}

impl DoubleEndedIterator for Bits {
    #[inline]
    fn next_back(&mut self) -> Option<usize> {
        let place = self.0.checked_ilog2()?;
        self.0 &= !(1 << place);
        Some(place as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn bits_come_from_both_ends() {
        let set = 1 << 127 | 1 << 64 | 1 << 3 | 1;
        assert_eq!(bits(set).collect::<Vec<_>>(), [0, 3, 64, 127]);
        assert_eq!(bits(set).rev().collect::<Vec<_>>(), [127, 64, 3, 0]);
        assert_eq!(bits(0).next_back(), None);
    }

    #[test]
    fn low_bits_reach_from_none_to_all() {
        assert_eq!((low_bits(0), low_bits(1), low_bits(127)), (0, 1, u128::MAX >> 1));
        assert_eq!((low_bits(128), low_bits(500)), (u128::MAX, u128::MAX));
    }
}
