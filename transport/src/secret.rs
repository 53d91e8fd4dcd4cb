//! Numbers that strangers cannot guess, all drawn from the endpoint's seed.

use core::hash::Hasher;

use siphasher::sip::SipHasher24;

/// What the seed is used for; each use has keys of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Identities = 1,
    Cookies = 2,
    Tables = 3,
}

/// The two keys of a SipHash for one purpose.
pub(crate) fn keys(seed: u64, purpose: Purpose) -> (u64, u64) {
    let key = |half: u64| {
        let mut hasher = SipHasher24::new_with_keys(seed, purpose as u64);
        hasher.write(&half.to_le_bytes());
        hasher.finish()
    };
    (key(0), key(1))
}

/// A keyed hash of a counter: unpredictable to strangers, and the same for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    keys: (u64, u64),
    drawn: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random { keys: keys(seed, Purpose::Identities), drawn: 0 }
    }

    pub(crate) fn draw(&mut self) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.keys.0, self.keys.1);
        hasher.write(&self.drawn.to_le_bytes());
        self.drawn += 1;
        hasher.finish()
    }
}
