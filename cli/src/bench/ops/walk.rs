//! TRAVERSE.

use nic_host::ops::{self, Traversal};
use nic_host::traverse::Arguments;
use nic_host::{Op, RemoteRegion};

use super::{Ground, Judged, Work};
use crate::bench::structures::{LIST_ELEMENTS, Structures};
use crate::random::Random;

/// Walks to the ends of random lists, each of which has a value.
pub struct Walks<'s> {
    region: &'s RemoteRegion,
    structures: Structures,
    base: u64,
    size: u32,
    random: Random,
    /// By place: the list that is walked.
    asked: Vec<u64>,
}

impl<'s> Walks<'s> {
    /// Of the site's lists.
    pub fn new(ground: Ground<'s>) -> Self {
        Walks {
            region: &ground.site.memory,
            structures: ground.site.structures(),
            base: ground.site.base(),
            size: ground.size,
            random: Random::new(ground.seed),
            asked: vec![0; ground.load.window as usize],
        }
    }
}

impl Work for Walks<'_> {
    type Operation = ops::Traverse;

    #[inline]
    fn next(&mut self, place: u32) -> Op<ops::Traverse> {
        let list = self.random.below(self.structures.lists());
        self.asked[place as usize] = list;
        let start = self.base + self.structures.element(list, 0);
        self.region.traverse(Arguments::list(start, LIST_ELEMENTS - 1, self.size))
    }

    #[inline]
    fn judge(&mut self, place: u32, end: Traversal) -> Judged {
        let list = self.asked[place as usize];
        match end {
            Traversal::Found(found)
                if found.value().len() == self.size as usize
                    && u64::from(found.hops()) == LIST_ELEMENTS
                    && self.structures.pointed_value(list).is(found.value()) =>
            {
                Judged::Right { bytes: u64::from(self.size) }
            }
            other => Judged::Wrong(format!("list {list} ended otherwise: {other:?}")),
        }
    }
}
