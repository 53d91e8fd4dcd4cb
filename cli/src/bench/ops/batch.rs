//! INDIRECT_READ.

use nic_host::indirect_read::Arguments;
use nic_host::ops::{self, Lookups};
use nic_host::{Op, RemoteRegion};

use super::{Ground, Judged, Work};
use crate::bench::structures::Structures;
use crate::random::Random;

/// Lookups of an op.
pub const LOOKUPS: usize = 16;

/// Batches of lookups through random entries of a table of pointers.
pub struct Batches<'s> {
    region: &'s RemoteRegion,
    structures: Structures,
    table: u64,
    size: u32,
    random: Random,
    /// By place: the entries that are looked up.
    asked: Vec<[u32; LOOKUPS]>,
}

impl<'s> Batches<'s> {
    /// Of the site's table.
    pub fn new(ground: Ground<'s>) -> Self {
        let structures = ground.site.structures();
        Batches {
            region: &ground.site.memory,
            table: ground.site.base() + structures.table(),
            structures,
            size: ground.size,
            random: Random::new(ground.seed),
            asked: vec![[0; LOOKUPS]; ground.load.window as usize],
        }
    }

    fn is_right(&self, entries: &[u32; LOOKUPS], found: &Lookups) -> bool {
        let values = found.iter();
        values.len() == LOOKUPS
            && values.zip(entries).all(|(value, entry)| {
                let expected = self.structures.pointed_value(u64::from(*entry));
                value.is_ok_and(|value| value.len() == self.size as usize && expected.is(value))
            })
    }
}

impl Work for Batches<'_> {
    type Operation = ops::IndirectRead;

    #[inline]
    fn next(&mut self, place: u32) -> Op<ops::IndirectRead> {
        let entries = &mut self.asked[place as usize];
        for entry in entries.iter_mut() {
            // There are at most 65 536.
            *entry = self.random.below(self.structures.pointers()) as u32;
        }
        let arguments = Arguments::new(self.table, self.size, entries);
        self.region.indirect_read(arguments.expect("one op takes 54 lookups").tagged())
    }

    #[inline]
    fn judge(&mut self, place: u32, found: Lookups) -> Judged {
        let entries = &self.asked[place as usize];
        match self.is_right(entries, &found) {
            true => Judged::Right { bytes: LOOKUPS as u64 * u64::from(self.size) },
            false => Judged::Wrong(format!("other values behind the entries {entries:?}")),
        }
    }
}
