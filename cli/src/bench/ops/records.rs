//! SCAN.

use nic_host::ops::{self, Scanned};
use nic_host::scan::{Arguments, Comparison, Field};
use nic_host::{Op, RemoteRegion};

use super::{Ground, Judged, Work};
use crate::bench::structures::{RECORD_BYTES, Structures};
use crate::random::Random;

/// The most bytes that an op scans: there are so many in the smallest memory.
pub const SCANNED_BYTES_MAX: u32 = 16 << 10;
/// A record's number.
const NUMBER: Field = Field::unsigned(0, 8);

/// Scans of random runs of records, whose numbers are summed up from the middle one on.
pub struct Scans<'s> {
    region: &'s RemoteRegion,
    structures: Structures,
    base: u64,
    /// Records of an op.
    count: u64,
    random: Random,
    /// By place: the first record that is scanned.
    asked: Vec<u64>,
}

impl<'s> Scans<'s> {
    /// Of the site's records.
    pub fn new(ground: Ground<'s>) -> Self {
        Scans {
            region: &ground.site.memory,
            structures: ground.site.structures(),
            base: ground.site.base(),
            count: u64::from(ground.size) / RECORD_BYTES,
            random: Random::new(ground.seed),
            asked: vec![0; ground.load.window as usize],
        }
    }

    /// How many records match, and the sum of their numbers.
    fn expected(&self, first: u64) -> (u64, i128) {
        let matched = self.count - self.count / 2;
        let least = first + self.count / 2;
        let sum = matched * least + matched * (matched - 1) / 2;
        (matched, sum.into())
    }
}

impl Work for Scans<'_> {
    type Operation = ops::Scan;

    #[inline]
    fn next(&mut self, place: u32) -> Op<ops::Scan> {
        let first = self.random.below(self.structures.records() - self.count + 1);
        self.asked[place as usize] = first;
        let at = self.base + self.structures.record(first);
        // At most 256.
        let arguments = Arguments::home(at, RECORD_BYTES as u16, self.count as u32);
        let middle = first + self.count / 2;
        self.region.scan(arguments.only(NUMBER, Comparison::GreaterOrEqual, middle).sum(NUMBER))
    }

    #[inline]
    fn judge(&mut self, place: u32, found: Scanned) -> Judged {
        let first = self.asked[place as usize];
        let answer = (found.matched(), found.number());
        match answer == self.expected(first) && found.rest().is_none() {
            true => Judged::Right { bytes: self.count * RECORD_BYTES },
            false => Judged::Wrong(format!("a scan from record {first} on found {answer:?}")),
        }
    }
}
