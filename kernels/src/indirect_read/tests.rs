//! Lookups against a plain table.

use alloc::vec::Vec;

use core::sync::atomic::{AtomicBool, Ordering};
use nic_shm::RacyMem;
use nic_wire::{KernelId, Rkey, Status};
use std::thread;

use super::writer::Table;
use super::*;
use crate::bench::{Bench, op};
use crate::kernel::Pointer;
use crate::random::Random;
use crate::{Access, Builtin, Invocation, PointerForm, StrandHeader};

/// Three regions, of which the second may be followed; the first has the table.
fn memory(capacity: u32) -> (Bench<Builtin>, Vec<RacyMem>, Rkey) {
    let mut bench = Bench::new(capacity);
    let regions: Vec<RacyMem> = (0..3).map(|_| RacyMem::allocate(8192)).collect();
    for region in &regions {
        bench.register(region);
    }
    let rkey = bench.memory.export(bench.domain, 0, Access::READ, &[1], 7).unwrap();
    (bench, regions, rkey)
}

fn call(bench: &mut Bench<Builtin>, rkey: &Rkey, arguments: &Arguments) -> (Status, Vec<u8>) {
    let (finish, reply) = bench.call(rkey, KernelId::INDIRECT_READ, arguments.encoded(), &[]);
    assert_eq!(bench.memory.holds(rkey.export.get(), rkey.generation.get()), 0);
    assert!(bench.executor.is_idle());
    (finish.status, reply)
}

/// The parts of a reply, which are as many as lookups; behind each there are zeros.
fn parts<'a>(arguments: &Arguments, reply: &'a [u8]) -> Vec<(Status, &'a [u8])> {
    let stride = arguments.stride() as usize;
    assert_eq!(reply.len(), arguments.reply_bytes() as usize);
    let parts: Vec<_> = StrandHeader::parts(reply, stride).map(Option::unwrap).collect();
    for ((_, value), whole) in parts.iter().zip(reply.chunks(stride)) {
        assert!(whole[8 + value.len()..].iter().all(|byte| *byte == 0));
    }
    parts
}

#[test]
fn lookups_agree_with_an_oracle() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let (mut bench, regions, rkey) = memory(2);
        for region in &regions {
            let bytes: Vec<u8> = (0..8192).map(|_| random.next() as u8).collect();
            region.write(0, &bytes).unwrap();
        }
        let is_tagged = seed % 2 == 0;
        let form = if is_tagged { PointerForm::Tagged } else { PointerForm::Plain { region: 1 } };
        let words = 1 + random.below(3) as u8;
        let start = 8 * random.below(40);
        let table = Table::new(regions[0].clone(), start, form).entries_of(words);
        let entries = 40 + random.below(200) as u32;
        let mut pointers = Vec::new();
        for index in 0..entries {
            // Some of them null, some that lead outside, some where nothing may be followed.
            let region = if is_tagged { random.below(4) as u8 } else { 1 };
            let at = Pointer { region, address: 1 + random.below(8250) };
            let pointer = (random.below(5) > 0).then_some(at);
            assert_eq!(table.publish(index, pointer), Ok(true));
            pointers.push(pointer);
        }
        let length = random.below(600) as u32;
        for _ in 0..4 {
            let is_short = random.below(2) == 0;
            let count = 1 + random.below(if is_short { 54 } else { 26 }) as usize;
            let mut indices: Vec<u32> =
                (0..count).map(|_| random.below(entries.into()) as u32).collect();
            if !is_short {
                // Far outside the table's region, and its index needs 4 bytes.
                indices.push(1 << 20);
            }
            let arguments = Arguments::new(start, length, &indices).unwrap();
            let arguments = arguments.entries_of(words).values_in_region(1);
            let arguments = if is_tagged { arguments.tagged() } else { arguments };
            let (status, reply) = call(&mut bench, &rkey, &arguments);
            assert_eq!(status, Status::Ok);
            for (index, part) in indices.iter().zip(parts(&arguments, &reply)) {
                let expected = match pointers.get(*index as usize) {
                    None => (Status::OutOfBounds, Vec::new()),
                    Some(None) => (Status::Ok, Vec::new()),
                    Some(Some(at)) => {
                        let mut value = alloc::vec![0; length as usize];
                        match regions.get(usize::from(at.region)).filter(|_| at.region < 2) {
                            Some(region) if region.read(at.address, &mut value).is_ok() => {
                                (Status::Ok, value)
                            }
                            _ => (Status::BadPointer, Vec::new()),
                        }
                    }
                };
                assert_eq!((part.0, part.1.to_vec()), expected, "seed {seed}, index {index}");
            }
        }
    }
}

#[test]
fn replies_can_be_cut_anywhere() {
    let (mut bench, regions, rkey) = memory(2);
    let table = Table::new(regions[0].clone(), 0, PointerForm::Plain { region: 0 });
    for index in 0..20u32 {
        let address = 1000 + 50 * u64::from(index);
        let at = Pointer { region: 0, address };
        table.publish(index, (index % 3 > 0).then_some(at)).unwrap();
        regions[0].write(address, &[index as u8; 50]).unwrap();
    }
    let indices: Vec<u32> = (0..20).collect();
    let arguments = Arguments::new(0, 45, &indices).unwrap();
    let invocation = op(KernelId::INDIRECT_READ, arguments.encoded());
    let slot = bench.start(&rkey, &invocation).unwrap();
    bench.run(nic_wire::Time::ZERO);
    let whole = bench.reply(slot);
    assert_eq!(parts(&arguments, &whole)[4], (Status::Ok, &[4; 45][..]));
    let mut random = Random::new(5);
    for _ in 0..500 {
        let start = random.below(whole.len() as u64 + 1) as usize;
        let end = start + random.below((whole.len() - start) as u64 + 1) as usize;
        let mut part = alloc::vec![0xee; end - start];
        bench.executor.copy_reply(slot, &bench.memory, start as u32, &mut part).unwrap();
        assert_eq!(part, whole[start..end]);
    }
}

#[test]
fn every_bad_argument_has_its_status() {
    let (mut bench, _, rkey) = memory(2);
    let good = Arguments::new(0, 8, &[1, 2]).unwrap();
    assert_eq!(call(&mut bench, &rkey, &good).0, Status::Ok);
    for arguments in [
        Arguments::new(0, 8, &[]).unwrap(),
        Arguments::new(0, crate::TRANSFER_BYTES_MAX + 1, &[1]).unwrap(),
        Arguments::new(0, u32::MAX, &[1]).unwrap(),
        good.entries_of(0),
    ] {
        assert_eq!(call(&mut bench, &rkey, &arguments), (Status::BadArguments, Vec::new()));
    }
    let encoded = good.encoded();
    for (place, byte) in [(13, 1), (15, 1), (16, 4), (18, 3)] {
        let mut changed = encoded.to_vec();
        changed[place] = byte;
        let (finish, _) = bench.call(&rkey, KernelId::INDIRECT_READ, &changed, &[]);
        assert_eq!(finish.status, Status::BadArguments, "byte {place}");
    }
    let short = Invocation { reply_capacity: 31, ..op(KernelId::INDIRECT_READ, encoded) };
    assert_eq!(bench.start(&rkey, &short), Err(Status::ReplyTooLong));
    let laden = Invocation { payload_length: 1, ..op(KernelId::INDIRECT_READ, encoded) };
    assert_eq!(bench.start(&rkey, &laden), Err(Status::BadArguments));
}

#[test]
fn values_that_are_renewed_meanwhile_are_the_entrys_own() {
    let (mut bench, regions, rkey) = memory(16);
    let table = Table::new(regions[0].clone(), 8, PointerForm::Tagged);
    let stop = AtomicBool::new(false);
    // Each entry has two words of its own, and points to one of them.
    let renew = |index: u32, count: u64| {
        let address = 64 + 16 * u64::from(index) + 8 * (count % 2);
        let word = regions[1].word64(address).unwrap();
        word.store(u64::from(index) << 32 | count, Ordering::Release);
        table.publish(index, Some(Pointer { region: 1, address })).unwrap();
    };
    (0..54).for_each(|index| renew(index, 0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(3);
            for count in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                renew(random.below(54) as u32, count);
            }
        });
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let indices: Vec<u32> = (0..54).rev().collect();
            let arguments = Arguments::new(8, 8, &indices).unwrap().tagged();
            for _ in 0..3000 {
                let (status, reply) = call(&mut bench, &rkey, &arguments);
                assert_eq!(status, Status::Ok);
                for (index, (status, value)) in indices.iter().zip(parts(&arguments, &reply)) {
                    let value = u64::from_le_bytes(value.try_into().unwrap());
                    assert_eq!((status, value >> 32), (Status::Ok, u64::from(*index)));
                }
            }
        }));
        stop.store(true, Ordering::Relaxed);
        seen.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

crate::bench::also_on_dma!(lookups_agree_with_an_oracle, replies_can_be_cut_anywhere,);
