//! Primitives against a plain interpreter.

use alloc::vec::Vec;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Rkey, Status, Time};

use super::*;
use crate::bench::{ALL, Bench, op};
use crate::random::Random;
use crate::{Builtin, Finish, HOME_REGION, Invocation, Pointer};

const REGION: u64 = 2048;
/// In region 0: a list, cells of {pointer, bound}, words; in region 1: buffers.
pub(super) const LIST: u64 = 0;
pub(super) const CAPACITY: u64 = 8;
const CELLS: u64 = 256;
pub(super) const WORDS: u64 = 512;

pub(super) fn bench_of(regions: &[RacyMem]) -> (Bench<Builtin>, Rkey) {
    let mut bench = Bench::new(64);
    for region in regions {
        bench.register(region);
    }
    let rkey = bench.memory.export(bench.domain, 0, ALL, &[1], 5).unwrap();
    (bench, rkey)
}

pub(super) fn regions() -> [RacyMem; 3] {
    [0; 3].map(|_| RacyMem::allocate(REGION))
}

/// Runs a chain; the payload comes at once or after what precedes its place.
pub(super) fn run(
    bench: &mut Bench<Builtin>,
    rkey: &Rkey,
    chain: &Chain,
    payload: &[u8],
    at_once: bool,
) -> (Finish, Vec<u8>) {
    let invocation = Invocation {
        payload_length: payload.len() as u32,
        ..op(KernelId::PRISM, chain.arguments())
    };
    let slot = match bench.start(rkey, &invocation) {
        Ok(slot) => slot,
        Err(status) => {
            return (Finish { status, fate: Fate::NotExecuted, reply_length: 0 }, Vec::new());
        }
    };
    let mut over = Vec::new();
    if !at_once {
        over = bench.run(Time::ZERO);
    }
    if !payload.is_empty() {
        // An op that skips its write takes none.
        let _ = bench.executor.payload(slot, 0, payload, &mut bench.memory);
    }
    over.extend(bench.run(Time::ZERO));
    assert_eq!(over.len(), 1, "one op, one end");
    let reply = bench.reply(slot);
    bench.executor.free(slot, &mut bench.memory);
    (over[0].2, reply)
}

/// What should come of it: the reply or the status, and whether memory was changed.
struct Model<'a> {
    regions: &'a mut [Vec<u8>],
    output: u64,
    changed: bool,
    reads: Vec<u8>,
}

impl Model<'_> {
    fn at(
        &self,
        at: Pointer,
        length: u64,
        is_word: bool,
        followed: bool,
    ) -> Result<(usize, usize), Status> {
        let refused = |status| Err(if followed { Status::BadPointer } else { status });
        if at.region > 1 {
            return refused(Status::Denied);
        }
        if at.address.checked_add(length).is_none_or(|end| end > REGION) {
            return refused(Status::OutOfBounds);
        }
        if is_word && !at.address.is_multiple_of(8) {
            return refused(Status::Misaligned);
        }
        Ok((usize::from(at.region), at.address as usize))
    }

    fn read(&self, at: Pointer, length: u64, followed: bool) -> Result<Vec<u8>, Status> {
        let (region, address) = self.at(at, length, false, followed)?;
        Ok(self.regions[region][address..address + length as usize].to_vec())
    }

    fn word(&self, at: Pointer, followed: bool) -> Result<u64, Status> {
        let bytes = self.read(at, 8, followed)?;
        Ok(u64::from_le_bytes(bytes.try_into().unwrap()))
    }

    fn store(&mut self, at: Pointer, word: u64, followed: bool) -> Result<(), Status> {
        let (region, address) = self.at(at, 8, true, followed)?;
        self.regions[region][address..address + 8].copy_from_slice(&word.to_le_bytes());
        self.changed = true;
        Ok(())
    }

    /// Where a target is, how many bytes it has at most, and whether a pointer led there.
    fn find(&self, target: Target) -> Result<(Pointer, u64, bool), Status> {
        let (mut at, mut followed, mut bound) = (
            Pointer {
                region: if target.region == HOME_REGION { 0 } else { target.region as u8 },
                address: target.address,
            },
            false,
            u64::MAX,
        );
        if target.at_output {
            at = unpack(self.output);
            at.address = at.address.wrapping_add(target.address);
            followed = true;
        }
        if target.indirect {
            let cell = self.read(at, if target.bounded { 16 } else { 8 }, followed)?;
            at = unpack(u64::from_le_bytes(*cell.first_chunk().unwrap()));
            if target.bounded {
                bound = u64::from_le_bytes(*cell.last_chunk().unwrap());
            }
            followed = true;
        }
        Ok((at, bound, followed))
    }

    /// Whether a primitive succeeds, and its word.
    fn run(&mut self, primitive: Primitive, payload: &[u8]) -> Result<(bool, u64), Status> {
        match primitive {
            Primitive::Read { target, length } => {
                let (at, bound, followed) = self.find(target)?;
                let length = u64::from(length).min(bound);
                let bytes = self.read(at, length, followed)?;
                let mut first = [0; 8];
                for (place, byte) in first.iter_mut().zip(&bytes) {
                    *place = *byte;
                }
                self.output = u64::from_le_bytes(first);
                self.reads.extend(bytes);
                Ok((true, length))
            }
            Primitive::Write { target } => {
                let (at, bound, followed) = self.find(target)?;
                if bound < payload.len() as u64 {
                    return Ok((false, 0));
                }
                let (region, address) = self.at(at, payload.len() as u64, false, followed)?;
                self.regions[region][address..][..payload.len()].copy_from_slice(payload);
                self.changed = true;
                Ok((true, payload.len() as u64))
            }
            Primitive::WriteOutput { target } => {
                let (at, bound, followed) = self.find(target)?;
                if bound < 8 {
                    return Ok((false, 0));
                }
                self.store(at, self.output, followed)?;
                Ok((true, 8))
            }
            Primitive::Allocate { list, .. } => {
                let at = |offset| Pointer { region: 0, address: list + offset };
                let (head, tail) = (self.word(at(0), false)?, self.word(at(8), false)?);
                if head == tail {
                    return Ok((false, 0));
                }
                // Other primitives may have written here.
                let capacity = self.word(at(16), false)?;
                let place = head & capacity.wrapping_sub(1);
                let place = if capacity.is_power_of_two() { place } else { u64::MAX };
                let offset = place.checked_mul(8).and_then(|offset| offset.checked_add(64));
                let free = self.word(at(offset.ok_or(Status::BadPointer)?), true)?;
                self.output = free;
                self.store(at(0), head.wrapping_add(1), false)?;
                Ok((true, self.output))
            }
            Primitive::CompareSwap(swap) => {
                let (at, bound, followed) = self.find(swap.target)?;
                if bound < 8 {
                    return Ok((false, 0));
                }
                let value = |operand| match operand {
                    Operand::Word(word) => word,
                    Operand::Output => self.output,
                };
                let (compare, new) = (value(swap.compare), value(swap.swap));
                let (region, address) = self.at(at, 8, true, followed)?;
                let bytes = &self.regions[region][address..address + 8];
                let old = u64::from_le_bytes(bytes.try_into().unwrap());
                let (left, right) = (old & swap.compare_mask, compare & swap.compare_mask);
                self.output = old;
                let holds = match swap.comparison {
                    Comparison::Equal => left == right,
                    Comparison::Less => left < right,
                    Comparison::Greater => left > right,
                };
                if holds {
                    let desired = (old & !swap.swap_mask) | (new & swap.swap_mask);
                    self.store(at, desired, followed)?;
                }
                Ok((holds, old))
            }
        }
    }
}

fn model(
    regions: &mut [Vec<u8>],
    chain: &[(Primitive, bool)],
    payload: &[u8],
) -> (Result<Vec<u8>, Status>, bool) {
    let mut model = Model { regions, output: 0, changed: false, reads: Vec::new() };
    let (mut ran, mut succeeded, mut words) = (0u8, 0u8, [0u64; 4]);
    let mut previous = true;
    for (number, (primitive, conditional)) in chain.iter().enumerate() {
        if *conditional && !previous {
            continue;
        }
        ran |= 1 << number;
        match model.run(*primitive, payload) {
            Ok((success, word)) => {
                succeeded |= u8::from(success) << number;
                words[number] = word;
                previous = success;
            }
            Err(status) => return (Err(status), model.changed),
        }
    }
    let mut reply = alloc::vec![ran, succeeded, 0, 0, 0, 0, 0, 0];
    reply.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    reply.extend(&model.reads);
    (Ok(reply), model.changed)
}

fn random_target(random: &mut Random) -> Target {
    let word = |random: &mut Random| WORDS + random.below(16) * 8;
    let cell = |random: &mut Random| CELLS + random.below(8) * 16;
    match random.below(12) {
        0..4 => Target::home(word(random)),
        4 => Target::new(1, random.below(REGION / 8) * 8),
        5..7 => Target::home(cell(random)).indirect(),
        7..9 => Target::home(cell(random)).bounded(),
        9..11 => Target::output(random.below(3) * 8),
        // Unaligned, at an edge, in a region that the rkey does not reach.
        _ => match random.below(4) {
            0 => Target::home(WORDS + 1 + random.below(6)),
            1 => Target::home(REGION - random.below(9)),
            2 => Target::new(2, WORDS),
            _ => Target::output(0).indirect(),
        },
    }
}

fn random_primitive(random: &mut Random) -> Primitive {
    let target = random_target(random);
    let operand = |random: &mut Random| match random.below(3) {
        0 => Operand::Output,
        _ => Operand::Word(random.below(4)),
    };
    match random.below(8) {
        0..2 => Primitive::Read { target, length: 1 + random.below(40) as u32 },
        2 => Primitive::Write { target },
        3 => Primitive::WriteOutput { target },
        4 => Primitive::Allocate { region: [HOME_REGION, 0][random.below(2) as usize], list: LIST },
        _ => {
            let comparison = [Comparison::Equal, Comparison::Less, Comparison::Greater]
                [random.below(3) as usize];
            let swap = CompareSwap::new(target, comparison, operand(random), operand(random));
            Primitive::CompareSwap(match random.below(3) {
                0 => swap.masked(random.next(), random.next()),
                1 => swap.masked(random.below(4), u64::MAX),
                _ => swap,
            })
        }
    }
}

/// The primitives of a random chain, each with whether it is conditional.
fn random_chain(random: &mut Random) -> (Chain, Vec<(Primitive, bool)>) {
    let mut writes = 0;
    let mut list = Vec::new();
    let mut chain: Option<Chain> = None;
    for _ in 0..1 + random.below(4) {
        let primitive = random_primitive(random);
        writes += usize::from(matches!(primitive, Primitive::Write { .. }));
        if writes > 1 {
            break;
        }
        let conditional = random.below(2) == 0;
        let longer = match (chain, conditional) {
            (None, _) => Ok(Chain::first(primitive)),
            (Some(chain), true) => chain.then(primitive),
            (Some(chain), false) => chain.also(primitive),
        };
        let Ok(longer) = longer else { break };
        list.push((primitive, chain.is_some() && conditional));
        chain = Some(longer);
    }
    let mut chain = chain.expect("one fits");
    if random.below(8) == 0 {
        // A long read is the last.
        let primitive = Primitive::Read { target: random_target(random), length: 257 };
        if let Ok(longer) = chain.also(primitive) {
            list.push((primitive, false));
            chain = longer;
        }
    }
    (chain, list)
}

#[test]
fn chains_agree_with_an_interpreter() {
    let (mut done, mut failed, mut skipped) = (0, 0, 0);
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let memories = regions();
        let (mut bench, rkey) = bench_of(&memories);
        let mut list = FreeList::format(memories[0].clone(), LIST, CAPACITY).unwrap();
        for cell in 0..8 {
            let region = random.below(2) as u8;
            let address = if region == 0 { WORDS } else { 0 } + random.below(16) * 8;
            let bound = [4, 8, 30, 1 << 40][random.below(4) as usize];
            let place = CELLS + cell * 16;
            memories[0].write(place, &pack(Pointer { region, address }).to_le_bytes()).unwrap();
            memories[0].write(place + 8, &u64::to_le_bytes(bound)).unwrap();
        }
        for _ in 0..150 {
            if random.below(3) == 0 {
                let buffer = Pointer { region: 1, address: random.below(30) * 64 };
                let _ = list.post(buffer);
            }
            let (chain, primitives) = random_chain(&mut random);
            let writes = primitives.iter().any(|(one, _)| matches!(one, Primitive::Write { .. }));
            let length = if writes { 1 + random.below(40) } else { 0 };
            let payload: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
            let contents = |memory: &RacyMem| {
                let mut bytes = alloc::vec![0; REGION as usize];
                memory.read(0, &mut bytes).unwrap();
                bytes
            };
            let mut expected: Vec<Vec<u8>> = memories[..2].iter().map(contents).collect();
            let (outcome, changed) = model(&mut expected, &primitives, &payload);

            let at_once = random.below(2) == 0;
            let (finish, reply) = run(&mut bench, &rkey, &chain, &payload, at_once);
            let what = (seed, &primitives, &finish);
            match outcome {
                Ok(expected) => {
                    assert_eq!((finish.status, finish.fate), (Status::Ok, Fate::Executed));
                    let report = Report::decode(&reply).unwrap();
                    skipped += (0..primitives.len()).filter(|n| !report.ran(*n)).count();
                    assert_eq!(reply, expected, "{what:?}");
                    done += 1;
                }
                Err(status) => {
                    assert_eq!(finish.status, status, "{what:?}");
                    // What was changed before is known to be, or not known: never denied.
                    assert_eq!(finish.fate == Fate::NotExecuted, !changed, "{what:?}");
                    failed += 1;
                }
            }
            assert_eq!(
                memories[..2].iter().map(contents).collect::<Vec<_>>(),
                expected,
                "{what:?}"
            );
        }
    }
    assert!(done > 3000 && failed > 300 && skipped > 300, "{done} {failed} {skipped}");
}

#[test]
fn a_value_is_put_in_one_op() {
    // PRISM's store: allocate, write, and install if what is there is older.
    let memories = regions();
    let (mut bench, rkey) = bench_of(&memories);
    let mut list = FreeList::format(memories[0].clone(), LIST, CAPACITY).unwrap();
    list.post(Pointer { region: 1, address: 128 }).unwrap();
    let install =
        CompareSwap::new(Target::home(WORDS), Comparison::Equal, Operand::Word(0), Operand::Output);
    let put = Chain::first(Primitive::Allocate { region: HOME_REGION, list: LIST })
        .then(Primitive::Write { target: Target::output(0) })
        .and_then(|chain| chain.then(Primitive::CompareSwap(install)))
        .unwrap();
    let (_, reply) = run(&mut bench, &rkey, &put, b"the value", true);
    let report = Report::decode(&reply).unwrap();
    assert!((0..3).all(|primitive| report.succeeded(primitive)));
    let pointer = pack(Pointer { region: 1, address: 128 });
    assert_eq!([0, 1, 2].map(|n| report.word(n)), [Some(pointer), Some(9), Some(0)]);

    let get = Chain::first(Primitive::Read { target: Target::home(WORDS).indirect(), length: 9 });
    let (_, reply) = run(&mut bench, &rkey, &get, &[], true);
    assert_eq!(Report::decode(&reply).unwrap().reads(), b"the value");

    // No buffer is left: nothing else runs.
    let (finish, reply) = run(&mut bench, &rkey, &put, b"another", false);
    let report = Report::decode(&reply).unwrap();
    assert_eq!(finish.status, Status::Ok);
    assert_eq!([0, 1, 2].map(|n| report.ran(n)), [true, false, false]);
    assert!(!report.succeeded(0) && report.word(1).is_none());
}

#[test]
fn every_bad_argument_has_its_status() {
    let memories = regions();
    let (mut bench, rkey) = bench_of(&memories);
    let target = Target::home(WORDS);
    let read = |length| Primitive::Read { target, length };
    let long = Chain::first(read(257)).then(read(8)).unwrap();
    let many = Chain::first(read(256)).then(read(217)).unwrap();
    let write = Chain::first(Primitive::Write { target });
    let two = write.then(Primitive::Write { target }).unwrap();
    let good = Chain::first(read(8));
    let changed = |place: usize, byte| {
        let mut bytes = good.arguments().to_vec();
        bytes[place] = byte;
        bytes
    };
    for (arguments, payload) in [
        (long.arguments(), &[][..]),
        (many.arguments(), &[]),
        (write.arguments(), &[]),
        (two.arguments(), &[1]),
        (good.arguments(), &[1]),
        (&good.arguments()[..15], &[]),
        (&[], &[]),
        (&[0; 144], &[]),
        (&changed(0, 5), &[]),
        (&changed(0, 3), &[]),
        (&changed(1, 64), &[]),
        (&changed(1, 4), &[]),
        (&changed(1, 16), &[]),
        (&changed(3, 1), &[]),
        (&changed(4, 0), &[]),
        (&changed(7, 1), &[]),
        (&[good.arguments(); 5].concat(), &[]),
    ] {
        let invocation =
            Invocation { payload_length: payload.len() as u32, ..op(KernelId::PRISM, arguments) };
        let refused = bench.start(&rkey, &invocation).map(|_| ());
        assert_eq!(refused, Err(Status::BadArguments), "{arguments:?}");
    }
    let short = Invocation { reply_capacity: 47, ..op(KernelId::PRISM, good.arguments()) };
    assert_eq!(bench.start(&rkey, &short).map(|_| ()), Err(Status::ReplyTooLong));
}

#[test]
fn a_list_that_is_none_ends_the_op() {
    let memories = regions();
    let (mut bench, rkey) = bench_of(&memories);
    let allocate = Chain::first(Primitive::Allocate { region: 0, list: 0 });
    let mut status = |words: [u64; 3]| {
        for (place, word) in (0..).zip(words) {
            memories[0].write(place * 8, &word.to_le_bytes()).unwrap();
        }
        run(&mut bench, &rkey, &allocate, &[], true).0.status
    };
    assert_eq!(status([0, 1, 0]), Status::BadPointer);
    assert_eq!(status([0, 1, 3]), Status::BadPointer);
    assert_eq!(status([u64::MAX >> 1, 1, 1 << 63]), Status::BadPointer);
    assert_eq!(status([1 << 40, 1, 1 << 41]), Status::BadPointer);
    assert_eq!(status([1, 1, 0]), Status::Ok, "an empty one is looked at no further");
}

#[test]
fn a_buffer_is_allocated_and_written() {
    let memories = regions();
    let (mut bench, rkey) = bench_of(&memories);
    let mut free = FreeList::format(memories[0].clone(), 0, 16).unwrap();
    free.post(Pointer { region: 0, address: 512 }).unwrap();
    let chain = Chain::first(Primitive::Allocate { region: 0, list: 0 })
        .then(Primitive::Write { target: Target::output(0) })
        .unwrap();
    assert_eq!(run(&mut bench, &rkey, &chain, b"apple", true).0.status, Status::Ok);
    assert_eq!(memories[0].read_array(512), Ok(*b"apple"));
}

crate::bench::also_on_dma!(a_list_that_is_none_ends_the_op, a_buffer_is_allocated_and_written,);
