//! The program.

use nic_wire::{Fate, KernelId, Span, Status};
use zerocopy::IntoBytes;

use super::layout::{Arguments, REPLY_BYTES, ReplyLayout};
use crate::TRANSFER_BYTES_MAX;
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Pointer, Step};
use crate::log::layout::{
    ALIGNMENT, HEADER_BYTES, Header, Kind, RECORD_HEADER_BYTES, RecordHeader, TAIL, WATERMARK,
    payload_bytes_max, record_bytes, state, to_ring_end,
};
use crate::reply::Reply;

/// How often a header that is not in order is read again, and a refused access tried again.
const RETRIES_MAX: u8 = 16;
/// How many records of others an append takes along.
const HELPS_MAX: u8 = 64;

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The payload comes.
    Payload,
    /// Whether the record could be flushed is asked.
    Check,
    /// The log's header is read.
    Header,
    /// The tail is moved.
    Reserve,
    // From here to Mark the record is reserved and not whole.
    /// The length of what is left before the ring's end is stored.
    GapLength,
    /// It is marked as whole.
    GapMark,
    /// The record's length, checksum and tag are stored.
    Words,
    /// Its payload is placed.
    Place,
    /// The length of a record to be skipped is stored, in its stead.
    SkipLength,
    /// The record is marked as whole.
    Mark,
    // From here on the record is everybody's.
    /// The watermark is moved from `at` to `next`.
    Commit,
    /// The record at `at`, where the watermark is, is looked at.
    Look,
    /// The watermark is elsewhere only when somebody before has come to an end.
    Wait,
    /// The record is written to the region's file.
    Flush,
}

/// Appends a record to a log.
#[derive(Clone, Copy, Debug)]
pub struct Append {
    log: u64,
    checksum: u64,
    tag: u64,
    capacity: u64,
    /// What is reserved, and where in it the record begins: behind what is left before the ring's
    /// end.
    start: u64,
    record: u64,
    end: u64,
    /// Where the watermark is, or was when it was last looked at.
    at: u64,
    /// Where it goes.
    next: u64,
    length: u32,
    region: u8,
    phase: Phase,
    retries: u8,
    helps: u8,
    /// Whether the record is to be in the region's file before the op ends.
    persists: bool,
    /// Why the record is one to be skipped.
    failed: Option<Status>,
}

impl Kernel for Append {
    const ID: KernelId = KernelId::APPEND;
    const IS_BUILT_IN: bool = true;

    #[inline]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let arguments = Arguments::decode(call.arguments)?;
        call.reply_fits(REPLY_BYTES)?;
        if call.payload_length > TRANSFER_BYTES_MAX {
            return Err(BadArguments::Value { field: "payload_length" });
        }
        let log = arguments.log.get();
        if log % HEADER_BYTES != 0 {
            return Err(BadArguments::Misaligned { expected: HEADER_BYTES as u32 });
        }
        let persists = match arguments.persist.get() {
            0 => false,
            1 => true,
            _ => return Err(BadArguments::Value { field: "persist" }),
        };
        Ok(Append {
            log,
            checksum: arguments.checksum.get(),
            tag: arguments.tag.get(),
            capacity: 0,
            start: 0,
            record: 0,
            end: 0,
            at: 0,
            next: 0,
            length: call.payload_length,
            region: call.region(arguments.region.get())?,
            phase: Phase::Payload,
            retries: 0,
            helps: 0,
            persists,
            failed: None,
        })
    }

    #[inline]
    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        match (event, self.phase) {
            (Event::Start, _) => Step::HoldPayload,
            (Event::Held, Phase::Payload) if self.persists => self.go(Phase::Check),
            (Event::Held, Phase::Payload) | (Event::Fetched(_), Phase::Check) => {
                self.go(Phase::Header)
            }
            (Event::Fetched(bytes), Phase::Header) => self.reserve(bytes, reply),
            (Event::Old(tail), Phase::Reserve) if tail != self.start => self.go(Phase::Header),
            (Event::Old(_), Phase::Reserve) if self.start != self.record => {
                self.go(Phase::GapLength)
            }
            (Event::Old(_), Phase::Reserve) => self.go(Phase::Words),
            (Event::Written, Phase::GapLength) => self.go(Phase::GapMark),
            (Event::Written, Phase::GapMark) => self.go(Phase::Words),
            (Event::Written, Phase::Words) => self.go(Phase::Place),
            (Event::Payload, Phase::Place) => self.go(Phase::Mark),
            (Event::Written, Phase::SkipLength) => self.go(Phase::Mark),
            (Event::Written, Phase::Mark) => {
                (self.at, self.next) = (self.start, self.end);
                self.go(Phase::Commit)
            }
            (Event::Old(found), Phase::Commit) => {
                let is_moved = found == self.at;
                self.at = if is_moved { self.next } else { found };
                self.look(is_moved, reply)
            }
            (Event::Woken(found), Phase::Wait) => {
                self.at = found;
                self.look(false, reply)
            }
            (Event::Fetched(bytes), Phase::Look) => self.commit(bytes, reply),
            (Event::Flushed, Phase::Flush) => self.answer(0, self.record, self.end, reply),
            (Event::Refused(status), _) => self.refused(status),
            _ => Step::UNEXPECTED,
        }
    }

    fn words(&self) -> [u64; 4] {
        [self.length.into(), self.checksum, self.tag, 0]
    }

    fn fate(&self, _: bool) -> Option<Fate> {
        // A swap that was lost has changed nothing.
        let is_early = matches!(self.phase, Phase::Payload | Phase::Header | Phase::Reserve);
        is_early.then_some(Fate::NotExecuted)
    }

    #[inline]
    fn must_end(&self) -> bool {
        use Phase::{Check, Flush, Header, Payload, Reserve, Wait};
        !matches!(self.phase, Payload | Check | Header | Reserve | Wait | Flush)
    }
}

impl Append {
    /// Reserves what the record takes, if it fits.
    fn reserve(&mut self, bytes: &[u8], reply: &mut Reply<'_>) -> Step {
        let Some(header) = Header::parse(bytes) else { return Step::fail(Status::BadArguments) };
        if !header.is_in_order() {
            self.retries += 1;
            return match self.retries {
                RETRIES_MAX.. => Step::fail(Status::BadPointer),
                _ => self.go(Phase::Header),
            };
        }
        let (head, tail) = (header.head.get(), header.tail.get());
        self.capacity = header.capacity.get();
        if u64::from(self.length) > payload_bytes_max(self.capacity) {
            return self.answer(2, tail, head, reply);
        }
        let size = record_bytes(self.length);
        let to_end = to_ring_end(tail, self.capacity);
        let gap = if size > to_end { to_end } else { 0 };
        (self.start, self.record, self.end) = (tail, tail + gap, tail + gap + size);
        if self.end - head > self.capacity {
            return self.answer(1, tail, head, reply);
        }
        self.retries = 0;
        self.go(Phase::Reserve)
    }

    /// The watermark is at `at`: looks whether it can be moved further, if it has not passed the
    /// record yet or was moved by this op.
    fn look(&mut self, is_moved: bool, reply: &mut Reply<'_>) -> Step {
        self.retries = 0;
        if self.at >= self.end {
            let is_enough = !is_moved || self.helps == HELPS_MAX;
            self.helps += 1;
            if is_enough {
                return self.finish(reply);
            }
        }
        if !self.at.is_multiple_of(ALIGNMENT) {
            return Step::abandon(Status::BadPointer);
        }
        self.go(Phase::Look)
    }

    /// Moves the watermark over the record that is there, if it is whole.
    fn commit(&mut self, bytes: &[u8], reply: &mut Reply<'_>) -> Step {
        let found = RecordHeader::parse(bytes, self.at);
        if self.at >= self.end && found.is_none() {
            return self.finish(reply);
        }
        let Some((_, size)) = found else { return self.go(Phase::Wait) };
        // Nothing reaches into what this op has reserved, and nothing over the ring's end.
        let most = match self.at {
            at if at < self.start => self.start,
            at if at < self.end => self.end,
            _ => u64::MAX,
        };
        if size > to_ring_end(self.at, self.capacity) || size > most - self.at {
            return Step::abandon(Status::BadPointer);
        }
        self.next = self.at + size;
        self.go(Phase::Commit)
    }

    /// Memory has refused the last step. What is reserved must become whole, even if as a record
    /// to be skipped; a memory that is gone has no log any more.
    fn refused(&mut self, status: Status) -> Step {
        if status != Status::TransferFailed {
            return Step::abandon(status);
        }
        if self.retries < RETRIES_MAX {
            self.retries += 1;
            return self.go(self.phase);
        }
        match self.phase {
            Phase::Words | Phase::Place => {
                self.failed = Some(status);
                self.retries = 0;
                self.go(Phase::SkipLength)
            }
            _ => Step::abandon(status),
        }
    }

    /// The record is everybody's.
    fn finish(&mut self, reply: &mut Reply<'_>) -> Step {
        match self.failed {
            Some(status) => Step::abandon(status),
            None if self.persists => self.go(Phase::Flush),
            None => self.answer(0, self.record, self.end, reply),
        }
    }

    fn answer(&self, outcome: u32, position: u64, next: u64, reply: &mut Reply<'_>) -> Step {
        let answer = ReplyLayout {
            outcome: outcome.into(),
            reserved: 0.into(),
            position: position.into(),
            next: next.into(),
            capacity: self.capacity.into(),
        };
        match reply.append(answer.as_bytes()) {
            Ok(()) => Step::DONE,
            Err(full) => full.into(),
        }
    }

    /// Does what a phase is for.
    fn go(&mut self, phase: Phase) -> Step {
        self.phase = phase;
        match phase {
            Phase::Payload => Step::HoldPayload,
            Phase::Check => {
                Step::MayFlush(Extent::named(self.region, self.log, HEADER_BYTES as u32))
            }
            Phase::Header => Step::Fetch(Extent::named(self.region, self.log, HEADER_BYTES as u32)),
            Phase::Reserve => Step::CompareSwap {
                at: self.log_word(TAIL),
                expected: self.start,
                desired: self.end,
            },
            Phase::GapLength => self.store_length(self.start, self.record - self.start),
            Phase::GapMark => {
                Step::Store { at: self.part(self.start, 0, 8), word: state(self.start, Kind::Skip) }
            }
            Phase::Words => Step::StoreWords(self.part(self.record, 8, 24)),
            Phase::Place => {
                Step::StorePayload(self.part(self.record, RECORD_HEADER_BYTES, self.length))
            }
            Phase::SkipLength => self.store_length(self.record, self.end - self.record),
            Phase::Mark => {
                let kind = if self.failed.is_none() { Kind::Data } else { Kind::Skip };
                let word = state(self.record, kind);
                Step::Store { at: self.part(self.record, 0, 8), word }
            }
            Phase::Commit => Step::CompareSwap {
                at: self.log_word(WATERMARK),
                expected: self.at,
                desired: self.next,
            },
            Phase::Look => Step::Fetch(self.part(self.at, 0, RECORD_HEADER_BYTES as u32)),
            Phase::Wait => {
                Step::Await { word: self.log_word(WATERMARK), unlike: self.at, at_most: Span::MAX }
            }
            // It is at most as long as the longest payload and a header.
            Phase::Flush => Step::Flush(self.part(self.record, 0, (self.end - self.record) as u32)),
        }
    }

    /// Stores the length of a record to be skipped that takes so many bytes.
    fn store_length(&self, position: u64, bytes: u64) -> Step {
        let word = bytes - RECORD_HEADER_BYTES;
        Step::Store { at: self.part(position, 8, 8), word: word.min(u32::MAX.into()) }
    }

    fn log_word(&self, offset: u64) -> Extent {
        Extent::named(self.region, self.log.wrapping_add(offset), 8)
    }

    /// A part of the record at a position.
    fn part(&self, position: u64, offset: u64, length: u32) -> Extent {
        let place = HEADER_BYTES + position % self.capacity + offset;
        let at = Pointer { region: self.region, address: self.log.wrapping_add(place) };
        Extent::followed(at, length)
    }
}
