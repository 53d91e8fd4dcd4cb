//! Appends, fetches and the owner on one log.

use alloc::vec::Vec;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Rkey, Status, Time};

use super::layout::{HEAD, TAIL, WATERMARK};
use super::*;
use crate::append::{self, Appended, Persist};
use crate::bench::{Bench, op};
use crate::random::Random;
use crate::{Access, Builtin, Finish, Invocation, Limits, SlotId, fetch};

/// Where the log lies in its region.
pub(super) const ADDRESS: u64 = 128;

/// A log of `capacity` bytes, and its bench.
pub(super) struct Logged {
    pub(super) bench: Bench,
    pub(super) log: Log,
    pub(super) rkey: Rkey,
}

impl Logged {
    pub(super) fn new(capacity: u64) -> Self {
        Self::with_limits(capacity, Limits::default())
    }

    pub(super) fn with_limits(capacity: u64, limits: Limits) -> Self {
        let mut bench = Bench::<Builtin>::with_limits(32, limits);
        let (region, rkey) = bench.region(ADDRESS + HEADER_BYTES + capacity + 16);
        let log = Log::format(region, ADDRESS, HEADER_BYTES + capacity).unwrap();
        assert_eq!(log.capacity(), capacity);
        Logged { bench, log, rkey }
    }

    pub(super) fn start_append(&mut self, tag: u64, payload: &[u8], deadline: Time) -> SlotId {
        let arguments = append::Arguments::home(ADDRESS, tag, payload).encode();
        let payload_length = payload.len() as u32;
        let base = op(KernelId::APPEND, &arguments);
        let invocation = Invocation { owner: tag, payload_length, deadline, ..base };
        self.bench.start(&self.rkey, &invocation).unwrap()
    }

    pub(super) fn append(&mut self, tag: u64, payload: &[u8]) -> Appended {
        let arguments = append::Arguments::home(ADDRESS, tag, payload).encode();
        let (finish, reply) = self.bench.call(&self.rkey, KernelId::APPEND, &arguments, payload);
        assert_eq!((finish.status, finish.fate), (Status::Ok, Fate::Executed));
        append::decode_reply(&reply).unwrap()
    }

    pub(super) fn start_fetch(&mut self, from: u64, wait_us: u32, deadline: Time) -> SlotId {
        let arguments = fetch::Arguments::home(ADDRESS, from, wait_us).encode();
        let invocation = Invocation { owner: 99, deadline, ..op(KernelId::FETCH, &arguments) };
        self.bench.start(&self.rkey, &invocation).unwrap()
    }

    pub(super) fn fetch(&mut self, from: u64, room: u32) -> Vec<u8> {
        let arguments = fetch::Arguments::home(ADDRESS, from, 0).encode();
        let invocation = Invocation { reply_capacity: room, ..op(KernelId::FETCH, &arguments) };
        let slot = self.bench.start(&self.rkey, &invocation).unwrap();
        assert_eq!(self.bench.run(Time::ZERO)[0].2.status, Status::Ok);
        let reply = self.bench.reply(slot);
        self.bench.executor.free(slot, &mut self.bench.memory);
        reply
    }

    /// All records from a position on, by as many fetches as it takes.
    fn fetch_all(&mut self, from: u64, random: &mut Random) -> Vec<(u64, u64, Vec<u8>)> {
        let (mut position, mut records, mut room) = (from, Vec::new(), 0);
        loop {
            room = room.max(32 + random.below(3000));
            let reply = self.fetch(position, room as u32);
            match Batch::parse(&reply, position).unwrap() {
                Batch::Records(batch) if batch.next_position() == position && room >= 64 => {
                    assert_eq!(position, self.log.watermark());
                    return records;
                }
                Batch::Records(batch) => {
                    let owned =
                        |record: Record<'_>| (record.position, record.tag, record.payload.to_vec());
                    records.extend(batch.map(owned));
                    position = batch.next_position();
                    room = 0;
                }
                Batch::TooLong { needed } => {
                    assert!(needed > room, "{needed} bytes fit {room}");
                    room = needed;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// What the owner sees from a position on.
    pub(super) fn read_all(&self, from: u64) -> Vec<(u64, u64, Vec<u8>)> {
        let (mut position, mut records, mut buffer) = (from, Vec::new(), Vec::new());
        while position < self.log.watermark() {
            let (record, next) = self.log.read(position, &mut buffer).unwrap();
            if let Some(record) = record {
                records.push((record.position, record.tag, record.payload.to_vec()));
            }
            position = next;
        }
        records
    }

    /// Gives the last slots back that ops have.
    pub(super) fn free(&mut self, slots: &[SlotId]) {
        let bench = &mut self.bench;
        slots.iter().for_each(|slot| bench.executor.free(*slot, &mut bench.memory));
        assert!(bench.executor.is_idle());
    }

    pub(super) fn holds(&self) -> u32 {
        self.bench.memory.holds(self.rkey.export.get(), self.rkey.generation.get())
    }

    pub(super) fn set(&self, word: u64, value: u64) {
        word_of(&self.log).write(ADDRESS + word, &value.to_le_bytes()).unwrap();
    }
}

/// The memory of a log.
pub(super) fn word_of(log: &Log) -> RacyMem {
    log.memory().clone()
}

pub(super) fn bytes(random: &mut Random, most: u64) -> Vec<u8> {
    (0..random.below(most + 1)).map(|_| random.next() as u8).collect()
}

#[test]
fn appends_and_fetches_agree_with_an_oracle() {
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let mut logged = Logged::new(32 * (300 + random.below(100)));
        let (mut oracle, mut tag, mut refused) = (Vec::new(), 0, 0);
        for _ in 0..60 {
            // A few appends at once, the parts of their payloads in any order and mixed.
            let mut parts = Vec::new();
            let mut appended = Vec::new();
            for _ in 0..1 + random.below(5) {
                tag += 1;
                let payload = bytes(&mut random, 1500);
                let slot = logged.start_append(tag, &payload, Time::NEVER);
                let size = 1 + random.below(700) as usize;
                let starts = (0..payload.len()).step_by(size);
                parts.extend(starts.map(|at| (slot, at, payload[at..].to_vec(), size)));
                appended.push((tag, payload));
            }
            for place in 0..parts.len() {
                let other = place + random.below((parts.len() - place) as u64) as usize;
                parts.swap(place, other);
            }
            let mut over = Vec::new();
            for (slot, at, bytes, size) in parts {
                let bytes = &bytes[..size.min(bytes.len())];
                let bench = &mut logged.bench;
                bench.executor.payload(slot, at as u32, bytes, &mut bench.memory).unwrap();
                if random.below(3) == 0 {
                    over.extend(bench.run(Time::ZERO));
                }
            }
            over.extend(logged.bench.run(Time::ZERO));
            assert_eq!(over.len(), appended.len());
            let mut done = Vec::new();
            for (slot, owner, finish) in over {
                assert_eq!(finish.status, Status::Ok);
                let reply = logged.bench.reply(slot);
                logged.bench.executor.free(slot, &mut logged.bench.memory);
                let payload = appended.iter().find(|(tag, _)| *tag == owner).unwrap().1.clone();
                match append::decode_reply(&reply).unwrap() {
                    Appended::At { position, next } => {
                        let size = record_bytes(payload.len() as u32);
                        assert_eq!(next, position + size);
                        done.push((position, owner, payload));
                    }
                    Appended::Full { head, tail, capacity } => {
                        assert_eq!((head, capacity), (logged.log.head(), logged.log.capacity()));
                        assert!(tail <= logged.log.tail());
                        refused += 1;
                    }
                    Appended::TooLong { most } => panic!("{} over {most} bytes", payload.len()),
                }
            }
            if random.below(3) == 0 {
                let payload = bytes(&mut random, 500);
                tag += 1;
                if let Ok(position) = logged.log.append(tag, &payload) {
                    done.push((position, tag, payload));
                }
            }
            done.sort_by_key(|(position, _, _)| *position);
            oracle.extend(done);
            assert_eq!(logged.log.watermark(), logged.log.tail(), "seed {seed}");
            let head = logged.log.head();
            let live = oracle.iter().filter(|(position, _, _)| *position >= head);
            let live: Vec<_> = live.cloned().collect();
            assert_eq!(logged.read_all(head), live, "seed {seed}");
            assert_eq!(logged.fetch_all(head, &mut random), live, "seed {seed}");
            if random.below(2) == 0 && !live.is_empty() {
                let to = live[random.below(live.len() as u64) as usize].0;
                logged.log.trim(to).unwrap();
                let before = to.saturating_sub(32);
                let reply = logged.fetch(before, 4096);
                let expected = if before < to { Batch::Trimmed { head: to } } else { continue };
                assert_eq!(Batch::parse(&reply, before), Ok(expected));
            }
        }
        assert!(refused > 0 && logged.log.tail() > 3 * logged.log.capacity(), "seed {seed}");
        assert_eq!(logged.holds(), 0);
        assert!(logged.bench.executor.is_idle());
    }
}

#[test]
fn a_full_log_says_so_and_goes_on_when_it_is_trimmed() {
    let mut logged = Logged::new(256);
    let Appended::At { position: 0, next: 96 } = logged.append(1, &[1; 40]) else { panic!() };
    let Appended::At { position: 96, next: 192 } = logged.append(2, &[2; 64]) else { panic!() };
    let full = Appended::Full { tail: 192, head: 0, capacity: 256 };
    assert_eq!(logged.append(3, &[3; 33]), full);
    assert_eq!((logged.log.tail(), logged.log.watermark()), (192, 192), "nothing has changed");
    logged.log.trim(96).unwrap();
    // What is left before the ring's end is passed over.
    let next = Appended::At { position: 256, next: 352 };
    assert_eq!(logged.append(3, &[3; 33]), next);
    assert_eq!(logged.append(4, &[]), Appended::Full { tail: 352, head: 96, capacity: 256 });
    let expected = [(96, 2, alloc::vec![2; 64]), (256, 3, alloc::vec![3; 33])];
    assert_eq!(logged.read_all(96), expected);
    let reply = logged.fetch(352, 64);
    assert!(matches!(Batch::parse(&reply, 352), Ok(Batch::Records(none)) if none.count() == 0));
    let reply = logged.fetch(384, 64);
    assert_eq!(Batch::parse(&reply, 384), Ok(Batch::Beyond { watermark: 352 }));
    assert_eq!(
        logged.log.trim(384),
        Err(LogError::NoPosition { position: 384, head: 96, watermark: 352 })
    );
}

#[test]
fn a_record_of_more_than_half_a_log_is_refused_wherever_the_log_is() {
    for capacity in [64, 96, 128, 256, 4096] {
        let mut logged = Logged::new(capacity);
        let most = payload_bytes_max(capacity);
        let long = alloc::vec![9; most as usize + 1];
        // The longest that is taken fits from every place in the ring, once all before is trimmed.
        for round in 0..2 * capacity / 32 {
            let before = (logged.log.tail(), logged.log.watermark());
            assert_eq!(logged.append(0, &long), Appended::TooLong { most }, "round {round}");
            let by_owner = logged.log.append(0, &long);
            assert_eq!(by_owner, Err(LogError::TooLong { length: most + 1, most }));
            assert_eq!((logged.log.tail(), logged.log.watermark()), before, "nothing has changed");
            let appended = logged.append(1, &long[..most as usize]);
            let Appended::At { next, .. } = appended else { panic!("{capacity}: {appended:?}") };
            logged.log.trim(next).unwrap();
            logged.append(2, &[]);
            logged.log.trim(logged.log.watermark()).unwrap();
        }
    }
}

#[test]
fn every_bad_argument_has_its_status() {
    let mut logged = Logged::new(256);
    let append = |log, persist| {
        let persist = if persist { Persist::Flush } else { Persist::None };
        append::Arguments::new(0xffff, log, 0, b"x", persist).encode()
    };
    let fetch = |log, from| fetch::Arguments::home(log, from, 0).encode();
    let mut reserved = fetch(ADDRESS, 0);
    reserved[22] = 1;
    let mut unknown = append(ADDRESS, false);
    unknown[26] = 2;
    let cases: &[(KernelId, &[u8], Status)] = &[
        (KernelId::APPEND, &append(ADDRESS, true), Status::Unsupported),
        (KernelId::APPEND, &unknown, Status::BadArguments),
        (KernelId::APPEND, &append(ADDRESS + 8, false), Status::Misaligned),
        (KernelId::APPEND, &append(0, false), Status::BadArguments),
        (KernelId::APPEND, &append(1 << 20, false), Status::OutOfBounds),
        (KernelId::APPEND, &[0; 27], Status::BadArguments),
        (KernelId::FETCH, &fetch(ADDRESS, 16), Status::Misaligned),
        (KernelId::FETCH, &fetch(ADDRESS + 32, 0), Status::Misaligned),
        (KernelId::FETCH, &fetch(0, 0), Status::BadArguments),
        (KernelId::FETCH, &reserved, Status::BadArguments),
        (KernelId::FETCH, &[0; 25], Status::BadArguments),
    ];
    for (kernel, arguments, status) in cases {
        let payload_length = u32::from(*kernel == KernelId::APPEND);
        let invocation = Invocation { payload_length, ..op(*kernel, arguments) };
        let finish = match logged.bench.start(&logged.rkey, &invocation) {
            Err(refused) => Finish { status: refused, fate: Fate::NotExecuted, reply_length: 0 },
            Ok(slot) => {
                let bench = &mut logged.bench;
                let payload = &b"x"[..payload_length as usize];
                let _ = bench.executor.payload(slot, 0, payload, &mut bench.memory);
                let finish = bench.run(Time::ZERO)[0].2;
                bench.executor.free(slot, &mut bench.memory);
                finish
            }
        };
        assert_eq!((finish.status, finish.fate), (*status, Fate::NotExecuted), "{arguments:?}");
    }
    let no_writes = Access::READ | Access::ATOMIC;
    let no_writes = logged.bench.memory.export(logged.bench.domain, 0, no_writes, &[], 8).unwrap();
    let arguments = append(ADDRESS, false);
    let invocation = Invocation { payload_length: 1, ..op(KernelId::APPEND, &arguments) };
    assert_eq!(logged.bench.start(&no_writes, &invocation), Err(Status::Denied));
    for word in [HEAD, WATERMARK, TAIL] {
        logged.set(word, 7);
        let arguments = append::Arguments::home(ADDRESS, 0, &[]).encode();
        let (finish, _) = logged.bench.call(&logged.rkey, KernelId::APPEND, &arguments, &[]);
        assert_eq!((finish.status, finish.fate), (Status::BadPointer, Fate::NotExecuted));
        logged.set(word, 0);
    }
    assert!(logged.bench.executor.is_idle());
    assert_eq!(logged.holds(), 0);
}

#[test]
fn changed_replies_are_noticed() {
    let mut logged = Logged::new(4096);
    for tag in 0..4 {
        logged.append(tag, &[tag as u8; 50]);
    }
    let reply = logged.fetch(0, 4096);
    let mut noticed = 0;
    for place in 0..reply.len() {
        let mut changed = reply.clone();
        changed[place] ^= 0x10;
        match Batch::parse(&changed, 0) {
            Ok(Batch::Records(records)) => {
                assert!(records.clone().all(|r| r.payload == [r.tag as u8; 50]), "{place}");
                assert_eq!((records.count(), records.next_position()), (4, 384), "{place}");
            }
            _ => noticed += 1,
        }
    }
    // Not: the reply's head and watermark, what fills records up, and four zero bytes of each.
    assert!(noticed > 4 * (32 - 4 + 50), "{noticed} of {}", reply.len());
    assert!(Batch::parse(&reply[..40], 0).is_err());
    assert!(Batch::parse(&reply, 32).is_err());
}

crate::bench::also_on_dma!(
    appends_and_fetches_agree_with_an_oracle,
    a_full_log_says_so_and_goes_on_when_it_is_trimmed,
    every_bad_argument_has_its_status,
);
