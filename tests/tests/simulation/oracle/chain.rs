//! A word that COMPARE_SWAPs change, each to a value of its own.

use std::collections::BTreeMap;

use super::{Climbs, Order};

/// What is known of a value.
#[derive(Debug)]
struct Link {
    /// How many swaps lead to it from the first value: known when it is asked for, because the
    /// swap succeeds only from the value that it expects.
    height: usize,
    before: u64,
    /// No swap to it will ever have happened.
    is_impossible: bool,
}

/// The tree of values that swaps may have made. Those that the word really had are a path in it.
#[derive(Debug)]
pub struct Chain {
    links: BTreeMap<u64, Link>,
    /// The path as far as it is known, by height.
    path: Vec<Option<u64>>,
    climbs: Climbs,
}

impl Chain {
    /// A word that holds this value.
    pub fn new(first: u64) -> Self {
        let link = Link { height: 0, before: first, is_impossible: false };
        let links = BTreeMap::from([(first, link)]);
        Chain { links, path: vec![Some(first)], climbs: Climbs::default() }
    }

    /// A swap leaves. Returns the height that it must find at least.
    pub fn ask(&mut self, expected: u64, desired: u64) -> u64 {
        let height = self.links[&expected].height + 1;
        let link = Link { height, before: expected, is_impossible: false };
        assert!(self.links.insert(desired, link).is_none(), "values are used once");
        self.floor()
    }

    /// It has run and found `old`.
    pub fn executed(&mut self, floor: u64, (expected, desired): (u64, u64), old: u64, by: Order) {
        let found = self.observed(floor, old);
        if old == expected {
            let left = self.settle(desired);
            self.climbs.add(by, found, left);
        } else {
            assert_ne!(old, desired, "the swap has found what only it can have written");
            self.refused(desired);
            self.climbs.add(by, found, found);
        }
    }

    /// It has not swapped and never will.
    pub fn refused(&mut self, desired: u64) {
        let link = self.links.get_mut(&desired).expect("the swap was asked for");
        link.is_impossible = true;
        let known = self.path.get(link.height).copied().flatten();
        assert_ne!(known, Some(desired), "the word has had a value that nobody swapped in");
    }

    /// Somebody saw a value, where `floor` was reached before it looked. Returns its height.
    pub fn observed(&mut self, floor: u64, value: u64) -> u64 {
        let height = self.settle(value);
        assert!(height >= floor, "{value:#x} of height {height} came back after {floor}");
        height
    }

    /// The same, by an op.
    pub fn read(&mut self, floor: u64, value: u64, order: Order) {
        let height = self.observed(floor, value);
        self.climbs.add(order, height, height);
    }

    /// The height that the word has reached.
    pub fn floor(&self) -> u64 {
        self.path.len() as u64 - 1
    }

    /// The value `down` steps below the highest that is known.
    pub fn known(&self, down: usize) -> u64 {
        let top = self.path.len() - 1;
        let known = self.path[..=top.saturating_sub(down)].iter().rev().flatten().next();
        *known.expect("the first value is known")
    }

    /// Pairs of ops compared by their fences.
    pub fn compared(&self) -> u64 {
        self.climbs.compared
    }

    /// The word has had this value, and so all that lead to it. Returns its height.
    fn settle(&mut self, value: u64) -> u64 {
        let mut value = value;
        let link = self.links.get(&value);
        let height = link.unwrap_or_else(|| panic!("nobody has written {value:#x}")).height;
        if self.path.len() <= height {
            self.path.resize(height + 1, None);
        }
        loop {
            let link = &self.links[&value];
            assert!(!link.is_impossible, "{value:#x} was swapped in by an op that never ran");
            match self.path[link.height] {
                Some(known) => {
                    let at = link.height;
                    assert_eq!(known, value, "two values were swapped in for one, at {at}");
                    return height as u64;
                }
                None => self.path[link.height] = Some(value),
            }
            value = link.before;
        }
    }
}
