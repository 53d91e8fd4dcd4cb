//! PARTITION_WRITE.

use anyhow::Result;
use nic_host::partition_write::{Answer, By, Counters, Partitions, Shape};
use nic_host::{Fate, Op, OpError, RacyMem, RemoteRegion, Session, ops};

use super::write::payload;
use super::{Ground, Judged, Work};
use crate::bench::fault::Fault;
use crate::bench::layout::LINE_BYTES;
use crate::bench::pattern::WORD_BYTES;

/// The logarithm of how many partitions there are.
const BITS: u8 = 4;

/// Partitions of records of one word, for ops of so many bytes.
fn shape(size: u64) -> Shape {
    let records = size / WORD_BYTES as u64;
    // Few enough that many places have room, and enough that emptying them hardly counts.
    let capacity = ((8 * records) >> BITS).max(120);
    Shape { bits: BITS, record_bytes: WORD_BYTES as u16, key_offset: 0, by: By::Hash, capacity }
}

/// How far apart places lie, in bytes.
pub fn pitch(size: u64) -> u64 {
    shape(size).bytes().unwrap_or(u64::MAX / 2).next_multiple_of(LINE_BYTES)
}

/// PARTITION_WRITEs, each op out to partitions of its own, which are emptied when one is full.
pub struct PartitionWrites<'s> {
    session: &'s Session,
    region: &'s RemoteRegion,
    payloads: &'s [u8],
    shape: Shape,
    /// Whole records of an op, in bytes.
    size: usize,
    pitch: u64,
    first: u64,
    /// Header and counters of empty partitions.
    empty: Vec<u8>,
    places: Vec<Place>,
}

/// What is known of a place at the target.
#[derive(Clone, Default)]
struct Place {
    /// Ops so far, the one that is out among them.
    count: u64,
    /// The payloads that its partitions hold, in the order in which they came.
    held: Vec<u64>,
    /// Whether one has failed of which nobody knows whether it ran, or may run still.
    is_unknown: bool,
}

impl<'s> PartitionWrites<'s> {
    /// Lays empty partitions out at every place. The stock has payloads of the size.
    pub fn new(ground: Ground<'s>) -> Result<Self> {
        let shape = shape(ground.size.into());
        let pitch = pitch(ground.size.into());
        let memory = RacyMem::allocate(pitch);
        Partitions::format(memory.clone(), 0, shape)?;
        let mut empty = vec![0; shape.counters_bytes() as usize];
        memory.read(0, &mut empty)?;
        let writes = PartitionWrites {
            session: ground.session,
            region: &ground.site.memory,
            payloads: &ground.stock.payloads,
            shape,
            size: ground.size as usize / WORD_BYTES * WORD_BYTES,
            pitch,
            first: ground.own,
            empty,
            places: vec![Place::default(); ground.load.window as usize],
        };
        (0..ground.load.window)
            .try_for_each(|place| writes.empty(place))
            .map_err(Fault::Unreadable)?;
        Ok(writes)
    }

    fn address(&self, place: u32) -> u64 {
        self.first + u64::from(place) * self.pitch
    }

    /// Empties the partitions of a place that has no op out.
    fn empty(&self, place: u32) -> Result<(), OpError> {
        self.session.run(self.region.write(self.address(place), &self.empty))
    }

    fn payload(&self, number: u64) -> &'s [u8] {
        &self.payloads[number as usize * WORD_BYTES..][..self.size]
    }

    /// How many records an op has.
    fn records(&self) -> u64 {
        (self.size / WORD_BYTES) as u64
    }

    /// What a partition holds after those payloads.
    fn expected(&self, held: &[u64], partition: u16) -> Vec<u8> {
        let records = held.iter().flat_map(|number| self.payload(*number).chunks(WORD_BYTES));
        let its = records.filter(|record| self.shape.partition_of(record) == partition);
        its.flatten().copied().collect()
    }

    /// A partition was full. Whether one can have been.
    fn make_room(&mut self, place: u32, answer: &Answer) -> Result<bool, OpError> {
        let most = (self.places[place as usize].held.len() as u64 + 1) * self.records();
        self.places[place as usize].held.clear();
        self.empty(place)?;
        Ok(most > self.shape.capacity && answer.records() < self.records())
    }
}

impl<'s> Work for PartitionWrites<'s> {
    type Operation = ops::PartitionWrite<'s>;

    #[inline]
    fn next(&mut self, place: u32) -> Op<ops::PartitionWrite<'s>> {
        let state = &mut self.places[place as usize];
        state.count += 1;
        let number = payload(place, state.count);
        self.region.partition_write(self.address(place), self.payload(number))
    }

    #[inline]
    fn judge(&mut self, place: u32, answer: Answer) -> Judged {
        let is_right = if answer.rest_from().is_some() {
            match self.make_room(place, &answer) {
                Ok(is_right) => is_right,
                Err(error) => {
                    return Judged::Wrong(format!("partitions could not be emptied: {error}"));
                }
            }
        } else {
            let state = &mut self.places[place as usize];
            state.held.push(payload(place, state.count));
            answer.records() == self.records()
        };
        match is_right || self.places[place as usize].is_unknown {
            true => Judged::Right { bytes: answer.records() * WORD_BYTES as u64 },
            false => Judged::Wrong(format!("a stream was partitioned otherwise: {answer:?}")),
        }
    }

    fn failed(&mut self, place: u32, fate: Fate) {
        self.places[place as usize].is_unknown |= fate != Fate::NotExecuted;
    }

    fn left(&mut self, session: &Session, place: u32) -> Result<Option<Judged>, OpError> {
        let Place { held, is_unknown: false, .. } = &self.places[place as usize] else {
            return Ok(None);
        };
        let at = self.address(place);
        let header = session.run(self.region.read(at..at + self.empty.len() as u64))?;
        for partition in 0..self.shape.count() {
            let expected = self.expected(held, partition);
            let count = (expected.len() / WORD_BYTES) as u64;
            let counters = Counters { reserved: count, written: count };
            let start = at + self.shape.place(partition, 0);
            let records = session.run(self.region.read(start..start + expected.len() as u64))?;
            if Counters::parse(&header, partition) != Some(counters) || *records != expected[..] {
                let wrong = format!("partition {partition} at {at:#x} holds something else");
                return Ok(Some(Judged::Wrong(wrong)));
            }
        }
        Ok(Some(Judged::Right { bytes: held.len() as u64 * self.size as u64 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_room_for_some_ops_and_many_fit_a_small_region() {
        for size in [8, 64, 4096, 1 << 20] {
            let shape = shape(size);
            assert!(shape.capacity * u64::from(shape.count()) >= 8 * size / 8, "{size}");
            assert!(pitch(size) <= (9 * size).max(16 << 10), "{size}");
        }
    }
}
