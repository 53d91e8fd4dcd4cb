//! Payload in parts.

use alloc::vec::Vec;
use core::ops::Range;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Rkey, Status, Time};

use crate::bench::{Bench, op};
use crate::random::Random;
use crate::{Builtin, Finish, Invocation, PayloadError, SlotId, write};

const SENTINEL: u8 = 0xee;

/// A region full of sentinels, and a WRITE of `length` bytes to `address` under way.
fn writing(address: u64, length: u32) -> (Bench, RacyMem, Rkey, SlotId) {
    let mut bench = Bench::<Builtin>::new(4);
    let (memory, rkey) = bench.region(512);
    memory.fill(0, 512, SENTINEL).unwrap();
    let arguments = write::Arguments::home(address).encode();
    let invocation = Invocation { payload_length: length, ..op(KernelId::WRITE, &arguments) };
    let slot = bench.start(&rkey, &invocation).unwrap();
    (bench, memory, rkey, slot)
}

fn bytes_of(memory: &RacyMem, range: Range<u64>) -> Vec<u8> {
    let mut bytes = alloc::vec![0; (range.end - range.start) as usize];
    memory.read(range.start, &mut bytes).unwrap();
    bytes
}

/// Where the last aligned word of a range begins.
fn last_word(address: u64, length: u32) -> Option<u64> {
    let end = (address + u64::from(length)) & !7;
    (end >= address + 8).then(|| end - 8)
}

#[test]
fn parts_come_in_any_order_and_the_last_word_comes_last() {
    for seed in 0..600 {
        let mut random = Random::new(seed);
        let (address, length) = (random.below(40), 1 + random.below(120) as u32);
        let payload: Vec<u8> = (0..length).map(|place| place as u8 & 0x7f).collect();
        let (mut bench, memory, _, slot) = writing(address, length);
        let mut cuts: Vec<usize> = (0..random.below(6))
            .map(|_| random.below(u64::from(length)) as usize)
            .chain([0, length as usize])
            .collect();
        cuts.sort_unstable();
        let mut parts: Vec<Range<usize>> = cuts.windows(2).map(|cut| cut[0]..cut[1]).collect();
        for place in 0..parts.len() {
            let other = place + random.below((parts.len() - place) as u64) as usize;
            parts.swap(place, other);
        }
        let mut missing = length as usize;
        for part in parts {
            if let Some(word) = last_word(address, length) {
                let kept = bytes_of(&memory, word..word + 8);
                assert_eq!(kept, [SENTINEL; 8], "seed {seed}: the last word came early");
            }
            missing -= part.len();
            assert!(missing == 0 || bench.run(Time::ZERO).is_empty(), "seed {seed}");
            let place = part.start as u32;
            bench.executor.payload(slot, place, &payload[part], &mut bench.memory).unwrap();
            if missing == 0 {
                break;
            }
        }
        let over = bench.run(Time::ZERO);
        let done = Finish { status: Status::Ok, fate: Fate::Executed, reply_length: 0 };
        assert_eq!(over, [(slot, 0, done)], "seed {seed}");
        let end = address + u64::from(length);
        assert_eq!(bytes_of(&memory, address..end), payload, "seed {seed}");
        assert!(bytes_of(&memory, 0..address).iter().all(|byte| *byte == SENTINEL));
        assert!(bytes_of(&memory, end..512).iter().all(|byte| *byte == SENTINEL));
    }
}

#[test]
fn an_empty_payload_is_whole_from_the_start() {
    let (mut bench, memory, _, slot) = writing(8, 0);
    let over = bench.run(Time::ZERO);
    assert_eq!((over.len(), over[0].0, over[0].2.status), (1, slot, Status::Ok));
    assert_eq!(bytes_of(&memory, 0..16), [SENTINEL; 16]);
}

#[test]
fn parts_that_leave_the_payload_end_the_op() {
    for (offset, part) in [(0, 17), (16, 1), (u32::MAX, 2), (9, 8)] {
        let (mut bench, memory, _, slot) = writing(8, 16);
        let bytes = alloc::vec![1; part];
        let refused = bench.executor.payload(slot, offset, &bytes, &mut bench.memory);
        assert_eq!(refused, Err(PayloadError::Overrun { offset, found: part, length: 16 }));
        let over = bench.run(Time::ZERO);
        let finish =
            Finish { status: Status::BadArguments, fate: Fate::NotExecuted, reply_length: 0 };
        assert_eq!(over, [(slot, 0, finish)]);
        assert!(bytes_of(&memory, 0..512).iter().all(|byte| *byte == SENTINEL));
        let late = bench.executor.payload(slot, 0, &[1], &mut bench.memory);
        assert_eq!(late, Err(PayloadError::Over));
    }
}

#[test]
fn more_bytes_than_the_payload_has_end_the_op() {
    let (mut bench, _, _, slot) = writing(8, 16);
    bench.executor.payload(slot, 0, &[1; 10], &mut bench.memory).unwrap();
    let again = bench.executor.payload(slot, 0, &[1; 10], &mut bench.memory);
    assert_eq!(again, Err(PayloadError::Overrun { offset: 0, found: 10, length: 16 }));
    let over = bench.run(Time::ZERO);
    assert_eq!((over[0].2.status, over[0].2.fate), (Status::BadArguments, Fate::Unknown));
}

#[test]
fn a_revoked_write_is_unknown_once_it_has_begun() {
    for begun in [false, true] {
        let (mut bench, memory, rkey, slot) = writing(8, 16);
        if begun {
            bench.executor.payload(slot, 0, &[1; 4], &mut bench.memory).unwrap();
        }
        let (export, generation) = (rkey.export.get(), rkey.generation.get());
        assert_eq!(bench.memory.revoke(export, generation), Ok(1));
        let refused = bench.executor.payload(slot, 4, &[2; 4], &mut bench.memory);
        assert_eq!(refused, Err(PayloadError::Refused(Status::Revoked)));
        assert_eq!(bench.memory.holds(export, generation), 0);
        let fate = if begun { Fate::Unknown } else { Fate::NotExecuted };
        let finish = Finish { status: Status::Revoked, fate, reply_length: 0 };
        assert_eq!(bench.run(Time::ZERO), [(slot, 0, finish)]);
        assert_eq!(bytes_of(&memory, 12..16), [SENTINEL; 4]);
    }
}

#[test]
fn writes_whose_payload_does_not_come_expire() {
    let mut bench = Bench::<Builtin>::new(8);
    let (_, rkey) = bench.region(512);
    let arguments = write::Arguments::home(0).encode();
    let mut begin = |deadline| {
        let invocation = Invocation {
            owner: deadline,
            payload_length: 16,
            deadline: Time::from_ns(deadline),
            ..op(KernelId::WRITE, &arguments)
        };
        let slot = bench.start(&rkey, &invocation).unwrap();
        (slot, deadline)
    };
    let slots: Vec<(SlotId, u64)> = [50, 20, 90, 20, 70].map(&mut begin).into();
    bench.executor.payload(slots[1].0, 0, &[1; 4], &mut bench.memory).unwrap();
    let mut expired_at = |now| -> Vec<(u64, Fate)> {
        let over = bench.run(Time::from_ns(now));
        over.iter()
            .map(|(slot, owner, finish)| {
                assert_eq!(finish.status, Status::Expired);
                bench.executor.free(*slot, &mut bench.memory);
                (*owner, finish.fate)
            })
            .collect()
    };
    assert_eq!(expired_at(19), []);
    let mut both = expired_at(20);
    both.sort_unstable_by_key(|(_, fate)| fate.code());
    assert_eq!(both, [(20, Fate::NotExecuted), (20, Fate::Unknown)]);
    assert_eq!(expired_at(69), [(50, Fate::NotExecuted)]);
    assert_eq!(expired_at(1000).len(), 2);
    assert!(bench.executor.is_idle());
}

crate::bench::also_on_dma!(
    parts_come_in_any_order_and_the_last_word_comes_last,
    an_empty_payload_is_whole_from_the_start,
    parts_that_leave_the_payload_end_the_op,
    more_bytes_than_the_payload_has_end_the_op,
    a_revoked_write_is_unknown_once_it_has_begun,
    writes_whose_payload_does_not_come_expire,
);

#[test]
fn a_hole_in_a_held_payload_shows_nothing_of_others() {
    let mut bench = Bench::<Builtin>::new(8);
    let (theirs, their_key) = bench.region(64 << 10);
    let (mine, my_key) = bench.region(64 << 10);
    crate::log::Log::format(theirs, 0, 32 << 10).unwrap();
    crate::log::Log::format(mine.clone(), 0, 32 << 10).unwrap();
    let secret = [0x5e; 4096];
    let arguments = crate::append::Arguments::home(0, 1, &secret).encode();
    assert_eq!(bench.call(&their_key, KernelId::APPEND, &arguments, &secret).0.status, Status::Ok);
    let arguments = crate::append::Arguments::home(0, 1, &[]).encode();
    let invocation = Invocation { payload_length: 4096, ..op(KernelId::APPEND, &arguments) };
    let slot = bench.start(&my_key, &invocation).unwrap();
    for _ in 0..2 {
        bench.executor.payload(slot, 0, &[1; 2048], &mut bench.memory).unwrap();
    }
    bench.run(Time::ZERO);
    let mut bytes = [0; 4096];
    mine.read(64 + 32, &mut bytes).unwrap();
    let leaked = bytes.iter().filter(|byte| **byte == 0x5e).count();
    assert_eq!(
        leaked, 0,
        "bytes of another owner's payload in the region of who sent overlapping parts"
    );
}

#[test]
fn a_hole_in_a_write_shows_nothing_of_others() {
    let mut bench = Bench::<Builtin>::new(1);
    let (_, their_key) = bench.region(4096);
    let (mine, my_key) = bench.region(4096);
    let arguments = write::Arguments::home(0).encode();
    let theirs_and_mine =
        [(&their_key, [(0, [0x5e; 8]), (8, [0x5e; 8])]), (&my_key, [(0, [1; 8]), (0, [1; 8])])];
    for (key, parts) in theirs_and_mine {
        let invocation = Invocation { payload_length: 16, ..op(KernelId::WRITE, &arguments) };
        let slot = bench.start(key, &invocation).unwrap();
        for (offset, part) in parts {
            bench.executor.payload(slot, offset, &part, &mut bench.memory).unwrap();
        }
        bench.run(Time::ZERO);
        bench.executor.free(slot, &mut bench.memory);
    }
    let mut bytes = [0; 16];
    mine.read(0, &mut bytes).unwrap();
    assert!(!bytes.contains(&0x5e), "{bytes:x?}");
}
