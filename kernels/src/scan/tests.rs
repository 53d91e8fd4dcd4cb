//! Scans against plain vectors.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Rkey, Status, Time};

use super::*;
use crate::bench::{Bench, op};
use crate::random::Random;
use crate::{Builtin, HOME_REGION, Invocation, Limits};

const REGION: u64 = 64 << 10;

fn bench(limits: Limits) -> (Bench<Builtin>, RacyMem, Rkey) {
    let mut bench = Bench::with_limits(4, limits);
    let (memory, rkey) = bench.region(REGION);
    (bench, memory, rkey)
}

/// All answers to a scan and to those that go on where it stopped, and how many these were.
fn scan(
    bench: &mut Bench<Builtin>,
    rkey: &Rkey,
    arguments: Arguments,
    room: u32,
) -> (Vec<(u64, i128)>, Vec<u8>) {
    let (mut numbers, mut rows, mut next) = (Vec::new(), Vec::new(), Some(arguments));
    while let Some(arguments) = next {
        let encoded = arguments.encode();
        let invocation = Invocation { reply_capacity: room, ..op(KernelId::SCAN, &encoded) };
        let slot = bench.start(rkey, &invocation).unwrap();
        let over = bench.run(Time::ZERO);
        let finish = over[0].2;
        let stopped = finish.status == Status::Continues;
        assert!(stopped || finish.status == Status::Ok, "{finish:?}");
        assert_eq!(finish.fate, Fate::Executed);
        let reply = bench.reply(slot);
        bench.executor.free(slot, &mut bench.memory);
        let answer = Answer::decode(&arguments, stopped, &reply).unwrap();
        numbers.push((answer.matched, answer.number));
        rows.extend_from_slice(answer.rows);
        let left = |rest: Arguments| rest.count.get() < arguments.count.get();
        assert!(answer.rest.is_none_or(left), "it goes on");
        next = answer.rest;
    }
    (numbers, rows)
}

/// A number of 1, 2, 4 or 8 bytes, by arithmetic alone.
fn plain(record: &[u8], field: Field) -> i128 {
    let bytes = &record[usize::from(field.offset)..][..usize::from(field.width)];
    let number = bytes.iter().rev().fold(0i128, |number, byte| number << 8 | i128::from(*byte));
    let top = 1i128 << (8 * field.width);
    if field.signed && number >= top / 2 { number - top } else { number }
}

fn field(random: &mut Random, record_bytes: u64) -> Field {
    let width = loop {
        let width = 1 << random.below(4);
        if width <= record_bytes {
            break width;
        }
    };
    let offset = random.below(record_bytes - width + 1) as u16;
    Field { offset, width: width as u8, signed: random.below(2) == 0 }
}

#[test]
fn scans_agree_with_vectors() {
    let few = Limits { steps: 3, ..Limits::default() };
    for (seed, limits) in (0..600).zip([Limits::default(), few].into_iter().cycle()) {
        let mut random = Random::new(seed);
        let (mut bench, memory, rkey) = bench(limits);
        let mut contents = alloc::vec![0; REGION as usize];
        // Few values, so that many are equal.
        let values = 1 + random.below(256);
        contents.iter_mut().for_each(|byte| *byte = (random.below(values) * 37) as u8);
        memory.write(0, &contents).unwrap();

        let longest = if random.below(8) == 0 { 4096 } else { 64 };
        let record_bytes = 1 + random.below(longest);
        let address = random.below(128);
        let count = random.below((REGION - address) / record_bytes + 1).min(3000);
        let mut arguments = Arguments::home(address, record_bytes as u16, count as u32);
        let compared = field(&mut random, record_bytes);
        let comparison = Comparison::from_code(random.below(7) as u8).unwrap();
        let pick = random.below(REGION - 8) as usize;
        let value = plain(&contents[pick..], Field { offset: 0, ..compared });
        if comparison != Comparison::Always {
            arguments = arguments.only(compared, comparison, value as u64);
        }
        let part = field(&mut random, record_bytes);
        let kind = Kind::from_code(random.below(5) as u8).unwrap();
        let (mut row_offset, mut row_length) = (0, 0);
        arguments = match kind {
            Kind::Count => arguments,
            Kind::Sum => arguments.sum(part),
            Kind::Least => arguments.least(part),
            Kind::Greatest => arguments.greatest(part),
            Kind::Rows => {
                row_offset = random.below(record_bytes) as usize;
                let most = (record_bytes - row_offset as u64).min(u64::from(PART_BYTES_MAX));
                row_length = 1 + random.below(most) as usize;
                arguments.rows(row_offset as u16, row_length as u16)
            }
        };
        let least = if kind == Kind::Rows { row_length } else { 24 } + Arguments::BYTES;
        let room = least as u32 + random.below(600) as u32;
        let (numbers, rows) = scan(&mut bench, &rkey, arguments, room);

        let records = contents[address as usize..].chunks_exact(record_bytes as usize);
        let matching: Vec<&[u8]> = records
            .take(count as usize)
            .filter(|record| {
                let ordering = plain(record, compared).cmp(&value);
                match comparison {
                    Comparison::Always => true,
                    Comparison::Equal => ordering.is_eq(),
                    Comparison::NotEqual => ordering.is_ne(),
                    Comparison::Less => ordering.is_lt(),
                    Comparison::LessOrEqual => ordering.is_le(),
                    Comparison::Greater => ordering.is_gt(),
                    Comparison::GreaterOrEqual => ordering.is_ge(),
                }
            })
            .collect();
        let matched: u64 = numbers.iter().map(|(matched, _)| matched).sum();
        assert_eq!(matched, matching.len() as u64, "seed {seed}: {arguments:?}");
        let parts = matching.iter().map(|record| plain(record, part));
        let mut found = numbers.iter().filter(|(matched, _)| *matched > 0).map(|(_, n)| *n);
        match kind {
            Kind::Count => assert!(found.all(|number| number == 0)),
            Kind::Sum => assert_eq!(found.sum::<i128>(), parts.sum(), "seed {seed}"),
            Kind::Least => assert_eq!(found.min(), parts.min(), "seed {seed}"),
            Kind::Greatest => assert_eq!(found.max(), parts.max(), "seed {seed}"),
            Kind::Rows => {
                let expected: Vec<u8> = matching
                    .iter()
                    .flat_map(|record| &record[row_offset..][..row_length])
                    .copied()
                    .collect();
                assert_eq!(rows, expected, "seed {seed}");
            }
        }
    }
}

#[test]
fn extremes_of_both_signs_are_exact() {
    let (mut bench, memory, rkey) = bench(Limits::default());
    let words = [u64::MAX, 1 << 63, 0, i64::MAX as u64, u64::MAX];
    for (place, word) in (0..).zip(words) {
        memory.write(place * 8, &word.to_le_bytes()).unwrap();
    }
    let all = Arguments::home(0, 8, 5);
    let (unsigned, signed) = (Field::unsigned(0, 8), Field::signed(0, 8));
    let mut number = |arguments| scan(&mut bench, &rkey, arguments, 60).0[0];
    let sum = words.iter().map(|word| i128::from(*word)).sum();
    assert_eq!(number(all.sum(unsigned)), (5, sum));
    assert_eq!(number(all.sum(signed)), (5, i128::from(i64::MIN) + i128::from(i64::MAX) - 2));
    assert_eq!(number(all.least(signed)), (5, i64::MIN.into()));
    assert_eq!(number(all.greatest(signed)), (5, i64::MAX.into()));
    assert_eq!(number(all.greatest(unsigned)), (5, u64::MAX.into()));
    let negative = all.only(signed, Comparison::Less, 0);
    assert_eq!(number(negative), (3, 0));
    let minus_one = all.only(signed, Comparison::Equal, -1i64 as u64);
    assert_eq!(number(minus_one.sum(unsigned)), (2, i128::from(u64::MAX) * 2));
    assert_eq!(number(all.only(unsigned, Comparison::Less, 0).least(unsigned)), (0, 0));
}

#[test]
fn a_scan_stays_in_its_region() {
    let (mut bench, _, rkey) = bench(Limits::default());
    let mut status =
        |arguments: Arguments| bench.call(&rkey, KernelId::SCAN, &arguments.encode(), &[]).0.status;
    let all = Arguments::home(0, 64, REGION as u32 / 64);
    assert_eq!(status(all), Status::Ok);
    assert_eq!(
        status(Arguments { count: (REGION as u32 / 64 + 1).into(), ..all }),
        Status::OutOfBounds
    );
    assert_eq!(status(Arguments { address: 1.into(), ..all }), Status::OutOfBounds);
    assert_eq!(status(Arguments { region: 5.into(), ..all }), Status::Denied);
    assert_eq!(status(Arguments { count: 0.into(), address: (1 << 40).into(), ..all }), Status::Ok);
}

#[test]
fn every_bad_argument_has_its_status() {
    let (mut bench, _, rkey) = bench(Limits::default());
    let good = Arguments::new(HOME_REGION, 0, 16, 4);
    let number = |offset, width| Field::unsigned(offset, width);
    for arguments in [
        Arguments::home(0, 0, 1),
        Arguments::home(0, 4097, 1),
        Arguments::home(u64::MAX, 1, 2),
        Arguments { comparison: 7, field_width: 1, ..good },
        Arguments { answer: 5, ..good },
        Arguments { signed: 4, ..good },
        Arguments { reserved: 1.into(), ..good },
        Arguments { region: 0x100.into(), ..good },
        good.only(number(0, 3), Comparison::Equal, 0),
        good.only(number(9, 8), Comparison::Equal, 0),
        good.only(number(u16::MAX, 1), Comparison::Equal, 0),
        good.sum(number(0, 0)),
        good.least(number(15, 2)),
        good.greatest(Field { offset: 0, width: 255, signed: false }),
        good.rows(0, 0),
        good.rows(1, 16),
        Arguments::home(0, 4096, 1).rows(0, PART_BYTES_MAX + 1),
    ] {
        let (finish, _) = bench.call(&rkey, KernelId::SCAN, &arguments.encode(), &[]);
        let refused = (Status::BadArguments, Fate::NotExecuted);
        assert_eq!((finish.status, finish.fate), refused, "{arguments:?}");
    }
    let encoded = good.encode();
    let short = Invocation { reply_capacity: 59, ..op(KernelId::SCAN, &encoded) };
    assert_eq!(bench.start(&rkey, &short).map(|_| ()), Err(Status::ReplyTooLong));
}

#[test]
fn replies_of_another_shape_are_refused() {
    let count = Arguments::home(0, 16, 4);
    let rows = count.rows(0, 8);
    assert!(Answer::decode(&count, false, &[0; 24]).is_some());
    assert!(Answer::decode(&count, false, &[0; 23]).is_none());
    assert!(Answer::decode(&count, true, &[0; 24]).is_none());
    assert!(Answer::decode(&count, true, &[0; 60]).is_some());
    assert!(Answer::decode(&rows, false, &[0; 12]).is_none());
    assert_eq!(Answer::decode(&rows, false, &[]).unwrap().matched, 0);
    assert!(Answer::decode(&rows, true, &[0; 35]).is_none());
}

/// Words that are stored meanwhile are seen before or after, never between: every record always
/// holds a multiple of one odd number.
#[test]
fn words_that_change_meanwhile_are_whole() {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let (mut bench, memory, rkey) = bench(Limits::default());
    let inverse =
        (0..6).fold(FACTOR, |x, _| x.wrapping_mul(2u64.wrapping_sub(FACTOR.wrapping_mul(x))));
    assert_eq!(FACTOR.wrapping_mul(inverse), 1);
    let stop = AtomicBool::new(false);
    for place in 0..1024 {
        memory.word64(place * 8).unwrap().store(0, Ordering::Relaxed);
    }
    thread::scope(|scope| {
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let stopping = Stop(&stop);
        scope.spawn(|| {
            let mut random = Random::new(1);
            for round in 1u64.. {
                let word = memory.word64(random.below(1024) * 8).unwrap();
                word.store(FACTOR.wrapping_mul(round & 0xffff), Ordering::Relaxed);
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let (mut changed, mut scans) = (0u64, 0);
        while scans < 200 || (changed == 0 && scans < 1_000_000) {
            scans += 1;
            let (_, rows) = scan(&mut bench, &rkey, Arguments::home(0, 8, 1024).rows(0, 8), 512);
            assert_eq!(rows.len(), 8192);
            for word in rows.as_chunks::<8>().0 {
                let round = u64::from_le_bytes(*word).wrapping_mul(inverse);
                assert!(round <= 0xffff, "a word of two stores");
                changed += u64::from(round != 0);
            }
        }
        assert!(changed > 0, "nobody wrote");
        drop(stopping);
    });
}

crate::bench::also_on_dma!(scans_agree_with_vectors, extremes_of_both_signs_are_exact,);
