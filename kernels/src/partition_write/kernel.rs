//! The program.

use nic_wire::{KernelId, Status};
use zerocopy::IntoBytes;

use super::layout::{
    Answer, Arguments, COUNTERS_BYTES, HEADER_BYTES, HeaderLayout, PARTITIONS_MAX,
    RECORD_BYTES_MAX, Shape,
};
use super::lots::{BLOCK, Lot, Lots, UNIT, first, lots, sort};
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Pointer, Run, Step};
use crate::reply::Reply;
use crate::{ARRANGED_BLOCKS, TRANSFER_BYTES_MAX};

/// How often a refused access to what is reserved is tried again.
const RETRIES_MAX: u8 = 16;
/// How often an op asks for places, others having been faster: then it says how far it came.
const ATTEMPTS_MAX: u16 = PARTITIONS_MAX as u16 + 2_000;

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The payload comes.
    Payload,
    /// The header is read.
    Header,
    /// The last word of the last partition is read: all of them are there.
    Room,
    /// A block is put in order, and what it has is counted.
    Arrange,
    /// What the partitions have is read.
    Look,
    // From the first place that was given to the end of Count some is reserved and not counted.
    /// A partition's records are given a place behind what it has.
    Reserve,
    /// Those of a block are stored.
    Store,
    /// Those of a partition are counted.
    Count,
}

/// Distributes records over partitions.
#[derive(Clone, Copy, Debug)]
pub struct PartitionWrite {
    header: u64,
    /// How many records are counted.
    records: u64,
    shape: Shape,
    length: u32,
    /// Where the block begins in the payload, and the run that is being stored in the block.
    block: u32,
    start: u32,
    end: u32,
    /// How often a place was asked for.
    attempts: u16,
    /// Records of partitions from here to there are written.
    from: u16,
    until: u16,
    /// The one that is reserved, stored or counted.
    partition: u16,
    region: u8,
    phase: Phase,
    retries: u8,
    /// Something is reserved.
    has_reserved: bool,
}

impl Kernel for PartitionWrite {
    const ID: KernelId = KernelId::PARTITION_WRITE;
    const IS_BUILT_IN: bool = true;
    const HAS_PRIVATE: bool = true;

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
            attempts: 0,
            from: arguments.from_partition.get(),
            until: 0,
            partition: 0,
            region: call.region(arguments.region.get())?,
            phase: Phase::Payload,
            retries: 0,
            has_reserved: false,
        })
    }

    fn step(&mut self, _: Event<'_>, _: &mut Reply<'_>) -> Step {
        Step::UNEXPECTED
    }

    fn step_privately(
        &mut self,
        event: Event<'_>,
        reply: &mut Reply<'_>,
        private: &mut [u8],
    ) -> Step {
        if (event, self.phase) == (Event::Start, Phase::Payload) {
            return Step::HoldPayload;
        }
        let Some(lots) = lots(private) else { return Step::UNEXPECTED };
        if let Event::Refused(status) = event {
            return self.refused(status, lots);
        }
        self.retries = 0;
        match (event, self.phase) {
            (Event::Held, Phase::Payload) => self.go(Phase::Header, lots),
            (Event::Fetched(bytes), Phase::Header) => self.take_header(bytes, lots, reply),
            (Event::Fetched(_), Phase::Room) => self.go(Phase::Arrange, lots),
            (Event::Arranged, Phase::Arrange) => {
                let next = if self.next_block(UNIT) { Phase::Arrange } else { Phase::Look };
                self.go(next, lots)
            }
            (Event::Fetched(bytes), Phase::Look) => self.take_counters(bytes, lots, reply),
            (Event::Old(reserved), Phase::Reserve) => self.reserved(reserved, lots, reply),
            (Event::Written, Phase::Store) => self.stored(lots, reply),
            (Event::Old(_), Phase::Count) => {
                self.records += u64::from(self.lot(lots).count.get());
                self.partition += 1;
                self.count(lots, reply)
            }
            _ => Step::UNEXPECTED,
        }
    }

    fn arrange(&mut self, blocks: &mut [&mut [u8]; ARRANGED_BLOCKS], private: &mut [u8]) -> u32 {
        if let Some(lots) = lots(private) {
            sort(&self.shape, blocks, lots);
        }
        2 * blocks.iter().map(|block| block.len() as u32).sum::<u32>()
    }

    fn next_run(&mut self, block: &[u8], private: &mut [u8]) -> Option<Run> {
        let (shape, lots, shift) = (self.shape, lots(private)?, self.shape.record_shift());
        if self.end > self.start {
            // The one before is stored.
            self.lot(lots).advance((self.end - self.start) >> shift);
        }
        let partition_at = |place: usize| {
            let record = block.get(place << shift..).unwrap_or_default();
            shape.partition_of(record)
        };
        let (records, start) = (block.len() >> shift, self.end as usize >> shift);
        let start = match start {
            0 => first(0, records, 1, |place| partition_at(place) >= self.from),
            start => start,
        };
        let partition = if start < records { partition_at(start) } else { self.until };
        if partition >= self.until {
            self.start = block.len() as u32;
            self.end = self.start;
            return None;
        }
        let usual = UNIT >> shift >> shape.bits;
        let end = first(start + 1, records, usual, |place| partition_at(place) > partition);
        (self.start, self.end) = ((start << shift) as u32, (end << shift) as u32);
        self.partition = partition;
        let place = shape.place(partition, self.lot(lots).place.get());
        let address = self.header.wrapping_add(place);
        Some(Run { start: self.start, length: self.end - self.start, address })
    }

    #[inline]
    fn must_end(&self) -> bool {
        self.has_reserved
    }
}

impl PartitionWrite {
    /// Takes the header.
    fn take_header(&mut self, bytes: &[u8], lots: &mut Lots, reply: &mut Reply<'_>) -> Step {
        let Some(shape) = HeaderLayout::shape(bytes) else {
            return Step::fail(Status::BadArguments);
        };
        self.shape = shape;
        self.until = shape.count();
        let end = shape.bytes().and_then(|bytes| self.header.checked_add(bytes));
        let fits = self.length.is_multiple_of(shape.record_bytes.into())
            && self.from < self.until
            && end.is_some();
        if !fits {
            return Step::fail(Status::BadArguments);
        }
        if self.length == 0 {
            return self.answer(reply);
        }
        self.go(Phase::Room, lots)
    }

    /// Goes on so many bytes. Whether there are any; if not, the first block comes next.
    fn next_block(&mut self, bytes: usize) -> bool {
        self.block += bytes as u32;
        let is_there = self.block < self.length;
        if !is_there {
            self.block = 0;
        }
        (self.start, self.end) = (0, 0);
        is_there
    }

    /// Takes what the partitions have.
    fn take_counters(&mut self, bytes: &[u8], lots: &mut Lots, reply: &mut Reply<'_>) -> Step {
        let (counters, _) = bytes.as_chunks::<{ COUNTERS_BYTES as usize }>();
        for (lot, counters) in lots.iter_mut().zip(counters) {
            let (words, _) = counters.as_chunks();
            lot.place = u64::from_le_bytes(words[0]).into();
        }
        self.partition = self.from;
        self.reserve(lots, reply)
    }

    /// The partition had so many. If that is what was known, the op's own have their place now.
    fn reserved(&mut self, reserved: u64, lots: &mut Lots, reply: &mut Reply<'_>) -> Step {
        let lot = self.lot(lots);
        if lot.place.get() == reserved {
            self.has_reserved = true;
            self.partition += 1;
        } else {
            // Another op was faster.
            lot.place = reserved.into();
        }
        self.reserve(lots, reply)
    }

    /// Asks for a place in the next partition, for all that the op has for it. Where they do not
    /// fit, neither that partition nor those behind it get any.
    fn reserve(&mut self, lots: &mut Lots, reply: &mut Reply<'_>) -> Step {
        if self.seek(lots) {
            self.attempts += 1;
            let fits = self.lot(lots).end().is_some_and(|end| end <= self.shape.capacity);
            if fits && self.attempts <= ATTEMPTS_MAX {
                return self.go(Phase::Reserve, lots);
            }
            self.until = self.partition;
        }
        if !self.has_reserved {
            return self.answer(reply);
        }
        self.go(Phase::Store, lots)
    }

    /// Some runs of the block are stored.
    fn stored(&mut self, lots: &mut Lots, reply: &mut Reply<'_>) -> Step {
        let block = (self.length - self.block).min(BLOCK as u32);
        if self.start < block || self.next_block(BLOCK) {
            return self.go(Phase::Store, lots);
        }
        self.partition = self.from;
        self.count(lots, reply)
    }

    /// Counts what the next partition got.
    fn count(&mut self, lots: &mut Lots, reply: &mut Reply<'_>) -> Step {
        if self.seek(lots) { self.go(Phase::Count, lots) } else { self.answer(reply) }
    }

    /// Memory refused the last step. Others may have reserved behind it: nothing can be given back.
    fn refused(&mut self, status: Status, lots: &mut Lots) -> Step {
        if status != Status::TransferFailed || self.retries == RETRIES_MAX {
            return Step::abandon(status);
        }
        self.retries += 1;
        // The run was not stored.
        self.end = self.start;
        self.go(self.phase, lots)
    }

    fn answer(&self, reply: &mut Reply<'_>) -> Step {
        let is_done = self.until == self.shape.count();
        let answer = Answer::new((!is_done).then_some(self.until), self.records);
        match reply.append(answer.as_bytes()) {
            Ok(()) => Step::DONE,
            Err(full) => full.into(),
        }
    }

    /// Does what a phase is for.
    fn go(&mut self, phase: Phase, lots: &mut Lots) -> Step {
        self.phase = phase;
        match phase {
            Phase::Payload => Step::HoldPayload,
            Phase::Header => {
                Step::Fetch(Extent::named(self.region, self.header, HEADER_BYTES as u32))
            }
            Phase::Room => {
                // Shapes that make sense have a length.
                let end = self.shape.bytes().unwrap_or(u64::MAX);
                Step::Fetch(self.found(end - 8, 8))
            }
            Phase::Arrange => Step::Arrange { offset: self.block },
            Phase::Look => {
                let length = COUNTERS_BYTES as u32 * u32::from(self.shape.count());
                Step::Fetch(self.found(HEADER_BYTES, length))
            }
            Phase::Reserve => {
                let (at, lot) = (self.counter(0), self.lot(lots));
                let expected = lot.place.get();
                Step::CompareSwap { at, expected, desired: expected + u64::from(lot.count.get()) }
            }
            Phase::Store => Step::StoreRuns { offset: self.block, region: self.region },
            Phase::Count => {
                Step::FetchAdd { at: self.counter(8), addend: self.lot(lots).count.get().into() }
            }
        }
    }

    /// Goes to the next partition that the op has records for. Whether there is one.
    fn seek(&mut self, lots: &Lots) -> bool {
        let left = &lots[usize::from(self.partition)..usize::from(self.until)];
        let empty = left.iter().take_while(|lot| lot.count.get() == 0).count();
        // At most as many as there are partitions.
        self.partition += empty as u16;
        self.partition < self.until
    }

    /// What the op has for the partition.
    fn lot<'a>(&self, lots: &'a mut Lots) -> &'a mut Lot {
        &mut lots[usize::from(self.partition)]
    }

    /// One of the partition's counters.
    fn counter(&self, which: u64) -> Extent {
        self.found(self.shape.counters(self.partition) + which, 8)
    }

    /// A place behind the header.
    fn found(&self, offset: u64, length: u32) -> Extent {
        let address = self.header.wrapping_add(offset);
        Extent::followed(Pointer { region: self.region, address }, length)
    }
}
