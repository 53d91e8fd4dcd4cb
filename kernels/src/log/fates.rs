//! Appends that are stopped: by deadlines, initiators, owners and memory.

use alloc::vec::Vec;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Span, Status, Time};

use super::layout::TAIL;
use super::tests::{ADDRESS, Logged, bytes};
use super::*;
use crate::append::{self, Append};
use crate::bench::{Bench, op};
use crate::dma::{DmaMemory, Settings};
use crate::kernel::{Event, Step};
use crate::mapped::{MappedMemory, Tables};
use crate::random::Random;
use crate::reply::Gather;
use crate::{
    Access, Budget, Builtin, Call, Executor, Finish, Invocation, Kernel, Limits, Memory, Reply,
};

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
    logged.free(&[late, over]);
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
    logged.free(&slots);
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
    let (mut gather, mut scratch) = (Gather::EMPTY, [0; 64]);
    gather.begin(64);
    let mut event = Event::Start;
    let mut refusals = 0;
    let outcome = loop {
        assert!(refusals < 100);
        let step = append.step(event, &mut Reply::new(&mut gather));
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

crate::bench::also_on_dma!(nothing_is_reserved_before_the_payload_is_whole);
