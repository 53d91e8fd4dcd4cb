//! The program.

use nic_wire::{KernelId, Status};
use zerocopy::IntoBytes;

use super::layout::{
    Answer, Arguments, BLOCK, HEADER_BYTES, HeaderLayout, RECORD_BYTES_MAX, Shape,
};
use crate::TRANSFER_BYTES_MAX;
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Pointer, Step};
use crate::reply::Reply;

/// How often a refused access to what is reserved is tried again.
const RETRIES_MAX: u8 = 16;
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
    /// The run is given a place.
    Reserve,
    // From here to Count the run is reserved and not counted.
    /// It has none: that is taken back.
    Return,
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
        let partition_of = |record: &[u8]| self.shape.partition_of(record);
        let left_out = |record: &&[u8]| partition_of(record) < self.from;
        let skipped = block[self.end as usize..].chunks_exact(size).take_while(left_out).count();
        self.start = self.end + (skipped * size) as u32;
        let mut rest = block[self.start as usize..].chunks_exact(size);
        self.partition = rest.clone().next().map_or(0, partition_of);
        let is_same = |record: &&[u8]| partition_of(record) == self.partition;
        let count = rest.by_ref().take_while(is_same).count();
        self.end = self.start + (count * size) as u32;
        seen + self.end - self.start
    }

    #[inline]
    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        match (event, self.phase) {
            (Event::Start, _) => Step::HoldPayload,
            (Event::Held, Phase::Payload) => self.go(Phase::Header),
            (Event::Fetched(bytes), Phase::Header) => self.begin_runs(bytes, reply),
            (Event::Arranged, Phase::Run) if self.start == self.end => self.next_block(reply),
            (Event::Arranged, Phase::Run) => self.go(Phase::Reserve),
            (Event::Old(reserved), Phase::Reserve) => {
                self.place = reserved;
                let end = reserved.checked_add(self.count());
                match end.is_some_and(|end| end <= self.shape.capacity) {
                    true => self.go(Phase::Store),
                    false => self.go(Phase::Return),
                }
            }
            (Event::Old(_), Phase::Return) => self.answer(self.partition, reply),
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
        matches!(self.phase, Phase::Return | Phase::Store | Phase::Count)
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

    /// Puts a block's records in the order of their partitions; those of one stay as they are.
    fn sort(&self, block: &mut [u8]) {
        let size = usize::from(self.shape.record_bytes);
        let (mut partitions, mut places) = ([0_u8; RECORDS_MAX], [0_u16; PARTITIONS_MAX]);
        for (record, partition) in block.chunks_exact(size).zip(&mut partitions) {
            // Below 256.
            *partition = self.shape.partition_of(record) as u8;
            places[usize::from(*partition)] += 1;
        }
        let mut before = 0;
        for place in &mut places[..usize::from(self.shape.count())] {
            (*place, before) = (before, before + *place);
        }
        let mut sorted = [0; BLOCK as usize];
        for (record, partition) in block.chunks_exact(size).zip(partitions) {
            let place = &mut places[usize::from(partition)];
            let at = usize::from(*place) * size;
            sorted[at..at + size].copy_from_slice(record);
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
            Phase::Reserve => Step::FetchAdd { at: self.counter(0), addend: self.count() },
            Phase::Return => {
                Step::FetchAdd { at: self.counter(0), addend: self.count().wrapping_neg() }
            }
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
