//! Appends, fetches and the owner on one log.

use alloc::vec::Vec;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Rkey, Span, Status, Time};

use super::layout::{HEAD, Kind, TAIL, WATERMARK, state};
use super::*;
use crate::append::{self, Append, Appended, Persist};
use crate::bench::{Bench, op};
use crate::dma::{DmaMemory, Settings};
use crate::kernel::{Event, Step};
use crate::mapped::{MappedMemory, Tables};
use crate::random::Random;
use crate::{
    Access, Budget, Builtin, Call, Executor, Finish, Invocation, Kernel, Limits, Memory, Reply,
    SlotId, fetch,
};

/// Where the log lies in its region.
const ADDRESS: u64 = 128;

/// A log of `capacity` bytes, and its bench.
struct Logged {
    bench: Bench,
    log: Log,
    rkey: Rkey,
}

impl Logged {
    fn new(capacity: u64) -> Self {
        Self::with_limits(capacity, Limits::default())
    }

    fn with_limits(capacity: u64, limits: Limits) -> Self {
        let mut bench = Bench::<Builtin>::with_limits(32, limits);
        let (region, rkey) = bench.region(ADDRESS + HEADER_BYTES + capacity + 16);
        let log = Log::format(region, ADDRESS, HEADER_BYTES + capacity).unwrap();
        assert_eq!(log.capacity(), capacity);
        Logged { bench, log, rkey }
    }

    fn start_append(&mut self, tag: u64, payload: &[u8], deadline: Time) -> SlotId {
        let arguments = append::Arguments::home(ADDRESS, tag, payload).encode();
        let payload_length = payload.len() as u32;
        let base = op(KernelId::APPEND, &arguments);
        let invocation = Invocation { owner: tag, payload_length, deadline, ..base };
        self.bench.start(&self.rkey, &invocation).unwrap()
    }

    fn append(&mut self, tag: u64, payload: &[u8]) -> Appended {
        let arguments = append::Arguments::home(ADDRESS, tag, payload).encode();
        let (finish, reply) = self.bench.call(&self.rkey, KernelId::APPEND, &arguments, payload);
        assert_eq!((finish.status, finish.fate), (Status::Ok, Fate::Executed));
        append::decode_reply(&reply).unwrap()
    }

    fn start_fetch(&mut self, from: u64, wait_us: u32, deadline: Time) -> SlotId {
        let arguments = fetch::Arguments::home(ADDRESS, from, wait_us).encode();
        let invocation = Invocation { owner: 99, deadline, ..op(KernelId::FETCH, &arguments) };
        self.bench.start(&self.rkey, &invocation).unwrap()
    }

    fn fetch(&mut self, from: u64, room: u32) -> Vec<u8> {
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
    fn read_all(&self, from: u64) -> Vec<(u64, u64, Vec<u8>)> {
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

    fn holds(&self) -> u32 {
        self.bench.memory.holds(self.rkey.export.get(), self.rkey.generation.get())
    }

    fn set(&self, word: u64, value: u64) {
        word_of(&self.log).write(ADDRESS + word, &value.to_le_bytes()).unwrap();
    }
}

/// The memory of a log.
fn word_of(log: &Log) -> RacyMem {
    log.memory().clone()
}

fn bytes(random: &mut Random, most: u64) -> Vec<u8> {
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
fn nothing_is_reserved_before_the_payload_is_whole() {
    let mut logged = Logged::new(4096);
    let deadline = Time::from_ns(50);
    let late = logged.start_append(1, &[1; 100], deadline);
    let gone = logged.start_append(2, &[2; 100], Time::NEVER);
    let over = logged.start_append(3, &[3; 100], Time::NEVER);
    for slot in [late, gone, over] {
        let bench = &mut logged.bench;
        bench.executor.payload(slot, 50, &[9; 50], &mut bench.memory).unwrap();
        assert!(bench.run(Time::ZERO).is_empty());
    }
    let bench = &mut logged.bench;
    assert_eq!(bench.executor.cancel(gone, &mut bench.memory), Fate::NotExecuted);
    assert!(bench.executor.payload(over, 0, &[9; 51], &mut bench.memory).is_err());
    let ended: Vec<_> = bench.run(deadline).iter().map(|(_, tag, f)| (*tag, *f)).collect();
    let ended_as = |status| Finish { status, fate: Fate::NotExecuted, reply_length: 0 };
    assert_eq!(ended.len(), 2);
    assert!(ended.contains(&(1, ended_as(Status::Expired))));
    assert!(ended.contains(&(3, ended_as(Status::BadArguments))));
    assert_eq!((logged.log.tail(), logged.holds()), (0, 0));
    bench_free(&mut logged, &[late, over]);
    // All that was held is there again: of 8 MiB, 2 are for one export's ops.
    let long = alloc::vec![7; 1 << 20];
    let slots = [1, 2].map(|tag| logged.start_append(tag, &long, Time::NEVER));
    let arguments = append::Arguments::home(ADDRESS, 5, b"x").encode();
    let one_more = Invocation { payload_length: 1, ..op(KernelId::APPEND, &arguments) };
    assert_eq!(logged.bench.start(&logged.rkey, &one_more), Err(Status::Busy));
    let (domain, bench) = (logged.bench.domain, &mut logged.bench);
    let others = bench.memory.export(domain, 0, Access::all(), &[], 6).unwrap();
    assert_eq!(bench.call(&others, KernelId::APPEND, &arguments, b"x").0.status, Status::Ok);
    let tail = logged.log.tail();
    // A revocation ends those that wait.
    let (export, generation) = (logged.rkey.export.get(), logged.rkey.generation.get());
    logged.bench.memory.revoke(export, generation).unwrap();
    logged.bench.executor.release_revoked(&mut logged.bench.memory);
    let over = logged.bench.run(Time::ZERO);
    assert!(over.iter().all(|(_, _, finish)| *finish == ended_as(Status::Revoked)));
    assert_eq!((over.len(), logged.log.tail()), (2, tail));
    bench_free(&mut logged, &slots);
}

fn bench_free(logged: &mut Logged, slots: &[SlotId]) {
    let bench = &mut logged.bench;
    slots.iter().for_each(|slot| bench.executor.free(*slot, &mut bench.memory));
    assert!(bench.executor.is_idle());
}

#[test]
fn from_reserve_to_commit_an_append_goes_on() {
    let round = Budget { rounds: 1, cost: u64::MAX };
    for by_cancelling in [false, true] {
        let mut reserved = 0;
        for rounds in 0..40 {
            let mut logged = Logged::new(64 << 10);
            let payload: Vec<u8> = (0..20_000).map(|at| at as u8).collect();
            let deadline = Time::from_ns(50);
            let slot = logged.start_append(1, &payload, deadline);
            let Bench { executor, memory, .. } = &mut logged.bench;
            executor.payload(slot, 0, &payload, memory).unwrap();
            let mut ends = Vec::new();
            for _ in 0..rounds {
                executor.run(memory, Time::ZERO, round, &mut |_, _, finish| ends.push(finish));
            }
            if !ends.is_empty() {
                break;
            }
            let is_reserved = logged.log.tail() > 0;
            let is_open = is_reserved && logged.log.watermark() == 0;
            reserved += u32::from(is_open);
            let fate = if by_cancelling {
                executor.cancel(slot, memory)
            } else {
                let mut fate = Fate::Unknown;
                executor.run(memory, deadline, Budget::default(), &mut |_, _, finish| {
                    fate = finish.fate;
                    assert_eq!(finish.status == Status::Ok, is_reserved, "{finish:?}");
                });
                fate
            };
            logged.bench.run(deadline);
            assert_eq!(fate == Fate::NotExecuted, !is_reserved, "round {rounds}");
            assert_eq!(logged.log.watermark(), logged.log.tail());
            let expected = [(0, 1, payload)];
            assert_eq!(logged.read_all(0), expected[..usize::from(is_reserved)]);
            assert_eq!(logged.holds(), 0);
            logged.bench.executor.free(slot, &mut logged.bench.memory);
            assert!(logged.bench.executor.is_idle());
        }
        assert!(reserved > 5, "only {reserved} rounds were between reserve and commit");
    }
}

#[test]
fn a_revocation_in_the_middle_leaves_a_log_that_can_be_mended() {
    let round = Budget { rounds: 1, cost: u64::MAX };
    let mut holes = 0;
    for rounds in 0..20 {
        let mut logged = Logged::new(64 << 10);
        logged.append(1, b"before");
        let payload = alloc::vec![5; 20_000];
        let slot = logged.start_append(2, &payload, Time::NEVER);
        let Bench { executor, memory, .. } = &mut logged.bench;
        executor.payload(slot, 0, &payload, memory).unwrap();
        for _ in 0..rounds {
            executor.run(memory, Time::ZERO, round, &mut |_, _, _| {});
        }
        let _ = memory.revoke(logged.rkey.export.get(), logged.rkey.generation.get());
        logged.bench.executor.release_revoked(&mut logged.bench.memory);
        let over = logged.bench.run(Time::ZERO);
        let reserved = logged.log.tail() - logged.log.watermark();
        if let Some((_, _, finish)) = over.first() {
            let fate = if logged.log.tail() > 64 { Fate::Unknown } else { Fate::NotExecuted };
            let expected = Finish { status: Status::Revoked, fate, reply_length: 0 };
            assert!(finish.status == Status::Ok || *finish == expected, "{finish:?}");
        }
        assert_eq!(logged.holds(), 0);
        let skipped = logged.log.repair().unwrap();
        assert!(skipped == reserved || skipped == 0, "{skipped} of {reserved}");
        holes += u32::from(skipped > 0);
        assert_eq!(logged.log.watermark(), logged.log.tail());
        let found = logged.read_all(0);
        assert_eq!(found[0], (0, 1, b"before".to_vec()));
        assert!(found.len() == 1 || found[1] == (64, 2, payload));
        // And it goes on.
        let position = logged.log.append(3, b"after").unwrap();
        assert_eq!(logged.read_all(position), [(position, 3, b"after".to_vec())]);
    }
    assert!(holes > 2, "{holes} holes");
}

#[test]
fn a_repair_passes_over_holes_and_nothing_else() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let logged = Logged::new(8192);
        let (mut expected, mut holes) = (Vec::new(), 0);
        for tag in 0..200 {
            // What lay there before must not be taken for records.
            logged.log.append(tag, &bytes(&mut random, 900)).unwrap();
            logged.log.trim(logged.log.watermark()).unwrap();
        }
        let start = logged.log.watermark();
        for tag in 0..8 {
            if random.below(2) == 0 {
                let hole = 32 * (1 + random.below(8));
                logged.set(TAIL, logged.log.tail() + hole);
                holes += hole;
            } else {
                let payload = bytes(&mut random, 300);
                let position = logged.log.append(tag, &payload).unwrap();
                expected.push((position, tag, payload));
            }
        }
        assert_eq!(logged.log.repair(), Ok(holes), "seed {seed}");
        assert_eq!(logged.read_all(start), expected, "seed {seed}");
        assert_eq!(logged.log.repair(), Ok(0));
    }
}

#[test]
fn an_append_waits_for_those_before_it() {
    let mut logged = Logged::new(4096);
    // Somebody else has reserved and is slow.
    logged.set(TAIL, 64);
    let deadline = Time::from_ns(5_000_000);
    let slots = [1, 2].map(|tag| {
        let slot = logged.start_append(tag, &[tag as u8; 10], deadline);
        let bench = &mut logged.bench;
        bench.executor.payload(slot, 0, &[tag as u8; 10], &mut bench.memory).unwrap();
        slot
    });
    assert!(logged.bench.run(Time::ZERO).is_empty());
    assert_eq!((logged.log.watermark(), logged.log.tail()), (0, 192));
    let look_again = logged.bench.executor.next_deadline();
    assert_eq!(look_again, Time::ZERO + Limits::default().look_again);
    // Now that is done; whoever looks first takes the other along.
    let memory = word_of(&logged.log);
    let first = ADDRESS + HEADER_BYTES;
    memory.write(first + 8, &20u64.to_le_bytes()).unwrap();
    memory.write(first, &state(0, Kind::Skip).to_le_bytes()).unwrap();
    let _ = memory;
    assert!(logged.bench.run(Time::from_ns(1)).is_empty(), "nobody has told them");
    logged.set(WATERMARK, 64);
    let over = logged.bench.run(look_again);
    assert_eq!(over.len(), 2);
    assert!(over.iter().all(|(_, _, finish)| finish.status == Status::Ok));
    assert_eq!(logged.log.watermark(), 192);
    bench_free(&mut logged, &slots);

    // One that gives up while it waits is taken along by the next.
    logged.set(TAIL, 256);
    let slot = logged.start_append(3, &[3; 10], deadline);
    let bench = &mut logged.bench;
    bench.executor.payload(slot, 0, &[3; 10], &mut bench.memory).unwrap();
    assert!(bench.run(Time::from_ns(7)).is_empty());
    let over = bench.run(deadline);
    let finish = Finish { status: Status::Expired, fate: Fate::Unknown, reply_length: 0 };
    assert_eq!(over, [(slot, 3, finish)]);
    bench_free(&mut logged, &[slot]);
    let memory = word_of(&logged.log);
    memory.write(first + 192 + 8, &20u64.to_le_bytes()).unwrap();
    memory.write(first + 192, &state(192, Kind::Skip).to_le_bytes()).unwrap();
    let Appended::At { position: 320, .. } = logged.append(4, b"last") else { panic!() };
    let tags: Vec<u64> = logged.read_all(0).iter().map(|(_, tag, _)| *tag).collect();
    assert_eq!(tags, [1, 2, 3, 4]);
}

#[test]
fn a_parked_fetch_costs_nothing_and_is_woken_by_an_append() {
    let mut logged = Logged::new(4096);
    let slots = [0; 3].map(|from| logged.start_fetch(from, 1_000_000, Time::NEVER));
    assert!(logged.bench.run(Time::ZERO).is_empty());
    assert!(slots.iter().all(|slot| logged.bench.executor.waits(*slot)));
    for now in [1, 999_999] {
        let Bench { executor, memory, .. } = &mut logged.bench;
        let now = Time::from_ns(now);
        let progress = executor.run(memory, now, Budget::default(), &mut |_, _, _| {});
        assert_eq!((progress.ready, progress.waiting, progress.cost), (0, 3, 0));
    }
    let append = logged.start_append(7, b"apple", Time::NEVER);
    let bench = &mut logged.bench;
    bench.executor.payload(append, 0, b"apple", &mut bench.memory).unwrap();
    let over = bench.run(Time::from_ns(999_999));
    assert_eq!(over.len(), 4);
    for slot in slots {
        let reply = logged.bench.reply(slot);
        let Ok(Batch::Records(mut records)) = Batch::parse(&reply, 0) else { panic!() };
        let record = Record { position: 0, tag: 7, payload: b"apple" };
        assert_eq!((records.next_position(), records.next()), (64, Some(record)));
        assert_eq!(records.next(), None);
    }
    let ended: Vec<SlotId> = over.iter().map(|(slot, _, _)| *slot).collect();
    bench_free(&mut logged, &ended);
}

#[test]
fn a_parked_fetch_finds_what_the_owner_appends_and_ends_in_time() {
    let mut logged = Logged::new(4096);
    let start = Time::ZERO;
    let slot = logged.start_fetch(0, 5_000, Time::NEVER);
    assert!(logged.bench.run(start).is_empty());
    logged.log.append(7, b"apple").unwrap();
    assert!(logged.bench.run(start + Span::from_us(999)).is_empty());
    assert_eq!(logged.bench.executor.next_deadline(), start + Span::from_ms(1));
    assert_eq!(logged.bench.run(start + Span::from_ms(1)).len(), 1);
    let reply = logged.bench.reply(slot);
    assert!(matches!(Batch::parse(&reply, 0), Ok(Batch::Records(records)) if records.count() == 1));
    bench_free(&mut logged, &[slot]);

    // Without records it ends when it has waited long enough, or as it ends that it belongs to.
    let patient = logged.start_fetch(64, 2_500, Time::NEVER);
    let hasty = logged.start_fetch(64, 2_500, Time::from_ns(1_500_000));
    let cancelled = logged.start_fetch(64, 2_500, Time::NEVER);
    let mut ends = Vec::new();
    for us in (0..=3000).step_by(100) {
        let over = logged.bench.run(start + Span::from_us(us));
        ends.extend(over.iter().map(|(slot, _, finish)| (us, *slot, finish.status)));
        if us == 1000 {
            let bench = &mut logged.bench;
            let fate = bench.executor.cancel(cancelled, &mut bench.memory);
            assert_eq!(fate, Fate::NotExecuted);
        }
    }
    assert_eq!(ends, [(1500, hasty, Status::Expired), (2500, patient, Status::Ok)]);
    let reply = logged.bench.reply(patient);
    assert!(
        matches!(Batch::parse(&reply, 64), Ok(Batch::Records(records)) if records.count() == 0)
    );
    bench_free(&mut logged, &[patient, hasty]);

    let revoked = logged.start_fetch(64, 2_500, Time::NEVER);
    assert!(logged.bench.run(start).is_empty());
    let (export, generation) = (logged.rkey.export.get(), logged.rkey.generation.get());
    logged.bench.memory.revoke(export, generation).unwrap();
    logged.bench.executor.release_revoked(&mut logged.bench.memory);
    assert_eq!(logged.bench.run(start)[0].2.status, Status::Revoked);
    assert_eq!(logged.holds(), 0);
    bench_free(&mut logged, &[revoked]);
}

#[test]
fn more_than_may_wait_do_not() {
    let mut logged = Logged::with_limits(4096, Limits { waits: 2, ..Limits::default() });
    let slots = [0; 3].map(|from| logged.start_fetch(from, 1_000_000, Time::NEVER));
    let over = logged.bench.run(Time::ZERO);
    assert_eq!(over.len(), 1);
    assert_eq!((over[0].0, over[0].2.status), (slots[2], Status::Ok));
    let reply = logged.bench.reply(slots[2]);
    assert!(matches!(Batch::parse(&reply, 0), Ok(Batch::Records(records)) if records.count() == 0));
    let bench = &mut logged.bench;
    bench.executor.free(slots[2], &mut bench.memory);

    // An append behind one that is slow cannot end well without a wait; the next takes it along.
    logged.set(TAIL, 64);
    let slow = logged.start_append(1, &[1; 10], Time::NEVER);
    let bench = &mut logged.bench;
    bench.executor.payload(slow, 0, &[1; 10], &mut bench.memory).unwrap();
    let finish = Finish { status: Status::Busy, fate: Fate::Unknown, reply_length: 0 };
    assert_eq!(bench.run(Time::ZERO), [(slow, 1, finish)]);
    bench.executor.free(slow, &mut bench.memory);
    let (memory, first) = (word_of(&logged.log), ADDRESS + HEADER_BYTES);
    memory.write(first + 8, &20u64.to_le_bytes()).unwrap();
    memory.write(first, &state(0, Kind::Skip).to_le_bytes()).unwrap();
    logged.start_append(2, b"", Time::NEVER);
    // Both who waited hear of it.
    assert_eq!(logged.bench.run(Time::ZERO).len(), 3);
    let tags: Vec<u64> = logged.read_all(0).iter().map(|(_, tag, _)| *tag).collect();
    assert_eq!(tags, [1, 2]);
}

#[test]
fn an_append_that_reserved_nothing_is_not_executed() {
    let mut bench = Bench::<Builtin>::new(8);
    let (region, rkey) = bench.region(64 << 10);
    let log = Log::format(region.clone(), 0, 32 << 10).unwrap();
    let arguments = append::Arguments::home(0, 1, b"apple").encode();
    let invocation = Invocation { payload_length: 5, ..op(KernelId::APPEND, &arguments) };
    let slot = bench.start(&rkey, &invocation).unwrap();
    bench.executor.payload(slot, 0, b"apple", &mut bench.memory).unwrap();
    let round = |bench: &mut Bench| {
        let Bench { executor, memory, .. } = bench;
        let round = Budget { rounds: 1, cost: u64::MAX };
        executor.run(memory, Time::ZERO, round, &mut |_, _, _| panic!("it is not over"));
    };
    round(&mut bench); // held: the header is asked for
    round(&mut bench); // the header has come: the swap is asked for
    log.append(2, b"another was first").unwrap();
    round(&mut bench); // the swap is lost: the header is asked for again
    region.write(0, &[0; 8]).unwrap(); // the owner gives the log up
    let end = bench.run(Time::ZERO);
    let finish = end[0].2;
    assert_eq!((finish.status, finish.fate), (Status::BadArguments, Fate::NotExecuted));
}

#[test]
fn failures_of_the_device_leave_no_hole() {
    let latency = Span::from_ns(0)..=Span::from_ns(9);
    let settings = Settings { depth: 4, latency, failures_per_million: 200_000, seed: 4 };
    let mut memory = DmaMemory::new(MappedMemory::new(Tables::default()), settings);
    let domain = memory.add_domain().unwrap();
    let region = RacyMem::allocate(1 << 20);
    let home = memory.register(domain, region.clone(), 0).unwrap();
    let rkey = memory.export(domain, home, Access::all(), &[], 3).unwrap();
    let log = Log::format(region, 0, 1 << 20).unwrap();
    let mut executor = Executor::<Builtin, DmaMemory>::new(16, Limits::default());
    let grant = memory.admit(&rkey).unwrap();
    let (mut now, mut tag, mut ends) = (Time::ZERO, 0, Vec::new());
    while ends.len() < 1500 {
        while executor.room() > 0 {
            let payload = [tag as u8; 100];
            let arguments = append::Arguments::home(0, tag, &payload).encode();
            let base = op(KernelId::APPEND, &arguments);
            let invocation = Invocation { owner: tag, payload_length: 100, ..base };
            let slot = executor.start(&mut memory, now, grant, &invocation).unwrap();
            executor.payload(slot, 0, &payload, &mut memory).unwrap();
            tag += 1;
        }
        now += Span::from_ns(3);
        memory.advance(now);
        let mut over = Vec::new();
        executor.run(&mut memory, now, Budget::default(), &mut |slot, owner, finish| {
            over.push((slot, owner, finish));
        });
        for (slot, owner, finish) in over {
            ends.push((owner, finish));
            executor.free(slot, &mut memory);
        }
        if executor.ready() == 0 && executor.room() == 0 {
            now = executor.next_deadline();
        }
    }
    // The last may have left the watermark to the next.
    log.append(u64::MAX, b"end").unwrap();
    let (mut position, mut tags, mut buffer) = (0, Vec::new(), Vec::new());
    while position < log.watermark() {
        let (record, next) = log.read(position, &mut buffer).unwrap();
        tags.extend(record.map(|record| record.tag));
        position = next;
    }
    let failed = ends.iter().filter(|(_, finish)| finish.status == Status::TransferFailed).count();
    assert!(failed > 100, "{failed} failed");
    for (tag, finish) in ends {
        let found = tags.iter().filter(|found| **found == tag).count();
        match finish.fate {
            Fate::Executed => assert_eq!((found, finish.status), (1, Status::Ok), "{tag}"),
            Fate::NotExecuted => assert_eq!(found, 0, "{tag}"),
            Fate::Unknown => assert!(found <= 1, "{tag}"),
        }
    }
}

#[test]
fn a_record_that_memory_refuses_is_one_to_be_skipped() {
    let region = RacyMem::allocate(4096);
    let log = Log::format(region.clone(), 0, 4096).unwrap();
    let arguments = append::Arguments::home(0, 1, &[1; 100]).encode();
    let call = Call { arguments: &arguments, home: 0, payload_length: 100, reply_capacity: 64 };
    let mut append = Append::begin(&call).unwrap();
    let (mut buffer, mut length, mut scratch) = ([0; 64], 0, [0; 64]);
    let mut event = Event::Start;
    let mut refusals = 0;
    let outcome = loop {
        assert!(refusals < 100);
        let step = append.step(event, &mut Reply::new(&mut buffer, &mut length));
        event = match step {
            Step::HoldPayload => Event::Held,
            Step::Fetch(at) => {
                let into = &mut scratch[..at.length as usize];
                region.read(at.at.address, into).unwrap();
                Event::Fetched(into)
            }
            Step::CompareSwap { at, expected, desired } => {
                let found = region.load64(at.at.address).unwrap();
                if found == expected {
                    region.write(at.at.address, &desired.to_le_bytes()).unwrap();
                }
                Event::Old(found)
            }
            Step::Store { at, word } => {
                region.write(at.at.address, &word.to_le_bytes()).unwrap();
                Event::Written
            }
            Step::StoreWords(_) => Event::Written,
            Step::StorePayload(_) => {
                assert!(append.must_end());
                refusals += 1;
                Event::Refused(Status::TransferFailed)
            }
            Step::Finish(outcome) => break outcome,
            step => panic!("{step:?}"),
        };
    };
    assert_eq!(outcome, crate::Outcome::Abandoned(Status::TransferFailed));
    assert_eq!(refusals, 17);
    assert_eq!(log.read(0, &mut Vec::new()), Ok((None, 160)));
    assert_eq!((log.watermark(), log.tail()), (160, 160));
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
    nothing_is_reserved_before_the_payload_is_whole,
    a_parked_fetch_finds_what_the_owner_appends_and_ends_in_time,
);
