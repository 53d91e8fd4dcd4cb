//! What an op has for each partition, in the memory that it has for itself; and how its records are
//! put in order.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::layout::{PARTITIONS_MAX, Shape};
use crate::{ARRANGED_BLOCKS, FETCH_BYTES_MAX, PRIVATE_BYTES};

/// Bytes of a block.
pub(super) const BLOCK: usize = FETCH_BYTES_MAX;
/// What is put in order at a time, in bytes: the more, the longer are the runs.
pub(super) const UNIT: usize = ARRANGED_BLOCKS * BLOCK;
/// The most records of that.
const RECORDS_MAX: usize = UNIT / 8;

/// The records that an op has for one partition.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Lot {
    /// Where the next of them goes, in records of the partition.
    pub(super) place: U64,
    /// How many there are.
    pub(super) count: U32,
    zero: U32,
}

/// One for each partition.
pub(super) type Lots = [Lot; PARTITIONS_MAX];

const _: () = assert!(size_of::<Lots>() <= PRIVATE_BYTES);

/// The memory that an op has for itself, if it has any.
pub(super) fn lots(private: &mut [u8]) -> Option<&mut Lots> {
    Lots::mut_from_prefix(private).ok().map(|(lots, _)| lots)
}

impl Lot {
    /// So many more of them are stored.
    pub(super) fn advance(&mut self, records: u32) {
        self.place = (self.place.get() + u64::from(records)).into();
    }

    /// What the partition will have, if all of them get a place from `place` on.
    pub(super) fn end(&self) -> Option<u64> {
        self.place.get().checked_add(self.count.get().into())
    }
}

/// Puts the records of blocks in the order of their partitions, those of one as they were, and
/// counts them.
pub(super) fn sort(shape: &Shape, blocks: &mut [&mut [u8]; ARRANGED_BLOCKS], lots: &mut Lots) {
    // Copies of a known length need no calls.
    match shape.record_bytes {
        8 => sort_records::<8>(shape, blocks, lots),
        16 => sort_records::<16>(shape, blocks, lots),
        32 => sort_records::<32>(shape, blocks, lots),
        64 => sort_records::<64>(shape, blocks, lots),
        128 => sort_records::<128>(shape, blocks, lots),
        _ => sort_records::<256>(shape, blocks, lots),
    }
}

fn sort_records<const SIZE: usize>(
    shape: &Shape,
    blocks: &mut [&mut [u8]; ARRANGED_BLOCKS],
    lots: &mut Lots,
) {
    let shape = *shape;
    let mut partitions = [0_u8; RECORDS_MAX];
    let mut counts = [[0_u16; PARTITIONS_MAX]; 2];
    let mut left = &mut partitions[..];
    for block in blocks.iter() {
        let (records, _) = block.as_chunks::<SIZE>();
        let (now, later) = left.split_at_mut(records.len());
        for (record, partition) in records.iter().zip(&mut *now) {
            // Below 256.
            *partition = shape.partition_of(record) as u8;
        }
        // Two counts that take turns do not wait for each other.
        let (pairs, rest) = now.as_chunks::<2>();
        for [one, other] in pairs {
            counts[0][usize::from(*one)] += 1;
            counts[1][usize::from(*other)] += 1;
        }
        rest.iter().for_each(|partition| counts[0][usize::from(*partition)] += 1);
        left = later;
    }
    let [mut places, others] = counts;
    let mut before = 0;
    for ((place, other), lot) in places.iter_mut().zip(others).zip(lots).take(shape.count().into())
    {
        let count = *place + other;
        lot.count = (lot.count.get() + u32::from(count)).into();
        (*place, before) = (before, before + count);
    }
    let mut sorted = [0; UNIT];
    let (sorted_records, _) = sorted.as_chunks_mut::<SIZE>();
    let mut left = &partitions[..];
    for block in blocks.iter() {
        let (records, _) = block.as_chunks::<SIZE>();
        for (record, partition) in records.iter().zip(left) {
            let place = &mut places[usize::from(*partition)];
            sorted_records[usize::from(*place)] = *record;
            *place += 1;
        }
        left = &left[records.len()..];
    }
    for (block, sorted) in blocks.iter_mut().zip(sorted.chunks(BLOCK)) {
        block.copy_from_slice(&sorted[..block.len()]);
    }
}

/// The first place from `from` on, below `to`, for which something holds that holds for all behind
/// it; `to` if there is none. It is found soonest where it is `usual` places ahead.
pub(super) fn first(from: usize, to: usize, usual: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut from, mut to, mut ahead) = (from, to, usual.max(2) / 2);
    // Somewhere between the last place where it does not hold and the first where it does.
    while from + ahead < to {
        if holds(from + ahead - 1) {
            to = from + ahead - 1;
            break;
        }
        from += ahead;
        ahead *= 2;
    }
    // Halved without a branch: nobody could tell which way it goes.
    let mut count = to - from;
    while count > 0 {
        let half = count / 2;
        let is_behind = !holds(from + half);
        from = if is_behind { from + half + 1 } else { from };
        count = if is_behind { count - half - 1 } else { half };
    }
    from
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_is_found_from_everywhere() {
        for to in 0..40 {
            for (from, place) in (0..=to).flat_map(|from| (from..=to).map(move |to| (from, to))) {
                for usual in [0, 1, 2, 5, 32, 100] {
                    assert_eq!(first(from, to, usual, |at| at >= place), place, "{from} to {to}");
                }
            }
        }
    }
}
