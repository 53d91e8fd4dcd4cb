//! The program.

use nic_wire::{KernelId, Status};

use super::layout::{Arguments, HEADER_BYTES, PRECISION_MAX, PRECISION_MIN, header, place};
use crate::TRANSFER_BYTES_MAX;
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Step};
use crate::reply::Reply;

/// How many registers are merged at a time, at the most.
const CHUNK: usize = 64;

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The values come.
    Values,
    /// The sketch's header is read.
    Header,
    /// A chunk of the op's own registers is looked at.
    Own,
    /// The same of the sketch is read.
    Sketch,
    /// A word of it is replaced.
    Raise,
}

/// Stores values and counts the different ones.
#[derive(Clone, Copy, Debug)]
pub struct SketchWrite {
    data: u64,
    sketch: u64,
    length: u32,
    raised: u32,
    /// The register that the chunk begins with.
    first: u16,
    region: u8,
    precision: u8,
    phase: Phase,
    /// The word of the chunk that is replaced.
    word: u8,
    /// The op's registers of the chunk, and the sketch's as they were seen.
    own: [[u8; 8]; CHUNK / 8],
    seen: [[u8; 8]; CHUNK / 8],
}

impl Kernel for SketchWrite {
    const ID: KernelId = KernelId::SKETCH_WRITE;
    const IS_BUILT_IN: bool = true;

    #[inline]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let arguments = Arguments::decode(call.arguments)?;
        call.reply_fits(8)?;
        let precision = match u8::try_from(arguments.precision.get()) {
            Ok(precision @ PRECISION_MIN..=PRECISION_MAX) => precision,
            _ => return Err(BadArguments::Value { field: "precision" }),
        };
        if arguments.reserved.get() != 0 {
            return Err(BadArguments::Value { field: "reserved" });
        }
        let length = call.payload_length;
        if !length.is_multiple_of(8) || length > TRANSFER_BYTES_MAX {
            return Err(BadArguments::Value { field: "payload_length" });
        }
        if !arguments.sketch.get().is_multiple_of(HEADER_BYTES) {
            return Err(BadArguments::Misaligned { expected: HEADER_BYTES as u32 });
        }
        Ok(SketchWrite {
            data: arguments.data.get(),
            sketch: arguments.sketch.get(),
            length,
            raised: 0,
            first: 0,
            region: call.region(arguments.region.get())?,
            precision,
            phase: Phase::Values,
            word: 0,
            own: [[0; 8]; CHUNK / 8],
            seen: [[0; 8]; CHUNK / 8],
        })
    }

    fn tap(&mut self, offset: u32, part: &[u8], own: &mut [u8]) -> Result<(), BadArguments> {
        let (values, rest) = part.as_chunks::<8>();
        if !offset.is_multiple_of(8) || !rest.is_empty() {
            return Err(BadArguments::Misaligned { expected: 8 });
        }
        for value in values {
            let (register, rank) = place(value, self.precision);
            own[register] = own[register].max(rank);
        }
        Ok(())
    }

    #[inline]
    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        match (event, self.phase) {
            (Event::Start, _) => {
                Step::TapPayload(Extent::named(self.region, self.data, self.length))
            }
            (Event::Payload, Phase::Values) => {
                self.phase = Phase::Header;
                Step::Fetch(Extent::named(self.region, self.sketch, 16))
            }
            (Event::Fetched(bytes), Phase::Header) => {
                let (words, _) = bytes.as_chunks::<8>();
                let expected = header(self.precision).map(u64::to_le_bytes);
                if words != expected { Step::abandon(Status::BadArguments) } else { self.peek() }
            }
            (Event::Fetched(bytes), Phase::Own) => {
                if !copy(bytes, &mut self.own) {
                    return self.next_chunk(reply);
                }
                self.phase = Phase::Sketch;
                let address = self.address(0);
                Step::Fetch(Extent::named(self.region, address, self.chunk() as u32))
            }
            (Event::Fetched(bytes), Phase::Sketch) => {
                copy(bytes, &mut self.seen);
                (self.phase, self.word) = (Phase::Raise, 0);
                self.raise(reply)
            }
            (Event::Old(found), Phase::Raise) => {
                let (seen, own) = self.word();
                let found = found.to_le_bytes();
                if found == *seen {
                    let grown = seen.iter().zip(own).filter(|(seen, own)| *own > *seen).count();
                    self.raised += grown as u32;
                    self.word += 1;
                } else {
                    self.seen[usize::from(self.word)] = found;
                }
                self.raise(reply)
            }
            _ => Step::UNEXPECTED,
        }
    }
}

impl SketchWrite {
    /// Looks at the next of the op's own registers.
    fn peek(&mut self) -> Step {
        self.phase = Phase::Own;
        Step::Peek { offset: self.first.into(), length: self.chunk() as u32 }
    }

    fn next_chunk(&mut self, reply: &mut Reply<'_>) -> Step {
        // At most 2^12.
        self.first += self.chunk() as u16;
        if self.first < 1 << self.precision {
            return self.peek();
        }
        match reply.append(&u64::from(self.raised).to_le_bytes()) {
            Ok(()) => Step::DONE,
            Err(full) => full.into(),
        }
    }

    /// Replaces the next word of the chunk that grows.
    fn raise(&mut self, reply: &mut Reply<'_>) -> Step {
        while usize::from(self.word) < self.chunk() / 8 {
            let (seen, own) = self.word();
            let mut merged = *seen;
            merged.iter_mut().zip(own).for_each(|(merged, own)| *merged = (*merged).max(*own));
            if merged != *seen {
                let address = self.address(u64::from(self.word) * 8);
                return Step::CompareSwap {
                    at: Extent::named(self.region, address, 8),
                    expected: u64::from_le_bytes(*seen),
                    desired: u64::from_le_bytes(merged),
                };
            }
            self.word += 1;
        }
        self.next_chunk(reply)
    }

    fn word(&self) -> (&[u8; 8], &[u8; 8]) {
        (&self.seen[usize::from(self.word)], &self.own[usize::from(self.word)])
    }

    /// How many registers a chunk has.
    fn chunk(&self) -> usize {
        CHUNK.min(1 << self.precision)
    }

    /// Where the chunk lies in the region, `offset` bytes into it.
    fn address(&self, offset: u64) -> u64 {
        self.sketch.wrapping_add(HEADER_BYTES + u64::from(self.first) + offset)
    }
}

/// Copies a chunk, and says whether there is anything in it.
fn copy(bytes: &[u8], into: &mut [[u8; 8]; CHUNK / 8]) -> bool {
    let (words, _) = bytes.as_chunks::<8>();
    into.iter_mut().zip(words).for_each(|(into, word)| *into = *word);
    words.iter().any(|word| *word != [0; 8])
}
