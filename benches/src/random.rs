//! Numbers that look random and follow from an index, so that both sides of a bench know them.

/// The random number of this index (the finisher of Steele's SplitMix64).
#[inline]
pub fn mixed(index: u64) -> u64 {
    let mut mixed = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Where a place goes if `1 << log2` places are shuffled, the same way each time: each has one of
/// its own.
#[inline]
pub fn shuffled(place: u64, log2: u32) -> u64 {
    let (mask, half) = ((1 << log2) - 1, log2.div_ceil(2));
    // Odd factors and shifts to the right lose nothing of a number of so many bits.
    let mut at = place.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask;
    at ^= at >> half;
    at = at.wrapping_mul(0xbf58_476d_1ce4_e5b9) & mask;
    at ^= at >> half;
    at.wrapping_mul(0x94d0_49bb_1331_11eb) & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_taken_once() {
        for log2 in [1, 2, 7, 12] {
            let mut seen = vec![false; 1 << log2];
            for place in 0..1 << log2 {
                let at = shuffled(place, log2) as usize;
                assert!(!std::mem::replace(&mut seen[at], true), "{place} of 2^{log2}");
            }
        }
    }
}
