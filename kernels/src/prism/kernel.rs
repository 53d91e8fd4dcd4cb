//! The program: one primitive after the other, each in a few steps.

use nic_wire::{Fate, KernelId, Status};

use super::layout::{
    CompareSwap, Comparison, GATHERED_BYTES_MAX, GATHERED_READ_BYTES_MAX, Operand, PRIMITIVES_MAX,
    Primitive, Target, unpack,
};
use super::validate::{HEAD_BYTES, reply_bytes};
use super::writer::{CAPACITY_OFFSET, RING_OFFSET};
use crate::ARGUMENT_BYTES_MAX;
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Origin, Pointer, Step};
use crate::reply::Reply;

/// How often a swap that lost to another is tried again (start): as many ops as want the same word
/// at once can each have it.
const TRIES_MAX: u8 = 250;

/// What the primitive under way waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaiting {
    /// Nothing.
    Nothing,
    /// The pointer to its target.
    Pointer,
    /// The bytes that it reads.
    Bytes,
    /// The last READ's range, which joins the reply.
    Range,
    /// The payload.
    Payload,
    /// That its word is stored.
    Stored,
    /// The word, to see how it compares.
    Word,
    /// The word as it was when it was swapped.
    Swapped,
    /// The free list's header.
    List,
    /// The same once more, because the list looked empty.
    ListAgain,
    /// The pointer at the list's head.
    Free,
    /// The list's head as it was when it was moved on.
    Taken,
}

/// Runs up to four primitives, each of which may depend on the one before.
#[derive(Clone, Copy, Debug)]
pub struct Prism {
    /// The arguments; they were found good.
    bytes: [u8; ARGUMENT_BYTES_MAX],
    /// What the primitive before yielded.
    output: u64,
    /// The address of the target under way.
    address: u64,
    /// What a swap under way expects, or where the free list's head was.
    expected: u64,
    /// The pointer that an allocation under way will yield.
    free: u64,
    payload_length: u32,
    /// How many bytes the target under way has at most.
    bound: u32,
    length: u8,
    /// Where in the arguments the primitive under way begins, and its number.
    at: u8,
    number: u8,
    /// A bit for each primitive.
    ran: u8,
    succeeded: u8,
    tries: u8,
    region: u8,
    home: u8,
    awaiting: Awaiting,
    is_followed: bool,
    changed: bool,
}

impl Kernel for Prism {
    const ID: KernelId = KernelId::PRISM;
    const IS_BUILT_IN: bool = true;

    #[inline]
    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let mut bytes = [0; ARGUMENT_BYTES_MAX];
        let length = call.arguments.len();
        bytes
            .get_mut(..length)
            .ok_or(BadArguments::Length { found: length, expected: ARGUMENT_BYTES_MAX })?
            .copy_from_slice(call.arguments);
        check(call)?;
        Ok(Prism {
            bytes,
            output: 0,
            address: 0,
            expected: 0,
            free: 0,
            payload_length: call.payload_length,
            bound: u32::MAX,
            length: length as u8,
            at: 0,
            number: 0,
            ran: 0,
            succeeded: 0,
            tries: 0,
            region: 0,
            home: call.home,
            awaiting: Awaiting::Nothing,
            is_followed: false,
            changed: false,
        })
    }

    #[inline]
    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        let stepped = match (event, self.awaiting) {
            (Event::Start, _) => match reply.append(&[0; HEAD_BYTES]) {
                Ok(()) => self.next(reply),
                Err(full) => Err(full.into()),
            },
            (Event::Fetched(bytes), Awaiting::Pointer) => self.point(bytes, reply),
            (Event::Fetched(bytes), Awaiting::Bytes) => self.gather(bytes, reply),
            (Event::Replied { length }, Awaiting::Range) => self.done(true, length.into(), reply),
            (Event::Payload, Awaiting::Payload) => {
                self.changed = true;
                self.done(true, self.payload_length.into(), reply)
            }
            (Event::Written, Awaiting::Stored) => {
                self.changed = true;
                self.done(true, 8, reply)
            }
            (Event::Fetched(bytes), Awaiting::Word) => match word(bytes, 0) {
                Some(found) => self.compare(found, reply),
                None => Err(Step::UNEXPECTED),
            },
            (Event::Old(found), Awaiting::Swapped) => self.swapped(found, reply),
            (Event::Fetched(bytes), Awaiting::List | Awaiting::ListAgain) => {
                self.look_at_list(bytes, reply)
            }
            (Event::Fetched(bytes), Awaiting::Free) => self.take(bytes),
            (Event::Old(found), Awaiting::Taken) => self.taken(found, reply),
            _ => Err(Step::UNEXPECTED),
        };
        match stepped {
            Ok(step) | Err(step) => step,
        }
    }

    fn fate(&self, placed: bool) -> Option<Fate> {
        // A swap that did not take place is no change.
        (!self.changed && !placed).then_some(Fate::NotExecuted)
    }
}

/// A step, or the step that ends the op.
type Stepped = Result<Step, Step>;

impl Prism {
    /// Begins the next primitive that is to run, or ends.
    fn next(&mut self, reply: &mut Reply<'_>) -> Stepped {
        while let Some((primitive, conditional)) = self.primitive() {
            let is_refuted = self.number > 0 && self.succeeded & 1 << (self.number - 1) == 0;
            if conditional && is_refuted {
                self.pass(&primitive);
                continue;
            }
            self.ran |= 1 << self.number;
            self.tries = 0;
            self.bound = u32::MAX;
            return self.start(&primitive, reply);
        }
        match reply.replace(0, &[self.ran, self.succeeded]) {
            true => Ok(Step::DONE),
            false => Err(Step::UNEXPECTED),
        }
    }

    /// The primitive under way, and whether it is conditional.
    #[inline]
    fn primitive(&self) -> Option<(Primitive, bool)> {
        let bytes = self.bytes.get(usize::from(self.at)..usize::from(self.length))?;
        if bytes.is_empty() {
            return None;
        }
        // They were parsed once, so they are parsed again.
        Primitive::take(bytes).ok()
    }

    /// Goes on to the primitive behind this one.
    fn pass(&mut self, primitive: &Primitive) {
        // The arguments have at most 128 bytes.
        self.at += primitive.bytes() as u8;
        self.number += 1;
    }

    /// The primitive under way is over.
    fn done(&mut self, succeeded: bool, word: u64, reply: &mut Reply<'_>) -> Stepped {
        let Some((primitive, _)) = self.primitive() else { return Err(Step::UNEXPECTED) };
        self.succeeded |= u8::from(succeeded) << self.number;
        self.awaiting = Awaiting::Nothing;
        if !reply.replace(8 + 8 * usize::from(self.number), &word.to_le_bytes()) {
            return Err(Step::UNEXPECTED);
        }
        self.pass(&primitive);
        self.next(reply)
    }

    fn start(&mut self, primitive: &Primitive, reply: &mut Reply<'_>) -> Stepped {
        let target = match *primitive {
            Primitive::Read { target, .. }
            | Primitive::Write { target }
            | Primitive::WriteOutput { target }
            | Primitive::CompareSwap(CompareSwap { target, .. }) => target,
            Primitive::Allocate { region, list } => Target::new(region, list),
        };
        if target.at_output {
            let Pointer { region, address } = unpack(self.output);
            (self.region, self.is_followed) = (region, true);
            self.address = address.wrapping_add(target.address);
        } else {
            // Regions were checked when the op began; its home is one of a byte.
            self.region = u8::try_from(target.region).unwrap_or(self.home);
            (self.address, self.is_followed) = (target.address, false);
        }
        if target.indirect {
            let length = if target.bounded { 16 } else { 8 };
            return self.fetch(Awaiting::Pointer, length);
        }
        self.access(primitive, reply)
    }

    /// The pointer to the target has come, perhaps with its bound.
    fn point(&mut self, bytes: &[u8], reply: &mut Reply<'_>) -> Stepped {
        let (Some(pointer), Some((primitive, _))) = (word(bytes, 0), self.primitive()) else {
            return Err(Step::UNEXPECTED);
        };
        let Pointer { region, address } = unpack(pointer);
        (self.region, self.address, self.is_followed) = (region, address, true);
        if let Some(bound) = word(bytes, 8) {
            self.bound = u32::try_from(bound).unwrap_or(u32::MAX);
        }
        self.access(&primitive, reply)
    }

    /// The target is known.
    fn access(&mut self, primitive: &Primitive, reply: &mut Reply<'_>) -> Stepped {
        match *primitive {
            Primitive::Read { length, .. } if length > GATHERED_READ_BYTES_MAX => {
                self.awaiting = Awaiting::Range;
                Ok(Step::FetchToReply(self.extent(length.min(self.bound))))
            }
            Primitive::Read { length, .. } => self.fetch(Awaiting::Bytes, length.min(self.bound)),
            Primitive::Write { .. } if self.bound < self.payload_length => {
                self.done(false, 0, reply)
            }
            Primitive::Write { .. } => {
                self.awaiting = Awaiting::Payload;
                Ok(Step::StorePayload(self.extent(self.payload_length)))
            }
            Primitive::WriteOutput { .. } | Primitive::CompareSwap(_) if self.bound < 8 => {
                self.done(false, 0, reply)
            }
            Primitive::WriteOutput { .. } => {
                self.awaiting = Awaiting::Stored;
                Ok(Step::Store { at: self.extent(8), word: self.output })
            }
            Primitive::Allocate { .. } => self.fetch(Awaiting::List, CAPACITY_OFFSET as u32 + 8),
            Primitive::CompareSwap(swap) => {
                let is_plain =
                    swap.comparison == Comparison::Equal && swap.compare_mask == u64::MAX;
                if !is_plain || swap.swap_mask != u64::MAX {
                    return self.fetch(Awaiting::Word, 8);
                }
                self.swap(self.value(swap.compare), self.value(swap.swap))
            }
        }
    }

    /// What a READ reads, copied.
    fn gather(&mut self, bytes: &[u8], reply: &mut Reply<'_>) -> Stepped {
        reply.append(bytes)?;
        let mut first = [0; 8];
        let length = bytes.len().min(8);
        first[..length].copy_from_slice(&bytes[..length]);
        self.output = u64::from_le_bytes(first);
        self.done(true, bytes.len() as u64, reply)
    }

    /// Swaps a word that compares as it should.
    fn compare(&mut self, found: u64, reply: &mut Reply<'_>) -> Stepped {
        let Some((Primitive::CompareSwap(swap), _)) = self.primitive() else {
            return Err(Step::UNEXPECTED);
        };
        let left = found & swap.compare_mask;
        let right = self.value(swap.compare) & swap.compare_mask;
        let holds = match swap.comparison {
            Comparison::Equal => left == right,
            Comparison::Less => left < right,
            Comparison::Greater => left > right,
        };
        if !self.address.is_multiple_of(8) {
            // No swap may follow, and what was fetched may be torn.
            let status = if self.is_followed { Status::BadPointer } else { Status::Misaligned };
            return Err(Step::fail(status));
        }
        if !holds {
            self.output = found;
            return self.done(false, found, reply);
        }
        let desired = found & !swap.swap_mask | self.value(swap.swap) & swap.swap_mask;
        self.swap(found, desired)
    }

    fn swap(&mut self, expected: u64, desired: u64) -> Stepped {
        self.expected = expected;
        self.awaiting = Awaiting::Swapped;
        Ok(Step::CompareSwap { at: self.extent(8), expected, desired })
    }

    /// The swap has taken place, or the word was another by then.
    fn swapped(&mut self, found: u64, reply: &mut Reply<'_>) -> Stepped {
        if found == self.expected {
            self.changed = true;
            self.output = found;
            return self.done(true, found, reply);
        }
        self.try_again()?;
        // Where all bits had to be equal, it now says that they are not.
        self.compare(found, reply)
    }

    /// The free list's header has come.
    fn look_at_list(&mut self, bytes: &[u8], reply: &mut Reply<'_>) -> Stepped {
        let (Some(head), Some(tail), Some(capacity)) =
            (word(bytes, 0), word(bytes, 8), word(bytes, CAPACITY_OFFSET as usize))
        else {
            return Err(Step::UNEXPECTED);
        };
        if head == tail {
            // Head and tail may be of two moments. Both only grow: if nothing has changed since,
            // the list was empty in between.
            if self.awaiting == Awaiting::ListAgain && self.expected == head {
                return self.done(false, 0, reply);
            }
            self.expected = head;
            self.try_again()?;
            return self.fetch(Awaiting::ListAgain, CAPACITY_OFFSET as u32 + 8);
        }
        let place = head & capacity.wrapping_sub(1);
        let address = place
            .checked_mul(8)
            .and_then(|offset| offset.checked_add(RING_OFFSET))
            .and_then(|offset| offset.checked_add(self.address))
            .filter(|_| capacity.is_power_of_two())
            .ok_or(Step::fail(Status::BadPointer))?;
        self.expected = head;
        self.awaiting = Awaiting::Free;
        Ok(Step::Fetch(Extent::followed(Pointer { region: self.region, address }, 8)))
    }

    /// The pointer at the list's head has come: it is ours if the head has not moved.
    fn take(&mut self, bytes: &[u8]) -> Stepped {
        self.free = word(bytes, 0).ok_or(Step::UNEXPECTED)?;
        self.awaiting = Awaiting::Taken;
        let (expected, desired) = (self.expected, self.expected.wrapping_add(1));
        Ok(Step::CompareSwap { at: self.extent(8), expected, desired })
    }

    fn taken(&mut self, found: u64, reply: &mut Reply<'_>) -> Stepped {
        if found == self.expected {
            self.changed = true;
            self.output = self.free;
            return self.done(true, self.free, reply);
        }
        self.try_again()?;
        self.fetch(Awaiting::List, CAPACITY_OFFSET as u32 + 8)
    }

    /// Others were faster.
    fn try_again(&mut self) -> Result<(), Step> {
        self.tries += 1;
        if self.tries > TRIES_MAX { Err(Step::fail(Status::Busy)) } else { Ok(()) }
    }

    #[inline]
    fn fetch(&mut self, awaiting: Awaiting, length: u32) -> Stepped {
        self.awaiting = awaiting;
        Ok(Step::Fetch(self.extent(length)))
    }

    #[inline]
    fn extent(&self, length: u32) -> Extent {
        let at = Pointer { region: self.region, address: self.address };
        let origin = if self.is_followed { Origin::Followed } else { Origin::Arguments };
        Extent { at, length, origin }
    }

    #[inline]
    fn value(&self, operand: Operand) -> u64 {
        match operand {
            Operand::Word(word) => word,
            Operand::Output => self.output,
        }
    }
}

/// Looks at all primitives, before any runs.
fn check(call: &Call<'_>) -> Result<(), BadArguments> {
    let (mut rest, mut count) = (call.arguments, 0);
    let (mut writes, mut gathered, mut read) = (0, 0, 0u32);
    loop {
        let (primitive, _) = Primitive::take(rest)?;
        rest = rest.get(primitive.bytes()..).unwrap_or_default();
        count += 1;
        match primitive {
            Primitive::Read { length, .. } => {
                read = read.saturating_add(length);
                if length <= GATHERED_READ_BYTES_MAX {
                    gathered += length;
                } else if !rest.is_empty() {
                    return Err(BadArguments::Value { field: "length" });
                }
            }
            Primitive::Write { .. } => writes += 1,
            _ => {}
        }
        let region = match primitive {
            Primitive::Allocate { region, .. } => region,
            Primitive::Read { target, .. }
            | Primitive::Write { target }
            | Primitive::WriteOutput { target }
            | Primitive::CompareSwap(CompareSwap { target, .. }) => target.region,
        };
        call.region(region)?;
        if count > PRIMITIVES_MAX {
            return Err(BadArguments::Value { field: "kind" });
        }
        if rest.is_empty() {
            break;
        }
    }
    if gathered > GATHERED_BYTES_MAX {
        return Err(BadArguments::Value { field: "length" });
    }
    if writes != usize::from(call.payload_length != 0)
        || call.payload_length > crate::TRANSFER_BYTES_MAX
    {
        return Err(BadArguments::Value { field: "payload_length" });
    }
    call.reply_fits(reply_bytes(read))
}

/// A word of a private copy.
#[inline]
fn word(bytes: &[u8], offset: usize) -> Option<u64> {
    let word = bytes.get(offset..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*word))
}
