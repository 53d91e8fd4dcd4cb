//! Streams into partitions, against lists that are kept beside.

use alloc::vec::Vec;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Rkey, Status, Time};

use super::*;
use crate::bench::{Bench, op};
use crate::random::Random;
use crate::{Access, Budget, Builtin, Executor, Invocation, Limits, SlotId, TRANSFER_BYTES_MAX};

/// Where the header is; not at the region's start.
pub(super) const AT: u64 = 192;

/// A region with partitions, and what should be in them.
pub(super) struct Partitioned {
    pub(super) bench: Bench,
    pub(super) partitions: Partitions,
    rkey: Rkey,
    expected: Vec<Vec<Vec<u8>>>,
}

impl Partitioned {
    pub(super) fn new(shape: Shape) -> Self {
        let mut bench = Bench::<Builtin>::new(8);
        let (region, rkey) = bench.region(AT + shape.bytes().unwrap());
        let partitions = Partitions::format(region, AT, shape).unwrap();
        let expected = alloc::vec![Vec::new(); shape.count().into()];
        Partitioned { bench, partitions, rkey, expected }
    }

    /// Begins an op, and brings its payload.
    pub(super) fn begin(
        &mut self,
        owner: u64,
        payload: &[u8],
        from_partition: u16,
        deadline: Time,
    ) -> Result<SlotId, Status> {
        let arguments = Arguments::home(AT).from_partition(from_partition).encode();
        let base = op(KernelId::PARTITION_WRITE, &arguments);
        let payload_length = payload.len() as u32;
        let invocation = Invocation { owner, payload_length, deadline, ..base };
        let slot = self.bench.start(&self.rkey, &invocation)?;
        // The parts come from the end on, and none has the length of a block.
        let mut parts: Vec<(usize, &[u8])> =
            payload.chunks(1448).enumerate().map(|(at, part)| (at * 1448, part)).collect();
        parts.reverse();
        for (at, part) in parts {
            let bench = &mut self.bench;
            bench.executor.payload(slot, at as u32, part, &mut bench.memory).unwrap();
        }
        Ok(slot)
    }

    fn call(&mut self, payload: &[u8], from_partition: u16) -> (Status, Fate, Option<Answer>) {
        let slot = match self.begin(0, payload, from_partition, Time::NEVER) {
            Ok(slot) => slot,
            Err(status) => return (status, Fate::NotExecuted, None),
        };
        let over = self.bench.run(Time::ZERO);
        assert_eq!(over.len(), 1);
        let answer = Answer::decode(&self.bench.reply(slot));
        self.bench.executor.free(slot, &mut self.bench.memory);
        (over[0].2.status, over[0].2.fate, answer)
    }

    /// Notes what records should be where.
    fn expect(&mut self, payload: &[u8]) {
        let shape = *self.partitions.shape();
        for record in payload.chunks_exact(shape.record_bytes.into()) {
            self.expected[usize::from(shape.partition_of(record))].push(record.to_vec());
        }
    }

    fn check(&self) {
        let size = usize::from(self.partitions.shape().record_bytes);
        for (partition, expected) in (0..).zip(&self.expected) {
            let whole = self.partitions.counters(partition).whole();
            assert_eq!(whole, Some(expected.len() as u64), "partition {partition}");
            let mut found = alloc::vec![0; expected.len() * size];
            self.partitions.read(partition, 0, &mut found).unwrap();
            assert!(found == expected.concat(), "partition {partition}");
        }
    }
}

pub(super) fn shape(bits: u8, record_bytes: u16, capacity: u64) -> Shape {
    let key_offset = (record_bytes / 2) & !7;
    Shape { bits, record_bytes, key_offset, by: By::Hash, capacity }
}

pub(super) fn records(count: u64, size: u16, random: &mut Random) -> Vec<u8> {
    let bytes = count as usize * usize::from(size);
    (0..bytes.div_ceil(8)).flat_map(|_| random.below(u64::MAX).to_le_bytes()).collect()
}

#[test]
fn every_record_is_in_its_partition_in_the_order_it_came() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let by = if seed % 2 == 0 { By::Hash } else { By::Radix { shift: (seed % 60) as u8 } };
        let base = shape(random.below(9) as u8, 8 << random.below(6), 8000);
        let mut partitioned = Partitioned::new(Shape { by, ..base });
        for _ in 0..4 {
            let count = random.below(2001);
            let payload = records(count, base.record_bytes, &mut random);
            let (status, fate, answer) = partitioned.call(&payload, 0);
            assert_eq!((status, fate), (Status::Ok, Fate::Executed), "seed {seed}");
            assert_eq!(answer, Some(Answer::new(None, count)));
            partitioned.expect(&payload);
        }
        partitioned.check();
        assert!(partitioned.bench.executor.is_idle());
    }
}

#[test]
fn the_longest_payload_ends_within_the_steps_of_an_op() {
    for (bits, record_bytes) in [(0, 8), (4, 8), (8, 8), (8, 256)] {
        let mut partitioned = Partitioned::new(shape(bits, record_bytes, 140_000 >> bits << 1));
        let count = u64::from(TRANSFER_BYTES_MAX) / u64::from(record_bytes);
        let payload = records(count, record_bytes, &mut Random::new(5));
        let (status, _, answer) = partitioned.call(&payload, 0);
        assert_eq!((status, answer), (Status::Ok, Some(Answer::new(None, count))));
        partitioned.expect(&payload);
        partitioned.check();
        let longer = [&payload[..], &[0; 256]].concat();
        assert_eq!(partitioned.call(&longer, 0).0, Status::BadArguments);
    }
}

#[test]
fn an_op_reserves_and_counts_once_for_each_partition() {
    let mut partitioned = Partitioned::new(shape(4, 8, 20_000));
    for blocks in [1_u64, 2, 16] {
        // As many of each partition in each block.
        let mut next = [0_u64; 16];
        let payload: Vec<u8> = (0..blocks * 512)
            .flat_map(|place| {
                let partition = place as u16 % 16;
                let is_its = |key: &u64| {
                    partitioned.partitions.shape().partition_of(&key.to_le_bytes()) == partition
                };
                let next = &mut next[usize::from(partition)];
                let key = (*next..).find(is_its).unwrap();
                *next = key + 1;
                key.to_le_bytes()
            })
            .collect();
        let before = partitioned.bench.memory.admitted;
        assert_eq!(partitioned.call(&payload, 0).0, Status::Ok, "{blocks}");
        let admitted = partitioned.bench.memory.admitted - before;
        // The header, the last word, all counters; two words for each partition, and its runs: one
        // in four blocks, and one more for each border between them.
        let runs = 16 * blocks.div_ceil(4)..=16 * blocks.div_ceil(4) + blocks;
        assert!(runs.contains(&(admitted - 3 - 2 * 16)), "{admitted} accesses by {blocks} blocks");
        partitioned.expect(&payload);
    }
    partitioned.check();
}

#[test]
fn no_step_takes_long() {
    let mut partitioned = Partitioned::new(shape(8, 8, 4000));
    let payload = records(100_000, 8, &mut Random::new(1));
    let slot = partitioned.begin(0, &payload, 0, Time::NEVER).unwrap();
    let (Bench { executor, memory, .. }, mut rounds) = (&mut partitioned.bench, 0);
    // What it has cost to hold the payload is told here.
    executor.run(memory, Time::ZERO, Budget { rounds: 0, cost: 0 }, &mut |_, _, _| {});
    while executor.ready() > 0 {
        let budget = Budget { rounds: 1, cost: u64::MAX };
        let progress = executor.run(memory, Time::ZERO, budget, &mut |_, _, _| {});
        // Four blocks are looked at twice.
        assert!(progress.cost <= 1 + 2 * 4 * 64, "{progress:?} in round {rounds}");
        rounds += 1;
    }
    assert!(rounds > 2 * 256 + 195 / 4 + 195, "{rounds} rounds");
    executor.free(slot, memory);
    partitioned.expect(&payload);
    partitioned.check();
}

#[test]
fn a_full_partition_is_named_and_the_rest_goes_on_elsewhere() {
    let mut stopped = 0;
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let (bits, size) = (random.below(9) as u8, 8 << random.below(6));
        let shape = shape(bits, size, random.below(2000 >> bits) + 20);
        let mut partitioned = Partitioned::new(shape);
        for _ in 0..3 {
            let count = random.below(1200);
            let payload = records(count, size, &mut random);
            let (status, _, answer) = partitioned.call(&payload, 0);
            let answer = answer.unwrap();
            assert_eq!(status, Status::Ok, "seed {seed}");
            // What is written: all that comes before the partition.
            let until = answer.rest_from().unwrap_or(shape.count());
            let is_written = |record: &&[u8]| shape.partition_of(record) < until;
            let chunks = payload.chunks_exact(size.into());
            let written: Vec<&[u8]> = chunks.clone().filter(is_written).collect();
            assert_eq!(answer.records(), written.len() as u64, "seed {seed}");
            partitioned.expect(&written.concat());
            partitioned.check();
            let Some(partition) = answer.rest_from() else { continue };
            stopped += 1;
            let its = chunks.clone().filter(|record| shape.partition_of(record) == partition);
            let whole = partitioned.partitions.counters(partition).whole().unwrap();
            assert!(whole + its.count() as u64 > shape.capacity, "seed {seed}: there was room");

            // The owner makes room: the same partitions, longer. Another op writes the rest.
            let mut longer = Partitioned::new(Shape { capacity: 3000, ..shape });
            let (status, _, rest) = longer.call(&payload, partition);
            let left: Vec<&[u8]> = chunks.filter(|record| !is_written(record)).collect();
            let expected = Answer::new(None, left.len() as u64);
            assert_eq!((status, rest), (Status::Ok, Some(expected)), "seed {seed}");
            longer.expect(&left.concat());
            longer.check();
        }
    }
    assert!(stopped > 50, "{stopped} ops found no room");
}

#[test]
fn from_the_first_reservation_on_an_op_goes_to_its_end() {
    let round = Budget { rounds: 1, cost: u64::MAX };
    let (deadline, payload) = (Time::from_ns(50), records(1500, 8, &mut Random::new(2)));
    for by_cancelling in [false, true] {
        let mut open = 0;
        for rounds in 0.. {
            let mut partitioned = Partitioned::new(shape(2, 8, 1000));
            let slot = partitioned.begin(0, &payload, 0, deadline).unwrap();
            let Bench { executor, memory, .. } = &mut partitioned.bench;
            let mut ends = 0;
            for _ in 0..rounds {
                executor.run(memory, Time::ZERO, round, &mut |_, _, _| ends += 1);
            }
            if ends > 0 {
                break;
            }
            let counters = (0..4).map(|partition| partitioned.partitions.counters(partition));
            let is_open = counters.clone().any(|counters| counters.whole().is_none());
            let is_reserved = counters.map(|counters| counters.reserved).sum::<u64>() > 0;
            open += u32::from(is_open);
            if by_cancelling {
                let fate = executor.cancel(slot, memory);
                assert_eq!(fate == Fate::NotExecuted, !is_reserved, "round {rounds}");
            } else {
                executor.run(memory, deadline, Budget::default(), &mut |_, _, finish| {
                    let status = if is_reserved { Status::Ok } else { Status::Expired };
                    assert_eq!(finish.status, status, "round {rounds}");
                });
            }
            partitioned.bench.run(deadline);
            partitioned.expect(&payload[..if is_reserved { payload.len() } else { 0 }]);
            partitioned.check();
            let Bench { executor, memory, .. } = &mut partitioned.bench;
            executor.free(slot, memory);
            assert!(executor.is_idle());
            assert_eq!(memory.holds(partitioned.rkey.export.get(), 1), 0);
        }
        assert!(open > 8, "only {open} rounds were between the first place and the last count");
    }
}

#[test]
fn every_bad_argument_has_its_status() {
    let mut partitioned = Partitioned::new(shape(2, 16, 64));
    for payload in [&[0; 8][..], &[0; 24], &[1; 15]] {
        let (status, fate, _) = partitioned.call(payload, 0);
        assert_eq!((status, fate), (Status::BadArguments, Fate::NotExecuted));
    }
    assert_eq!(partitioned.call(&[0; 16], 4).0, Status::BadArguments);
    let (status, _, answer) = partitioned.call(&[], 0);
    assert_eq!((status, answer), (Status::Ok, Some(Answer::new(None, 0))));
    let mut call = |arguments: &[u8]| {
        let (bench, rkey) = (&mut partitioned.bench, &partitioned.rkey);
        bench.call(rkey, KernelId::PARTITION_WRITE, arguments, &[0; 16]).0.status
    };
    assert_eq!(call(&Arguments::home(AT + 8).encode()), Status::Misaligned);
    assert_eq!(call(&Arguments::home(AT + 64).encode()), Status::BadArguments);
    assert_eq!(call(&Arguments::home(1 << 40).encode()), Status::OutOfBounds);
    assert_eq!(call(&Arguments::new(300, AT).encode()), Status::BadArguments);
    assert_eq!(call(&[0; 15]), Status::BadArguments);
    let mut reserved = Arguments::home(AT).encode();
    reserved[12] = 1;
    assert_eq!(call(&reserved), Status::BadArguments);
    // A header that promises more than the region has, and rights that are missing.
    let bench = &mut partitioned.bench;
    let domain = bench.domain;
    let small = RacyMem::allocate(4096);
    let long = RacyMem::allocate(AT + shape(8, 16, 64).bytes().unwrap());
    Partitions::format(long.clone(), AT, shape(8, 16, 64)).unwrap();
    let head = long.read_array::<64>(AT).unwrap();
    small.write(0, &head).unwrap();
    let number = bench.register(&small);
    let rkey = bench.memory.export(domain, number, Access::all(), &[], 4).unwrap();
    let arguments = Arguments::home(0).encode();
    // The counters are there, the last partition is not: nothing is reserved in others.
    let (finish, _) = bench.call(&rkey, KernelId::PARTITION_WRITE, &arguments, &[255; 16]);
    assert_eq!((finish.status, finish.fate), (Status::BadPointer, Fate::NotExecuted));
    // One whose end would lie before its start, beyond the last address.
    let round = RacyMem::allocate(16_384);
    round.write(8192, &head).unwrap();
    round.write(8192 + 8, &((1_u64 << 52) - 2).to_le_bytes()).unwrap();
    let number = bench.register(&round);
    let rkey = bench.memory.export(domain, number, Access::all(), &[], 4).unwrap();
    let arguments = Arguments::home(8192).encode();
    let (finish, _) = bench.call(&rkey, KernelId::PARTITION_WRITE, &arguments, &[255; 16]);
    assert_eq!((finish.status, finish.fate), (Status::BadArguments, Fate::NotExecuted));
    for rights in [Access::READ | Access::ATOMIC, Access::READ | Access::WRITE, Access::WRITE] {
        let rkey = bench.memory.export(domain, 0, rights, &[], 4).unwrap();
        let arguments = Arguments::home(AT).encode();
        let (finish, _) = bench.call(&rkey, KernelId::PARTITION_WRITE, &arguments, &[0; 16]);
        assert_ne!(finish.status, Status::Ok, "{rights:?}");
        assert_eq!(finish.fate, Fate::NotExecuted, "{rights:?}");
    }
    assert_eq!(partitioned.partitions.counters(0), Counters::default());
    assert!(partitioned.bench.executor.is_idle());
    for bad in [
        shape(9, 16, 1),
        shape(1, 4, 1),
        shape(1, 24, 1),
        shape(1, 512, 1),
        Shape { key_offset: 4, ..shape(1, 16, 1) },
        Shape { key_offset: 16, ..shape(1, 16, 1) },
        Shape { by: By::Radix { shift: 64 }, ..shape(1, 16, 1) },
        shape(8, 256, u64::MAX / 256),
        shape(1, 16, 1000),
    ] {
        assert!(Partitions::format(small.clone(), 0, bad).is_err(), "{bad:?}");
    }
    assert!(Shape::parse(&head).is_ok() && Shape::parse(&head[..63]).is_err());
}

#[test]
fn an_op_that_finds_no_room_to_be_held_changes_nothing() {
    // An export has a quarter of the pool: four blocks, one of which is the op's own.
    let limits = Limits { held_bytes: 16 * 4096, ..Limits::default() };
    let mut partitioned = Partitioned::new(shape(2, 8, 2000));
    partitioned.bench.executor = Executor::new(8, limits);
    let payload = records(2048, 8, &mut Random::new(9));
    for _ in 0..3 {
        let (bench, rkey) = (&mut partitioned.bench, &partitioned.rkey);
        let arguments = Arguments::home(AT).encode();
        let (finish, _) = bench.call(rkey, KernelId::PARTITION_WRITE, &arguments, &payload);
        assert_eq!((finish.status, finish.fate), (Status::Busy, Fate::NotExecuted));
        assert_eq!(partitioned.call(&payload[..3 * 4096], 0).0, Status::Ok);
        partitioned.expect(&payload[..3 * 4096]);
    }
    partitioned.check();
    assert!(partitioned.bench.executor.is_idle());
}

crate::bench::also_on_dma!(
    every_record_is_in_its_partition_in_the_order_it_came,
    a_full_partition_is_named_and_the_rest_goes_on_elsewhere,
    from_the_first_reservation_on_an_op_goes_to_its_end,
    every_bad_argument_has_its_status,
);
