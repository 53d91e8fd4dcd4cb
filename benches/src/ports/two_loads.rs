//! The least that a lookup can be: a load from the index, and one from the entries whose place comes
//! from the first. As many at a time as one core can wait for.

use std::time::{Duration, Instant};

use nic_shm::RacyMem;

/// Pairs of loads that are waited for at the same time.
const CHAINS: usize = 64;
/// Pairs of each chain between two looks at the clock.
const STRETCH: usize = 64;
const LINE_BYTES: u64 = 64;

/// A place in one memory at a time, and what the next one is made of.
#[derive(Clone, Copy)]
struct Chain {
    state: u64,
    place: u64,
}

impl Chain {
    /// Loads the word at this place of `from`, and asks for the line of `to` that follows from it.
    #[inline]
    fn step(&mut self, from: &RacyMem, to: &RacyMem) {
        let found = from.load64(self.place).unwrap_or(0);
        self.state = (self.state ^ found).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let lines = u128::from(to.len() / LINE_BYTES);
        self.place = ((u128::from(self.state) * lines) >> 64) as u64 * LINE_BYTES;
        to.prefetch(self.place, 8);
    }
}

/// So many pairs a second, in millions, with nothing else to do.
pub(super) fn rate(index: &RacyMem, entries: &RacyMem, time: Duration) -> f64 {
    let begun = Instant::now();
    let mut chains: [Chain; CHAINS] = std::array::from_fn(|chain| Chain {
        // Another walk each time: what the last one has met may be in the caches.
        state: (begun.elapsed().as_nanos() as u64).wrapping_add(chain as u64 + 1) << 17 | 1,
        place: 0,
    });
    let mut pairs = 0;
    while begun.elapsed() < time {
        for _ in 0..STRETCH {
            chains.iter_mut().for_each(|chain| chain.step(index, entries));
            chains.iter_mut().for_each(|chain| chain.step(entries, index));
        }
        pairs += STRETCH * CHAINS;
    }
    std::hint::black_box(chains.map(|chain| chain.place));
    pairs as f64 / begun.elapsed().as_secs_f64() / 1e6
}
