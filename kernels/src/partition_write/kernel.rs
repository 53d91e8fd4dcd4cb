//! The program.

use nic_wire::{KernelId, Status};
use zerocopy::IntoBytes;

use super::layout::{
    Answer, Arguments, BLOCK, HEADER_BYTES, HeaderLayout, RECORD_BYTES_MAX, RUNS_MAX, Shape,
};
use crate::TRANSFER_BYTES_MAX;
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Pointer, Step};
use crate::reply::Reply;

/// How often a refused access to what is reserved is tried again.
const RETRIES_MAX: u8 = 16;
/// How often an op asks for a place, others having been faster: then it says how far it came, with
/// steps left for that.
const ATTEMPTS_MAX: u32 = RUNS_MAX + 2_000;
/// The most records of a block.
const RECORDS_MAX: usize = BLOCK as usize / 8;
/// The most partitions.
const PARTITIONS_MAX: usize = 1 << super::PARTITION_BITS_MAX;

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The payload comes.
    Payload,
    /// The header is read.
    Header,
    /// A block is put in order, and the next run in it is found.
    Run,
    /// What its partition has is read.
    Look,
    /// The run is given a place behind it.
    Reserve,
    // From here to Count the run is reserved and not counted.
    /// It is stored.
    Store,
    /// It is counted.
    Count,
}

/// Distributes records over partitions.
#[derive(Clone, Copy, Debug)]
pub struct PartitionWrite {
    header: u64,
    /// Where the run goes, in records of its partition.
    place: u64,
    records: u64,
    shape: Shape,
    /// How often a place was asked for.
    attempts: u32,
    length: u32,
    /// Where the block begins in the payload, and the run and its end in the block.
    block: u32,
    start: u32,
    end: u32,
    partition: u16,
    /// The partitions below are left out of the block.
    from: u16,
    region: u8,
    /// The block is in order.
    in_order: bool,
    phase: Phase,
    retries: u8,
}

impl Kernel for PartitionWrite {
    const ID: KernelId = KernelId::PARTITION_WRITE;
    const IS_BUILT_IN: bool = true;

    #[inline]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let arguments = Arguments::decode(call.arguments)?;
        call.reply_fits(Answer::BYTES)?;
        if call.payload_length > TRANSFER_BYTES_MAX {
            return Err(BadArguments::Value { field: "payload_length" });
        }
        if arguments.reserved.get() != 0 {
            return Err(BadArguments::Value { field: "reserved" });
        }
        if !arguments.header.get().is_multiple_of(HEADER_BYTES) {
            return Err(BadArguments::Misaligned { expected: HEADER_BYTES as u32 });
        }
        Ok(PartitionWrite {
            header: arguments.header.get(),
            place: 0,
            records: 0,
            // Another is read before it is used.
            shape: Shape {
                bits: 0,
                record_bytes: RECORD_BYTES_MAX,
                key_offset: 0,
                by: super::By::Hash,
                capacity: 0,
            },
            attempts: 0,
            length: call.payload_length,
            block: 0,
            start: 0,
            end: 0,
            partition: 0,
            from: arguments.from_partition.get(),
            region: call.region(arguments.region.get())?,
            in_order: false,
            phase: Phase::Payload,
            retries: 0,
        })
    }

    fn arrange(&mut self, block: &mut [u8]) -> u32 {
        let mut seen = 0;
        if !self.in_order {
            self.sort(block);
            self.in_order = true;
            seen = 2 * block.len() as u32;
        }
        let size = usize::from(self.shape.record_bytes);
        // It is in order: few records are looked at.
        let after = |from: u32, partition: u32| {
            let first = from as usize / size;
            let is_below = |place: usize| {
                let record = &block[place * size..][..size];
                u32::from(self.shape.partition_of(record)) < partition
            };
            (partition_point(first, block.len() / size, is_below) * size) as u32
        };
        let start = after(self.end, self.from.into());
        let first = block[start as usize..].get(..size);
        let partition = first.map_or(0, |record| self.shape.partition_of(record));
        let end = after(start, u32::from(partition) + 1);
        (self.start, self.end, self.partition) = (start, end, partition);
        // A record looked at is a line that was sorted just now.
        seen + 64
    }

    #[inline]
    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        match (event, self.phase) {
            (Event::Start, _) => Step::HoldPayload,
            (Event::Held, Phase::Payload) => self.go(Phase::Header),
            (Event::Fetched(bytes), Phase::Header) => self.begin_runs(bytes, reply),
            (Event::Arranged, Phase::Run) if self.start == self.end => self.next_block(reply),
            (Event::Arranged, Phase::Run) => self.go(Phase::Look),
            (Event::Fetched(bytes), Phase::Look) => match bytes.first_chunk() {
                Some(word) => self.reserve(u64::from_le_bytes(*word), reply),
                None => Step::UNEXPECTED,
            },
            (Event::Old(reserved), Phase::Reserve) if reserved == self.place => {
                self.go(Phase::Store)
            }
            // Another op was faster.
            (Event::Old(reserved), Phase::Reserve) => self.reserve(reserved, reply),
            (Event::Written, Phase::Store) => self.go(Phase::Count),
            (Event::Old(_), Phase::Count) => {
                self.records += self.count();
                self.go(Phase::Run)
            }
            // Others may have reserved behind it: the run cannot be given back.
            (Event::Refused(Status::TransferFailed), _) if self.retries < RETRIES_MAX => {
                self.retries += 1;
                self.go(self.phase)
            }
            (Event::Refused(status), _) => Step::abandon(status),
            _ => Step::UNEXPECTED,
        }
    }

    #[inline]
    fn must_end(&self) -> bool {
        matches!(self.phase, Phase::Store | Phase::Count)
    }
}

impl PartitionWrite {
    /// Takes the header.
    fn begin_runs(&mut self, bytes: &[u8], reply: &mut Reply<'_>) -> Step {
        let Some(shape) = HeaderLayout::shape(bytes) else {
            return Step::fail(Status::BadArguments);
        };
        self.shape = shape;
        let fits = self.length.is_multiple_of(shape.record_bytes.into())
            && self.length <= shape.payload_bytes_max()
            && self.from < shape.count();
        if !fits {
            return Step::fail(Status::BadArguments);
        }
        if self.length == 0 {
            return self.answer(0, reply);
        }
        self.go(Phase::Run)
    }

    /// Reserves what the run takes behind the records that its partition has, if it fits.
    fn reserve(&mut self, reserved: u64, reply: &mut Reply<'_>) -> Step {
        self.attempts += 1;
        self.place = reserved;
        let end = reserved.checked_add(self.count());
        let fits = end.is_some_and(|end| end <= self.shape.capacity);
        if !fits || self.attempts > ATTEMPTS_MAX {
            return self.answer(self.partition, reply);
        }
        self.go(Phase::Reserve)
    }

    /// Puts a block's records in the order of their partitions; those of one stay as they are.
    fn sort(&self, block: &mut [u8]) {
        // Copies of a known length need no calls.
        match self.shape.record_bytes {
            8 => self.sort_records::<8>(block),
            16 => self.sort_records::<16>(block),
            32 => self.sort_records::<32>(block),
            64 => self.sort_records::<64>(block),
            128 => self.sort_records::<128>(block),
            _ => self.sort_records::<256>(block),
        }
    }

    fn sort_records<const SIZE: usize>(&self, block: &mut [u8]) {
        let (mut partitions, mut places) = ([0_u8; RECORDS_MAX], [0_u16; PARTITIONS_MAX]);
        let (records, _) = block.as_chunks::<SIZE>();
        for (record, partition) in records.iter().zip(&mut partitions) {
            // Below 256.
            *partition = self.shape.partition_of(record) as u8;
            places[usize::from(*partition)] += 1;
        }
        let mut before = 0;
        for place in &mut places[..usize::from(self.shape.count())] {
            (*place, before) = (before, before + *place);
        }
        let mut sorted = [0; BLOCK as usize];
        let (places_there, _) = sorted.as_chunks_mut::<SIZE>();
        for (record, partition) in records.iter().zip(partitions) {
            let place = &mut places[usize::from(partition)];
            places_there[usize::from(*place)] = *record;
            *place += 1;
        }
        block.copy_from_slice(&sorted[..block.len()]);
    }

    fn next_block(&mut self, reply: &mut Reply<'_>) -> Step {
        self.block += BLOCK.min(self.length - self.block);
        (self.start, self.end, self.from, self.in_order) = (0, 0, 0, false);
        if self.block == self.length {
            return self.answer(0, reply);
        }
        self.go(Phase::Run)
    }

    fn answer(&self, partition: u16, reply: &mut Reply<'_>) -> Step {
        let answer = Answer {
            done: self.block.into(),
            partition: partition.into(),
            reserved: 0.into(),
            records: self.records.into(),
        };
        match reply.append(answer.as_bytes()) {
            Ok(()) => Step::DONE,
            Err(full) => full.into(),
        }
    }

    /// How many records the run has.
    fn count(&self) -> u64 {
        u64::from((self.end - self.start) / u32::from(self.shape.record_bytes))
    }

    /// Does what a phase is for.
    fn go(&mut self, phase: Phase) -> Step {
        if phase != self.phase {
            self.retries = 0;
        }
        self.phase = phase;
        match phase {
            Phase::Payload => Step::HoldPayload,
            Phase::Header => {
                Step::Fetch(Extent::named(self.region, self.header, HEADER_BYTES as u32))
            }
            Phase::Run => Step::Arrange { offset: self.block },
            Phase::Look => Step::Fetch(self.counter(0)),
            Phase::Reserve => Step::CompareSwap {
                at: self.counter(0),
                expected: self.place,
                desired: self.place + self.count(),
            },
            Phase::Store => {
                let place = self.shape.place(self.partition, self.place);
                let at = self.found(place, self.end - self.start);
                Step::StoreHeld { offset: self.block + self.start, at }
            }
            Phase::Count => Step::FetchAdd { at: self.counter(8), addend: self.count() },
        }
    }

    /// One of the run's partition's counters.
    fn counter(&self, which: u64) -> Extent {
        self.found(self.shape.counters(self.partition) + which, 8)
    }

    /// A place behind the header.
    fn found(&self, offset: u64, length: u32) -> Extent {
        let address = self.header.wrapping_add(offset);
        Extent::followed(Pointer { region: self.region, address }, length)
    }
}

/// From a place on, the first of which something does not hold that holds up to there.
fn partition_point(from: usize, to: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut from, mut to) = (from, to);
    while from < to {
        let middle = from + (to - from) / 2;
        if holds(middle) { from = middle + 1 } else { to = middle }
    }
    from
}
