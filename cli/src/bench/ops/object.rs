//! CONSISTENT_READ.

use nic_host::{Op, RemoteRegion, ops};

use super::{Ground, Judged, Work};
use crate::bench::structures::Structures;
use crate::random::Random;

/// Reads of random objects that carry a checksum.
pub struct Objects<'s> {
    region: &'s RemoteRegion,
    structures: Structures,
    base: u64,
    random: Random,
    /// By place: the object that is read.
    asked: Vec<u64>,
}

impl<'s> Objects<'s> {
    /// Of the site's objects.
    pub fn new(ground: Ground<'s>) -> Self {
        Objects {
            region: &ground.site.memory,
            structures: ground.site.structures(),
            base: ground.site.base(),
            random: Random::new(ground.seed),
            asked: vec![0; ground.load.window as usize],
        }
    }
}

impl Work for Objects<'_> {
    type Operation = ops::ConsistentRead;

    #[inline]
    fn next(&mut self, place: u32) -> Op<ops::ConsistentRead> {
        let number = self.random.below(self.structures.objects());
        self.asked[place as usize] = number;
        self.region.consistent_read(self.structures.object(self.base, number))
    }

    #[inline]
    fn judge(&mut self, place: u32, object: ops::Bytes) -> Judged {
        let number = self.asked[place as usize];
        let length = self.structures.value_bytes();
        let is_right = object.len() as u64 == length + 8
            && Structures::object_value(number).is(&object[..length as usize]);
        match is_right {
            true => Judged::Right { bytes: length },
            false => Judged::Wrong(format!("object {number} is another")),
        }
    }
}
