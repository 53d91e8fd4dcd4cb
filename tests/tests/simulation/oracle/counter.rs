//! A word that FETCH_ADDs of one count up from zero.

use super::{Climbs, Order};

/// Counts what may and what must have been added.
#[derive(Debug, Default)]
pub struct Counter {
    asked: u64,
    refused: u64,
    /// The word has reached this value.
    floor: u64,
    /// Bit of value `v`: some op has found it.
    found: Vec<u64>,
    climbs: Climbs,
}

impl Counter {
    /// An op leaves. Returns what it must find at least.
    pub fn ask(&mut self) -> u64 {
        self.asked += 1;
        self.floor
    }

    /// It has run and found `old`.
    pub fn executed(&mut self, floor: u64, old: u64, order: Order) {
        self.observed(floor, old);
        assert!(old < self.ceiling(), "found {old} of at most {} adds", self.ceiling());
        let (word, bit) = ((old / 64) as usize, 1 << (old % 64));
        if self.found.len() <= word {
            self.found.resize(word + 1, 0);
        }
        assert!(self.found[word] & bit == 0, "two adds have found {old}");
        self.found[word] |= bit;
        self.floor = self.floor.max(old + 1);
        self.climbs.add(order, old, old + 1);
    }

    /// It has not run and never will.
    pub fn refused(&mut self) {
        self.refused += 1;
        let (floor, ceiling) = (self.floor, self.ceiling());
        assert!(floor <= ceiling, "the word has reached {floor} with {ceiling} adds");
    }

    /// Somebody saw a value, where `floor` was reached before it looked.
    pub fn observed(&mut self, floor: u64, value: u64) {
        assert!(value >= floor, "the word fell from {floor} to {value}");
        let ceiling = self.ceiling();
        assert!(value <= ceiling, "the word is {value} after at most {ceiling} adds");
        self.floor = self.floor.max(value);
    }

    /// The same, by an op.
    pub fn read(&mut self, floor: u64, value: u64, order: Order) {
        self.observed(floor, value);
        self.climbs.add(order, value, value);
    }

    /// What the word has reached.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Pairs of ops compared by their fences.
    pub fn compared(&self) -> u64 {
        self.climbs.compared
    }

    fn ceiling(&self) -> u64 {
        self.asked - self.refused
    }
}
