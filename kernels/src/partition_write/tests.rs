//! Streams into partitions, against lists that are kept beside.

use alloc::vec::Vec;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Rkey, Status};

use super::*;
use crate::bench::{Bench, op};
use crate::random::Random;
use crate::{Access, Builtin, Invocation};

/// Where the header is; not at the region's start.
const AT: u64 = 192;

/// A region with partitions, and what should be in them.
struct Partitioned {
    bench: Bench,
    partitions: Partitions,
    rkey: Rkey,
    expected: Vec<Vec<Vec<u8>>>,
}

impl Partitioned {
    fn new(shape: Shape) -> Self {
        let mut bench = Bench::<Builtin>::new(8);
        let (region, rkey) = bench.region(AT + shape.bytes().unwrap());
        let partitions = Partitions::format(region, AT, shape).unwrap();
        let expected = alloc::vec![Vec::new(); shape.count().into()];
        Partitioned { bench, partitions, rkey, expected }
    }

    fn call(&mut self, payload: &[u8], from_partition: u16) -> (Status, Fate, Option<Answer>) {
        let arguments = Arguments::home(AT).from_partition(from_partition).encode();
        let base = op(KernelId::PARTITION_WRITE, &arguments);
        let invocation = Invocation { payload_length: payload.len() as u32, ..base };
        let slot = match self.bench.start(&self.rkey, &invocation) {
            Ok(slot) => slot,
            Err(status) => return (status, Fate::NotExecuted, None),
        };
        // The parts come from the end on, and none has the length of a block.
        let mut parts: Vec<(usize, &[u8])> =
            payload.chunks(1448).enumerate().map(|(at, part)| (at * 1448, part)).collect();
        parts.reverse();
        for (at, part) in parts {
            let bench = &mut self.bench;
            bench.executor.payload(slot, at as u32, part, &mut bench.memory).unwrap();
        }
        let over = self.bench.run(nic_wire::Time::ZERO);
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

fn shape(bits: u8, record_bytes: u16, capacity: u64) -> Shape {
    let key_offset = (record_bytes / 2) & !7;
    Shape { bits, record_bytes, key_offset, by: By::Hash, capacity }
}

fn records(count: u64, size: u16, random: &mut Random) -> Vec<u8> {
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
            let most = partitioned.partitions.shape().payload_bytes_max().min(100_000);
            let count = random.below(u64::from(most) / u64::from(base.record_bytes) + 1);
            let payload = records(count.min(2000), base.record_bytes, &mut random);
            let (status, fate, answer) = partitioned.call(&payload, 0);
            assert_eq!((status, fate), (Status::Ok, Fate::Executed), "seed {seed}");
            let answer = answer.unwrap();
            assert_eq!(answer.done() as usize, payload.len());
            assert_eq!(answer.records(), count.min(2000));
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
        let most = partitioned.partitions.shape().payload_bytes_max();
        assert!(most >= 200 << 10, "{most} bytes to {} partitions", 1 << bits);
        let count = u64::from(most / u32::from(record_bytes));
        let payload = records(count, record_bytes, &mut Random::new(5));
        let (status, _, answer) = partitioned.call(&payload, 0);
        assert_eq!(status, Status::Ok);
        assert_eq!(answer.unwrap().done(), most);
        partitioned.expect(&payload);
        partitioned.check();
        let longer = [&payload[..], &[0; 4096]].concat();
        assert_eq!(partitioned.call(&longer, 0).0, Status::BadArguments);
    }
}

#[test]
fn a_full_partition_is_named_and_the_rest_goes_on_elsewhere() {
    let mut random = Random::new(3);
    let mut partitioned = Partitioned::new(shape(3, 16, 200));
    let payload = records(2000, 16, &mut random);
    let (status, _, answer) = partitioned.call(&payload, 0);
    let answer = answer.unwrap();
    assert_eq!(status, Status::Ok);
    let done = answer.done() as usize;
    assert!(done < payload.len() && done.is_multiple_of(4096));
    // What is written: all blocks before, and of this one what comes before the partition.
    partitioned.expect(&payload[..done]);
    let block = payload[done..].chunks(4096).next().unwrap();
    let shape = *partitioned.partitions.shape();
    let is_written = |record: &&[u8]| shape.partition_of(record) < answer.partition();
    let written: Vec<u8> = block.chunks_exact(16).filter(is_written).flatten().copied().collect();
    partitioned.expect(&written);
    partitioned.check();
    let count: usize = partitioned.expected.iter().map(Vec::len).sum();
    assert_eq!(answer.records(), count as u64);

    // The owner makes room: the same partitions, longer. The op goes on from where it stopped.
    let mut longer = Partitioned::new(Shape { capacity: 3000, ..shape });
    let (status, _, rest) = longer.call(&payload[done..], answer.partition());
    assert_eq!((status, rest.unwrap().done() as usize), (Status::Ok, payload.len() - done));
    let left = |record: &&[u8]| !is_written(record);
    let left: Vec<u8> = block.chunks_exact(16).filter(left).flatten().copied().collect();
    longer.expect(&left);
    longer.expect(&payload[done + block.len()..]);
    longer.check();
    assert_eq!(rest.unwrap().records() + answer.records(), 2000);
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
    assert_eq!((status, answer.unwrap().done()), (Status::Ok, 0));
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
    // The counters are there, the partition is not.
    let (finish, _) = bench.call(&rkey, KernelId::PARTITION_WRITE, &arguments, &[255; 16]);
    assert_eq!((finish.status, finish.fate), (Status::BadPointer, Fate::Unknown));
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
fn streams_that_come_at_once_lose_nothing() {
    use std::thread;
    let shape = Shape { by: By::Radix { shift: 0 }, ..shape(3, 16, 20_000) };
    let region = RacyMem::allocate(AT + shape.bytes().unwrap());
    let partitions = Partitions::format(region.clone(), AT, shape).unwrap();
    let stream = |number: u64| {
        let region = region.clone();
        move || {
            let mut bench = Bench::<Builtin>::new(1);
            let home = bench.register(&region);
            let rkey = bench.memory.export(bench.domain, home, Access::all(), &[], 7).unwrap();
            for first in (0..40_000u64).step_by(400) {
                let payload: Vec<u8> = (first..first + 400)
                    .flat_map(|key| [number, key])
                    .flat_map(u64::to_le_bytes)
                    .collect();
                let arguments = Arguments::home(AT).encode();
                let id = KernelId::PARTITION_WRITE;
                let (finish, _) = bench.call(&rkey, id, &arguments, &payload);
                assert_eq!(finish.status, Status::Ok);
            }
        }
    };
    thread::scope(|scope| {
        let threads = [0, 1].map(|number| scope.spawn(stream(number)));
        // What is said to be whole is, at any time.
        while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            for partition in 0..8 {
                let Some(whole) = partitions.counters(partition).whole() else { continue };
                let from = whole.saturating_sub(64);
                let mut found = alloc::vec![0; (whole - from) as usize * 16];
                partitions.read(partition, from, &mut found).unwrap();
                let keys = found.as_chunks::<16>().0.iter().map(|record| record[8]);
                assert!(keys.into_iter().all(|key| u16::from(key & 7) == partition));
            }
        }
    });
    for partition in 0..8 {
        assert_eq!(partitions.counters(partition).whole(), Some(10_000));
        let mut found = alloc::vec![0; 10_000 * 16];
        partitions.read(partition, 0, &mut found).unwrap();
        let mut next = [u64::from(partition); 2];
        for record in found.as_chunks::<16>().0 {
            let (words, _) = record.as_chunks::<8>();
            let [stream, key] = [words[0], words[1]].map(u64::from_le_bytes);
            assert_eq!(key, next[stream as usize], "each stream's records are in order");
            next[stream as usize] += 8;
        }
    }
}

crate::bench::also_on_dma!(
    every_record_is_in_its_partition_in_the_order_it_came,
    a_full_partition_is_named_and_the_rest_goes_on_elsewhere,
    every_bad_argument_has_its_status,
);
