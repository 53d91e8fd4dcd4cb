//! Streams that come at once, and a device that fails them.

use alloc::vec::Vec;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Span, Status, Time};

use super::tests::{AT, Partitioned, records, shape};
use super::*;
use crate::bench::{Bench, op};
use crate::dma::{DmaMemory, Settings};
use crate::mapped::{MappedMemory, Tables};
use crate::random::Random;
use crate::{Access, Budget, Builtin, Executor, Invocation, Limits, Memory};

#[test]
fn failures_of_the_device_lose_nothing() {
    let latency = Span::from_ns(0)..=Span::from_ns(9);
    let settings = Settings { depth: 4, latency, failures_per_million: 200_000, seed: 4 };
    let mut memory = DmaMemory::new(MappedMemory::new(Tables::default()), settings);
    let domain = memory.add_domain().unwrap();
    let shape = shape(4, 8, 20_000);
    let region = RacyMem::allocate(shape.bytes().unwrap());
    let home = memory.register(domain, region.clone(), 0).unwrap();
    let rkey = memory.export(domain, home, Access::all(), &[], 3).unwrap();
    let partitions = Partitions::format(region, 0, shape).unwrap();
    let mut executor = Executor::<Builtin, DmaMemory>::new(4, Limits::default());
    let grant = memory.admit(&rkey).unwrap();
    let payload = records(1000, 8, &mut Random::new(7));
    let arguments = Arguments::home(0).encode();
    let base = op(KernelId::PARTITION_WRITE, &arguments);
    let invocation = Invocation { payload_length: payload.len() as u32, ..base };
    let (mut now, mut written, mut failed) = (Time::ZERO, 0, 0);
    while written < 100 {
        while executor.room() > 0 {
            let slot = executor.start(&mut memory, now, grant, &invocation).unwrap();
            executor.payload(slot, 0, &payload, &mut memory).unwrap();
        }
        now += Span::from_ns(3);
        memory.advance(now);
        let mut over = Vec::new();
        executor.run(&mut memory, now, Budget::default(), &mut |slot, _, finish| {
            over.push((slot, finish));
        });
        for (slot, finish) in over {
            // A place once given is used; before, the op ends.
            let is_written = finish.status == Status::Ok;
            assert!(is_written || finish.fate != Fate::Executed, "{finish:?}");
            written += u64::from(is_written);
            failed += u64::from(!is_written);
            executor.free(slot, &mut memory);
        }
    }
    assert!(failed > 100, "{failed} ops failed");
    while !executor.is_idle() {
        now += Span::from_ns(3);
        memory.advance(now);
        let mut over = Vec::new();
        executor.run(&mut memory, now, Budget::default(), &mut |slot, _, finish| {
            written += u64::from(finish.status == Status::Ok);
            over.push(slot);
        });
        over.into_iter().for_each(|slot| executor.free(slot, &mut memory));
    }
    let counts = (0..16).map(|partition| partitions.counters(partition).whole().unwrap());
    assert_eq!(counts.sum::<u64>(), 1000 * written);
}

/// Partition 1 has room for 10 records, and 4 of them. One op brings 8 more, for which there is no
/// room, and three others 2 each, one of which has none either; they begin at any rounds.
#[test]
fn an_op_without_room_takes_none_from_others() {
    let by = By::Radix { shift: 0 };
    let shape = Shape { bits: 1, record_bytes: 8, key_offset: 0, by, capacity: 10 };
    for code in 0..(12 * 12 * 12) {
        let starts = [0, code % 12, code / 12 % 12, 12 + code / 144];
        let mut partitioned = Partitioned::new(shape);
        // So many records of partition 0 and of partition 1.
        let begin = |partitioned: &mut Partitioned, owner: u64, even: u64, odd: u64| {
            let keys = (0..even).map(|_| 0).chain((0..odd).map(|_| 1));
            let payload: Vec<u8> = keys.flat_map(|key| (owner << 32 | key).to_le_bytes()).collect();
            partitioned.begin(owner, &payload, 0, Time::NEVER).unwrap();
        };
        begin(&mut partitioned, 1, 0, 4);
        partitioned.bench.run(Time::ZERO);
        let mut acknowledged = Vec::new();
        for at in 0..200 {
            for (which, _) in starts.iter().enumerate().filter(|(_, start)| **start == at) {
                let (even, odd) = [(1, 8), (0, 2), (1, 2), (0, 2)][which];
                begin(&mut partitioned, 2 + which as u64, even, odd);
            }
            let (Bench { executor, memory, .. }, mut over) = (&mut partitioned.bench, Vec::new());
            let budget = Budget { rounds: 1, cost: 1 << 20 };
            executor
                .run(memory, Time::ZERO, budget, &mut |slot, owner, _| over.push((slot, owner)));
            for (slot, owner) in over {
                let answer = Answer::decode(&partitioned.bench.reply(slot)).unwrap();
                if answer.records() == [9, 2, 3, 2][owner as usize - 2] {
                    acknowledged.push(owner);
                }
            }
        }
        let whole = partitioned.partitions.counters(1).whole().unwrap();
        let mut found = alloc::vec![0; whole as usize * 8];
        partitioned.partitions.read(1, 0, &mut found).unwrap();
        let (words, _) = found.as_chunks::<8>();
        let owners: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word) >> 32).collect();
        assert_eq!(whole, 10, "{starts:?}: there is room for three times two");
        assert_eq!(acknowledged.len(), 3, "{starts:?}: {acknowledged:?}");
        assert!(acknowledged.iter().all(|owner| owners.contains(owner)), "{starts:?}: {owners:?}");
    }
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

crate::bench::also_on_dma!(an_op_without_room_takes_none_from_others);
