//! The program.

use nic_wire::{KernelId, Span, Status};
use zerocopy::IntoBytes;

use super::layout::{Arguments, Outcome, ReplyHeader};
use crate::TRANSFER_BYTES_MAX;
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Pointer, Step};
use crate::log::layout::{ALIGNMENT, HEADER_BYTES, Header, WATERMARK, to_ring_end};
use crate::reply::Reply;

/// How often a header that is not in order is read again.
const RETRIES_MAX: u8 = 16;

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The log's header is read.
    Header,
    /// It has no records yet.
    Wait,
    /// Ranges are added to the reply.
    Reply,
}

/// Reads records of a log.
#[derive(Clone, Copy, Debug)]
pub struct Fetch {
    log: u64,
    from: u64,
    /// What is to be read behind the ring's end.
    rest: u32,
    /// How many bytes of the log the reply has room for.
    room: u32,
    wait_us: u32,
    region: u8,
    phase: Phase,
    retries: u8,
}

impl Kernel for Fetch {
    const ID: KernelId = KernelId::FETCH;
    const IS_BUILT_IN: bool = true;

    #[inline]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let arguments = Arguments::decode(call.arguments)?;
        call.reply_fits(ReplyHeader::BYTES as u32)?;
        let room = call.reply_capacity.min(TRANSFER_BYTES_MAX) - ReplyHeader::BYTES as u32;
        let (log, from) = (arguments.log.get(), arguments.from.get());
        for (place, multiple) in [(log, HEADER_BYTES), (from, ALIGNMENT)] {
            if place % multiple != 0 {
                return Err(BadArguments::Misaligned { expected: multiple as u32 });
            }
        }
        if arguments.reserved.get() != 0 {
            return Err(BadArguments::Value { field: "reserved" });
        }
        Ok(Fetch {
            log,
            from,
            rest: 0,
            room: room - room % ALIGNMENT as u32,
            wait_us: arguments.wait_us.get(),
            region: call.region(arguments.region.get())?,
            phase: Phase::Header,
            retries: 0,
        })
    }

    #[inline]
    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        match (event, self.phase) {
            (Event::Start, _) => self.read_header(),
            (Event::Fetched(bytes), Phase::Header) => self.read(bytes, reply),
            (Event::Woken(_), Phase::Wait) => {
                // Once is enough: then there are records, or the time is over.
                self.wait_us = 0;
                self.read_header()
            }
            (Event::Replied { .. }, Phase::Reply) if self.rest > 0 => {
                let rest = core::mem::take(&mut self.rest);
                self.part(0, rest)
            }
            (Event::Replied { .. }, Phase::Reply) => Step::DONE,
            _ => Step::UNEXPECTED,
        }
    }
}

impl Fetch {
    fn read_header(&mut self) -> Step {
        self.phase = Phase::Header;
        Step::Fetch(Extent::named(self.region, self.log, HEADER_BYTES as u32))
    }

    fn read(&mut self, bytes: &[u8], reply: &mut Reply<'_>) -> Step {
        let Some(header) = Header::parse(bytes) else { return Step::fail(Status::BadArguments) };
        if !header.is_in_order() {
            self.retries += 1;
            return match self.retries {
                RETRIES_MAX.. => Step::fail(Status::BadPointer),
                _ => self.read_header(),
            };
        }
        let (head, watermark) = (header.head.get(), header.watermark.get());
        let (outcome, length) = match self.from {
            from if from < head => (Outcome::Trimmed, 0),
            from if from > watermark => (Outcome::Beyond, 0),
            from => (Outcome::Records, (watermark - from).min(self.room.into())),
        };
        if self.from == watermark && self.wait_us > 0 {
            self.phase = Phase::Wait;
            let word = Extent::named(self.region, self.log.wrapping_add(WATERMARK), 8);
            let at_most = Span::from_us(self.wait_us.into());
            return Step::Await { word, unlike: watermark, at_most };
        }
        // At most the room, which is 32 bits wide.
        let header_of_reply = ReplyHeader::new(outcome, length as u32, self.from, head, watermark);
        if let Err(full) = reply.append(header_of_reply.as_bytes()) {
            return full.into();
        }
        if length == 0 {
            return Step::DONE;
        }
        let capacity = header.capacity.get();
        let first = length.min(to_ring_end(self.from, capacity));
        self.rest = (length - first) as u32;
        self.phase = Phase::Reply;
        self.part(self.from % capacity, first as u32)
    }

    /// A part of the ring.
    fn part(&self, offset: u64, length: u32) -> Step {
        let address = self.log.wrapping_add(HEADER_BYTES + offset);
        let at = Pointer { region: self.region, address };
        Step::FetchToReply(Extent::followed(at, length))
    }
}
