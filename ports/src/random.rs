//! Seeded randomness for the simulator and the fault injector.

/// A small, fast generator (SplitMix64, Steele et al. 2014): the same seed gives the same run.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator that repeats itself for the same seed.
    pub const fn new(seed: u64) -> Self {
        Random { state: seed }
    }

    /// The next 64 bits.
    #[inline]
    pub const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; zero when `bound` is zero.
    #[inline]
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    /// Whether an event of this chance happens. Draws nothing for a chance of zero, so that
    /// switching one fault off leaves the others where they were.
    #[inline]
    pub const fn happens(&mut self, chance: Chance) -> bool {
        chance.per_million != 0 && self.below(1_000_000) < chance.per_million as u64
    }
}

/// How likely something is, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance {
    per_million: u32,
}

impl Chance {
    /// It never happens.
    pub const NEVER: Chance = Chance { per_million: 0 };
    /// It always happens.
    pub const ALWAYS: Chance = Chance { per_million: 1_000_000 };

    /// So many times in a million; more than a million is always.
    pub const fn per_million(times: u32) -> Self {
        Chance { per_million: if times > 1_000_000 { 1_000_000 } else { times } }
    }

    /// So many times in a hundred.
    pub const fn percent(times: u32) -> Self {
        Chance::per_million(times.saturating_mul(10_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_hold_their_ends() {
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| random.happens(Chance::ALWAYS)));
        assert!((0..1000).all(|_| !random.happens(Chance::NEVER)));
        let hits = (0..100_000).filter(|_| random.happens(Chance::percent(10))).count();
        assert!((9_000..11_000).contains(&hits), "{hits} of 100000 at ten per cent");
    }

    #[test]
    fn below_stays_below_and_repeats() {
        let (mut first, mut second) = (Random::new(7), Random::new(7));
        for bound in [1, 2, 3, 1000, u64::MAX] {
            let drawn = first.below(bound);
            assert!(drawn < bound);
            assert_eq!(drawn, second.below(bound));
        }
        assert_eq!(first.below(0), 0);
    }
}
