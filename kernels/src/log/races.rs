//! Two engines and the owner on one log at once.

use alloc::vec::Vec;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nic_shm::RacyMem;
use nic_wire::{KernelId, Status, Time};

use super::*;
use crate::append::{self, Appended};
use crate::bench::op;
use crate::mapped::{MappedMemory, Tables};
use crate::random::Random;
use crate::{Access, Budget, Builtin, Executor, Grant, Invocation, Limits, Memory, fetch};

const CAPACITY: u64 = 16 << 10;
const RECORDS: u64 = 20_000;

/// One engine's ways to the log.
struct Engine {
    memory: MappedMemory,
    executor: Executor<Builtin, MappedMemory>,
    grant: Grant,
    now: Time,
}

impl Engine {
    fn new(region: &RacyMem) -> Self {
        let mut memory = MappedMemory::new(Tables::default());
        let domain = memory.add_domain().unwrap();
        let home = memory.register(domain, region.clone(), 0).unwrap();
        let rkey = memory.export(domain, home, Access::all(), &[], 3).unwrap();
        let grant = memory.admit(&rkey).unwrap();
        let executor = Executor::new(8, Limits::default());
        Engine { memory, executor, grant, now: Time::ZERO }
    }

    /// One op from start to end.
    fn call(&mut self, kernel: KernelId, arguments: &[u8], payload: &[u8]) -> (Status, Vec<u8>) {
        let Engine { memory, executor, grant, now } = self;
        let payload_length = payload.len() as u32;
        let base = op(kernel, arguments);
        let invocation = Invocation { payload_length, reply_capacity: 8192, ..base };
        let slot = executor.start(memory, *now, *grant, &invocation).unwrap();
        if !payload.is_empty() {
            executor.payload(slot, 0, payload, memory).unwrap();
        }
        let mut end = None;
        while end.is_none() {
            executor.run(memory, *now, Budget::default(), &mut |_, _, finish| end = Some(finish));
            if executor.ready() == 0 && end.is_none() {
                // Waits for others, whom it does not hear.
                *now = executor.next_deadline();
                thread::yield_now();
            }
        }
        let mut reply = alloc::vec![0; executor.reply_length(slot) as usize];
        executor.copy_reply(slot, memory, 0, &mut reply).unwrap();
        executor.free(slot, memory);
        (end.unwrap().status, reply)
    }
}

/// The payload that a tag has.
fn payload_of(tag: u64) -> Vec<u8> {
    let mut random = Random::new(tag);
    let length = random.below(300);
    (0..length).map(|_| random.next() as u8).collect()
}

/// Appends records whose tags say whose they are and ascend.
fn append_remotely(region: &RacyMem, author: u64) {
    let mut engine = Engine::new(region);
    for number in 0..RECORDS {
        let tag = author << 32 | number;
        let payload = payload_of(tag);
        let arguments = append::Arguments::home(0, tag, &payload).encode();
        loop {
            let (status, reply) = engine.call(KernelId::APPEND, &arguments, &payload);
            assert_eq!(status, Status::Ok);
            match append::decode_reply(&reply).unwrap() {
                Appended::At { .. } => break,
                Appended::Full { .. } => thread::yield_now(),
                Appended::TooLong { most } => panic!("more than {most} bytes"),
            }
        }
    }
}

fn append_locally(log: &Log, author: u64) {
    for number in 0..RECORDS {
        let tag = author << 32 | number;
        while log.append(tag, &payload_of(tag)).is_err() {
            thread::yield_now();
        }
    }
}

/// Reads remotely, as fast as it can, what is not yet trimmed.
fn read_remotely(region: &RacyMem, stop: &AtomicBool) -> [u64; 3] {
    let mut engine = Engine::new(region);
    let (mut position, mut next, [mut read, mut torn, mut trimmed]) = (0, [0; 3], [0; 3]);
    while !stop.load(Ordering::Relaxed) {
        let arguments = fetch::Arguments::home(0, position, 0).encode();
        let (status, reply) = engine.call(KernelId::FETCH, &arguments, &[]);
        assert_eq!(status, Status::Ok);
        match Batch::parse(&reply, position) {
            Ok(Batch::Records(records)) => {
                for record in records {
                    check(&record, &mut next, false);
                    read += 1;
                }
                position = records.next_position();
            }
            Ok(Batch::Trimmed { head }) => (position, trimmed) = (head, trimmed + 1),
            Err(BadBatch::Torn { .. }) => torn += 1,
            other => panic!("{other:?}"),
        }
    }
    [read, torn, trimmed]
}

/// A record is its author's next, or a later one if some may be missing.
fn check(record: &Record<'_>, next: &mut [u64; 3], is_gapless: bool) {
    let (author, number) = ((record.tag >> 32) as usize, record.tag & 0xffff_ffff);
    assert!(number == next[author] || (number > next[author] && !is_gapless), "{record:?}");
    assert_eq!(record.payload, payload_of(record.tag));
    next[author] = number + 1;
}

#[test]
fn records_of_two_engines_and_the_owner_are_all_there_in_order() {
    let region = RacyMem::allocate(HEADER_BYTES + CAPACITY);
    let log = Log::format(region.clone(), 0, HEADER_BYTES + CAPACITY).unwrap();
    let stop = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let writers = [
            scope.spawn(|| append_remotely(&region, 0)),
            scope.spawn(|| append_remotely(&region, 1)),
            scope.spawn(|| append_locally(&log, 2)),
        ];
        let reader = scope.spawn(|| read_remotely(&region, &stop));
        // The owner reads all, and trims what it has read.
        let (mut position, mut next, mut buffer) = (0, [0; 3], Vec::new());
        while next != [RECORDS; 3] {
            if position == log.watermark() {
                let is_dead = writers.iter().all(thread::ScopedJoinHandle::is_finished);
                assert!(!is_dead || position < log.watermark(), "only {next:?} were there");
                thread::yield_now();
                continue;
            }
            let (record, after) = log.read(position, &mut buffer).unwrap();
            if let Some(record) = record {
                check(&record, &mut next, true);
            }
            position = after;
            log.trim(position).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    std::println!("records, torn and trimmed batches: {seen:?}");
    assert!(seen[0] > 0);
    assert_eq!((log.watermark(), log.head()), (log.tail(), log.tail()));
}
