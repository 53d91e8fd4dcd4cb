//! The plain ops, and what every op has in common.

use alloc::vec::Vec;

use nic_wire::{Fate, KernelId, Rkey, Status, Time};

use crate::bench::{Bench, op};
use crate::random::Random;
use crate::{
    Access, Answer, Budget, Finish, Invocation, TRANSFER_BYTES_MAX, compare_swap, fetch_add, read,
    write,
};

fn failed(status: Status) -> Finish {
    Finish { status, fate: Fate::NotExecuted, reply_length: 0 }
}

fn done(reply_length: u32) -> Finish {
    Finish { status: Status::Ok, fate: Fate::Executed, reply_length }
}

#[test]
fn read_replies_with_the_range() {
    let mut bench = Bench::<crate::Builtin>::new(4);
    let (_, rkey) = bench.region(2 << 20);
    for (address, length) in [(0, 0), (0, 1), (5, 511), (7, 513), (100, 70_000), (3, 1 << 20)] {
        let arguments = read::Arguments::home(address, length).encode();
        let (finish, reply) = bench.call(&rkey, KernelId::READ, &arguments, &[]);
        assert_eq!(finish, done(length));
        let expected: Vec<u8> = (address..address + u64::from(length)).map(|b| b as u8).collect();
        assert!(reply == expected, "{length} bytes at {address}");
    }
}

#[test]
fn replies_can_be_cut_anywhere() {
    let mut bench = Bench::<crate::Builtin>::new(4);
    let (_, rkey) = bench.region(8192);
    let arguments = read::Arguments::home(10, 5000).encode();
    let slot = bench.start(&rkey, &op(KernelId::READ, &arguments)).unwrap();
    bench.run(Time::ZERO);
    let whole = bench.reply(slot);
    let mut random = Random::new(7);
    for _ in 0..200 {
        let start = random.below(5001) as usize;
        let end = start + random.below(5001 - start as u64) as usize;
        let mut part = alloc::vec![0; end - start];
        bench.executor.copy_reply(slot, &bench.memory, start as u32, &mut part).unwrap();
        assert_eq!(part, whole[start..end]);
    }
    let beyond = bench.executor.copy_reply(slot, &bench.memory, 4999, &mut [0; 2]);
    assert_eq!(beyond, Err(Status::OutOfBounds));
}

#[test]
fn words_are_swapped_and_added() {
    let mut bench = Bench::<crate::Builtin>::new(4);
    let (memory, rkey) = bench.region(64);
    memory.word64(16).unwrap().store(5, core::sync::atomic::Ordering::Relaxed);
    let swap = |expected, desired| compare_swap::Arguments::home(16, expected, desired).encode();
    let old = |(finish, reply): (Finish, Vec<u8>)| {
        assert_eq!(finish, done(8));
        compare_swap::decode_reply(&reply).unwrap()
    };
    assert_eq!(old(bench.call(&rkey, KernelId::COMPARE_SWAP, &swap(4, 9), &[])), 5);
    assert_eq!(old(bench.call(&rkey, KernelId::COMPARE_SWAP, &swap(5, 9), &[])), 5);
    let add = fetch_add::Arguments::home(16, 3).encode();
    assert_eq!(old(bench.call(&rkey, KernelId::FETCH_ADD, &add, &[])), 9);
    assert_eq!(memory.load64(16), Ok(12));
}

#[test]
fn every_bad_input_has_its_status() {
    let mut bench = Bench::<crate::Builtin>::new(4);
    let (_, rkey) = bench.region(64);
    let read = |address, length| read::Arguments::home(address, length).encode();
    let add = |address| fetch_add::Arguments::home(address, 1).encode();
    let too_long = read(0, TRANSFER_BYTES_MAX + 1);
    let no_region = read::Arguments::new(256, 0, 1).encode();
    let not_followed = read::Arguments::new(9, 0, 1).encode();
    let cases: &[(KernelId, &[u8], Status)] = &[
        (KernelId(0), &[], Status::UnknownKernel),
        (KernelId::CALL, &[], Status::UnknownKernel),
        (KernelId(999), &read(0, 1), Status::UnknownKernel),
        (KernelId::READ, &[], Status::BadArguments),
        (KernelId::READ, &read(0, 1)[..15], Status::BadArguments),
        (KernelId::READ, &[0; 17], Status::BadArguments),
        (KernelId::READ, &too_long, Status::BadArguments),
        (KernelId::READ, &no_region, Status::BadArguments),
        (KernelId::READ, &not_followed, Status::Denied),
        (KernelId::READ, &read(64, 1), Status::OutOfBounds),
        (KernelId::READ, &read(u64::MAX, 2), Status::OutOfBounds),
        (KernelId::WRITE, &[0; 3], Status::BadArguments),
        (KernelId::WRITE, &write::Arguments::home(65).encode(), Status::OutOfBounds),
        (KernelId::COMPARE_SWAP, &[0; 27], Status::BadArguments),
        (KernelId::FETCH_ADD, &[0; 25], Status::BadArguments),
        (KernelId::FETCH_ADD, &add(4), Status::Misaligned),
        (KernelId::FETCH_ADD, &add(64), Status::OutOfBounds),
        (KernelId::SCAN_AND_READ, &[0; 32], Status::BadArguments),
    ];
    for (kernel, arguments, status) in cases {
        let (finish, _) = bench.call(&rkey, *kernel, arguments, &[]);
        assert_eq!(finish, failed(*status), "{kernel:?} {arguments:?}");
    }
    assert!(bench.executor.is_idle(), "a refused op leaves no slot behind");
    assert_eq!(bench.memory.holds(rkey.export.get(), rkey.generation.get()), 0);
    let wrong = Rkey::new(rkey.export.get(), rkey.generation.get(), 1);
    let (finish, _) = bench.call(&wrong, KernelId::READ, &read(0, 1), &[]);
    assert_eq!(finish, failed(Status::BadRkey));
}

#[test]
fn a_reply_without_a_place_is_refused_before_anything_happens() {
    let mut bench = Bench::<crate::Builtin>::new(4);
    let (memory, rkey) = bench.region(64);
    let before = memory.load64(8);
    let add = fetch_add::Arguments::home(8, 1).encode();
    let short = Invocation { reply_capacity: 7, ..op(KernelId::FETCH_ADD, &add) };
    assert_eq!(bench.start(&rkey, &short), Err(Status::ReplyTooLong));
    let read = read::Arguments::home(0, 33).encode();
    let short = Invocation { reply_capacity: 32, ..op(KernelId::READ, &read) };
    assert_eq!(bench.start(&rkey, &short), Err(Status::ReplyTooLong));
    assert_eq!(memory.load64(8), before);
}

#[test]
fn a_read_only_export_changes_nothing() {
    let mut bench = Bench::<crate::Builtin>::new(4);
    let (memory, rkey) = bench.region(64);
    let number = 0;
    let read_only = bench.memory.export(bench.domain, number, Access::READ, &[], 3).unwrap();
    let before = memory.read_array::<64>(0);
    let writes = write::Arguments::home(0).encode();
    let invocation = Invocation { payload_length: 8, ..op(KernelId::WRITE, &writes) };
    assert_eq!(bench.start(&read_only, &invocation), Err(Status::Denied));
    let add = fetch_add::Arguments::home(8, 1).encode();
    assert_eq!(bench.call(&read_only, KernelId::FETCH_ADD, &add, &[]).0, failed(Status::Denied));
    assert_eq!(memory.read_array::<64>(0), before);
    let arguments = read::Arguments::home(0, 8).encode();
    assert_eq!(bench.call(&rkey, KernelId::READ, &arguments, &[]).0, done(8));
}

#[test]
fn many_ops_are_in_flight_and_each_ends_once() {
    let mut bench = Bench::<crate::Builtin>::new(64);
    let (memory, rkey) = bench.region(4096);
    memory.fill(0, 4096, 0).unwrap();
    let mut random = Random::new(3);
    let (mut started, mut ended, mut added) = (0u64, Vec::new(), [0u64; 8]);
    let mut slots = Vec::new();
    while ended.len() < 5000 {
        for _ in 0..random.below(70) {
            let word = random.below(8);
            let arguments = fetch_add::Arguments::home(word * 8, started).encode();
            let invocation = Invocation { owner: started, ..op(KernelId::FETCH_ADD, &arguments) };
            match bench.start(&rkey, &invocation) {
                Ok(_) => {
                    added[word as usize] += started;
                    started += 1;
                }
                Err(status) => {
                    assert_eq!((status, bench.executor.room()), (Status::Busy, 0));
                }
            }
        }
        let budget = Budget { rounds: 1 + random.below(3) as u32, cost: 1 + random.below(40) };
        bench.executor.run(&mut bench.memory, Time::ZERO, budget, &mut |slot, owner, finish| {
            assert_eq!(finish, done(8));
            ended.push(owner);
            slots.push(slot);
        });
        while slots.len() > random.below(20) as usize {
            let slot = slots.swap_remove(random.below(slots.len() as u64) as usize);
            bench.executor.free(slot, &mut bench.memory);
            bench.executor.free(slot, &mut bench.memory);
        }
    }
    bench.run(Time::ZERO).iter().for_each(|(_, owner, _)| ended.push(*owner));
    ended.sort_unstable();
    assert_eq!(ended, (0..started).collect::<Vec<_>>());
    for (word, sum) in added.iter().enumerate() {
        assert_eq!(memory.load64(word as u64 * 8), Ok(*sum));
    }
}

#[test]
fn names_of_freed_slots_are_stale() {
    let mut bench = Bench::<crate::Builtin>::new(1);
    let (_, rkey) = bench.region(64);
    let arguments = read::Arguments::home(0, 8).encode();
    let first = bench.start(&rkey, &op(KernelId::READ, &arguments)).unwrap();
    bench.run(Time::ZERO);
    bench.executor.free(first, &mut bench.memory);
    let second = bench.start(&rkey, &op(KernelId::READ, &arguments)).unwrap();
    assert_eq!(first.index(), second.index());
    assert_ne!(first, second);
    assert_eq!(bench.executor.reply_length(first), 0);
    assert_eq!(bench.executor.cancel(first, &mut bench.memory), Fate::Unknown);
    assert_eq!(bench.run(Time::ZERO).len(), 1, "the second goes on");
    assert_eq!(bench.executor.reply_length(second), 8);
}

#[test]
fn what_a_finished_read_holds_is_released_by_revocation() {
    let mut bench = Bench::<crate::Builtin>::new(2);
    let (_, rkey) = bench.region(4096);
    let (slot_of_export, generation) = (rkey.export.get(), rkey.generation.get());
    let arguments = read::Arguments::home(0, 4096).encode();
    let slot = bench.start(&rkey, &op(KernelId::READ, &arguments)).unwrap();
    bench.run(Time::ZERO);
    bench.executor.release_revoked(&mut bench.memory);
    assert_eq!(bench.reply(slot).len(), 4096, "nothing was revoked");
    assert_eq!(bench.memory.revoke(slot_of_export, generation), Ok(1));
    let copied = bench.executor.copy_reply(slot, &bench.memory, 0, &mut [0; 16]);
    assert_eq!(copied, Err(Status::Revoked));
    bench.executor.release_revoked(&mut bench.memory);
    assert_eq!(bench.memory.holds(slot_of_export, generation), 0);
    let copied = bench.executor.copy_reply(slot, &bench.memory, 0, &mut [0; 16]);
    assert_eq!(copied, Err(Status::Revoked));
    bench.executor.free(slot, &mut bench.memory);
    assert!(bench.executor.is_idle());
}

#[test]
fn ops_that_are_answered_at_once_leave_nothing_behind() {
    let mut bench = Bench::<crate::Builtin>::new(2);
    let (_, rkey) = bench.region(4096);
    let reads = read::Arguments::home(16, 4000).encode();
    let slots = [1, 2].map(|owner| {
        bench.start(&rkey, &Invocation { owner, ..op(KernelId::READ, &reads) }).unwrap()
    });
    let mut copy = [0; 8];
    let budget = Budget::default();
    let progress =
        bench.executor.run_answering(&mut bench.memory, Time::ZERO, budget, &mut |ended| {
            assert_eq!((ended.slot, ended.finish), (slots[ended.owner as usize - 1], done(4000)));
            assert_eq!(ended.copy_reply(3992, &mut copy), Ok(()));
            assert_eq!(ended.copy_reply(3993, &mut copy), Err(Status::OutOfBounds));
            if ended.owner == 1 { Answer::Made } else { Answer::Later }
        });
    assert_eq!((progress.finished, progress.ready), (2, 0));
    assert_eq!(copy, [168, 169, 170, 171, 172, 173, 174, 175]);
    assert_eq!(bench.executor.room(), 1);
    assert_eq!(bench.executor.reply_length(slots[0]), 0, "its name is stale");
    assert_eq!(bench.reply(slots[1]).len(), 4000);
    assert_eq!(bench.memory.holds(rkey.export.get(), rkey.generation.get()), 1);
    bench.executor.free(slots[1], &mut bench.memory);
    assert_eq!(bench.memory.holds(rkey.export.get(), rkey.generation.get()), 0);
    assert!(bench.executor.is_idle());
}

#[test]
fn cancelled_ops_leave_nothing_behind() {
    let mut bench = Bench::<crate::Builtin>::new(8);
    let (memory, rkey) = bench.region(64);
    let before = memory.load64(8);
    let add = fetch_add::Arguments::home(8, 1).encode();
    let fetching = bench.start(&rkey, &op(KernelId::FETCH_ADD, &add)).unwrap();
    let writes = write::Arguments::home(0).encode();
    let writing = Invocation { payload_length: 8, ..op(KernelId::WRITE, &writes) };
    let waiting = bench.start(&rkey, &writing).unwrap();
    let partly = bench.start(&rkey, &Invocation { payload_length: 24, ..writing }).unwrap();
    bench.executor.payload(partly, 0, &[1; 4], &mut bench.memory).unwrap();
    let reads = read::Arguments::home(0, 8).encode();
    let finished = bench.start(&rkey, &op(KernelId::READ, &reads)).unwrap();
    let fates = [fetching, waiting, partly, finished]
        .map(|slot| bench.executor.cancel(slot, &mut bench.memory));
    let expected = [Fate::NotExecuted, Fate::NotExecuted, Fate::Unknown, Fate::Executed];
    assert_eq!(fates, expected);
    assert_eq!(bench.memory.holds(rkey.export.get(), rkey.generation.get()), 0);
    assert!(bench.run(Time::ZERO).is_empty(), "nobody hears of a cancelled op");
    assert!(bench.executor.is_idle());
    assert_eq!(memory.load64(8), before);
}

crate::bench::also_on_dma!(
    read_replies_with_the_range,
    replies_can_be_cut_anywhere,
    words_are_swapped_and_added,
    every_bad_input_has_its_status,
    a_reply_without_a_place_is_refused_before_anything_happens,
    a_read_only_export_changes_nothing,
    many_ops_are_in_flight_and_each_ends_once,
    names_of_freed_slots_are_stale,
    what_a_finished_read_holds_is_released_by_revocation,
    ops_that_are_answered_at_once_leave_nothing_behind,
    cancelled_ops_leave_nothing_behind,
);
