//! The program.

use nic_wire::{KernelId, Status};

use super::layout::{Arguments, Comparison, Field, Kind, PART_BYTES_MAX, RECORD_BYTES_MAX};
use super::validate::NUMBER_BYTES;
use crate::kernel::{BadArguments, Call, Continuation, Event, Extent, Kernel, Step};
use crate::reply::Reply;
use crate::{FETCH_BYTES_MAX, GATHER_BYTES_MAX};

const _: () = assert!(PART_BYTES_MAX as usize + Arguments::BYTES <= GATHER_BYTES_MAX);

/// How many records a step looks at, at the most (start): a step costs the more the more there are.
const RECORDS_PER_STEP: u32 = 256;

/// Scans a range of records.
#[derive(Clone, Copy, Debug)]
pub struct Scan {
    /// As they came; the address is that of the first record not looked at yet, the count that of
    /// those left.
    rest: Arguments,
    field: Field,
    part: Field,
    comparison: Comparison,
    kind: Kind,
    region: u8,
    /// How many bytes of rows the reply has room for, beside a continuation.
    room: u16,
    matched: u64,
    /// An `i128` as bytes: its alignment would be that of every op's slot, which costs lookups.
    number: [u8; 16],
}

const _: () = assert!(align_of::<Scan>() <= 8);

impl Kernel for Scan {
    const ID: KernelId = KernelId::SCAN;
    const IS_BUILT_IN: bool = true;

    #[inline]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let arguments = Arguments::decode(call.arguments)?;
        let record_bytes = arguments.record_bytes.get();
        if !(1..=RECORD_BYTES_MAX).contains(&record_bytes) {
            return Err(BadArguments::Value { field: "record_bytes" });
        }
        if arguments.signed > 3 || arguments.reserved.get() != 0 {
            return Err(BadArguments::Value { field: "signed" });
        }
        let length = u64::from(arguments.count.get()) * u64::from(record_bytes);
        if arguments.address.get().checked_add(length).is_none() {
            return Err(BadArguments::Value { field: "count" });
        }
        let (field, comparison) = arguments.field()?;
        let (kind, part) = arguments.part()?;
        let least = match kind {
            Kind::Rows => u32::from(arguments.part_length.get()),
            _ => NUMBER_BYTES as u32,
        };
        let continuation = Arguments::BYTES as u32;
        call.reply_fits(least + continuation)?;
        // At most 512.
        let room = (call.reply_capacity.min(GATHER_BYTES_MAX as u32) - continuation) as u16;
        let region = call.region(arguments.region.get())?;
        let (rest, matched, number) = (arguments, 0, [0; 16]);
        Ok(Scan { rest, field, part, comparison, kind, region, room, matched, number })
    }

    #[inline]
    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        match event {
            Event::Start => self.go_on(reply),
            Event::Fetched(bytes) => match self.look(bytes, reply) {
                Ok(()) => self.go_on(reply),
                Err(step) => step,
            },
            _ => Step::UNEXPECTED,
        }
    }

    fn resume_point(&self) -> Option<Continuation> {
        Some(Continuation::new(&self.rest.encode()))
    }
}

impl Scan {
    /// Fetches the next records, or ends.
    #[inline]
    fn go_on(&self, reply: &mut Reply<'_>) -> Step {
        // The reply has what was found so far at every moment, so that the scan may be stopped.
        if self.kind != Kind::Rows {
            reply.clear();
            let matched = self.matched.to_le_bytes();
            let number = self.number;
            if let Err(full) = reply.append(&matched).and_then(|()| reply.append(&number)) {
                return full.into();
            }
        }
        let left = self.rest.count.get();
        if left == 0 {
            return Step::DONE;
        }
        let record_bytes = u32::from(self.rest.record_bytes.get());
        let count = left.min(FETCH_BYTES_MAX as u32 / record_bytes).min(RECORDS_PER_STEP);
        let address = self.rest.address.get();
        Step::Fetch(Extent::named(self.region, address, count * record_bytes))
    }

    /// Looks at records; an error is the end of the scan.
    #[inline]
    fn look(&mut self, bytes: &[u8], reply: &mut Reply<'_>) -> Result<(), Step> {
        let value = self.rest.value.get();
        let value = if self.field.signed { i128::from(value as i64) } else { i128::from(value) };
        let record_bytes = usize::from(self.rest.record_bytes.get());
        let mut seen = 0;
        let mut full = false;
        for record in bytes.chunks_exact(record_bytes) {
            let matches = self.comparison == Comparison::Always
                || self.comparison.holds(self.field.of(record), value);
            if matches {
                full = self.kind == Kind::Rows && !self.add_row(record, reply)?;
                if full {
                    break;
                }
                self.matched += 1;
                self.add_number(record);
            }
            seen += 1;
        }
        self.rest.address = (self.rest.address.get() + seen * record_bytes as u64).into();
        // A fetch never has more than are left.
        self.rest.count = self.rest.count.get().saturating_sub(seen as u32).into();
        if !full {
            return Ok(());
        }
        Err(match reply.append(&self.rest.encode()) {
            Ok(()) => Step::fail(Status::Continues),
            Err(full) => full.into(),
        })
    }

    /// Adds a row to the reply; whether it had room.
    #[inline]
    fn add_row(&self, record: &[u8], reply: &mut Reply<'_>) -> Result<bool, Step> {
        let length = usize::from(self.rest.part_length.get());
        if reply.len() + length > usize::from(self.room) {
            return Ok(false);
        }
        let start = usize::from(self.part.offset);
        let row = record.get(start..start + length).ok_or(Step::UNEXPECTED)?;
        reply.append(row)?;
        Ok(true)
    }

    #[inline]
    fn add_number(&mut self, record: &[u8]) {
        let is_first = self.matched == 1;
        let (old, new) = (i128::from_le_bytes(self.number), self.part.of(record));
        let number = match self.kind {
            Kind::Count | Kind::Rows => return,
            // Of 2^32 words of 64 bits there is no sum that does not fit.
            Kind::Sum => old + new,
            Kind::Least | Kind::Greatest if is_first => new,
            Kind::Least => old.min(new),
            Kind::Greatest => old.max(new),
        };
        self.number = number.to_le_bytes();
    }
}
