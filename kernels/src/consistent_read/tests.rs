//! Objects that are whole, torn and in between.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nic_wire::{Fate, KernelId, Rkey, Status, Time};

use super::writer::seal;
use super::*;
use crate::bench::{Bench, op};
use crate::random::Random;
use crate::{Budget, Builtin, Finish, Invocation, SlotId};

const CHECKSUMS: [Checksum; 3] = [Checksum::Crc32, Checksum::Crc64, Checksum::Xxh3];

fn call(bench: &mut Bench<Builtin>, rkey: &Rkey, arguments: &Arguments) -> (Status, Vec<u8>) {
    let encoded = arguments.encode();
    let (finish, reply) = bench.call(rkey, KernelId::CONSISTENT_READ, &encoded, &[]);
    assert_eq!(bench.memory.holds(rkey.export.get(), rkey.generation.get()), 0);
    assert_eq!(finish.status == Status::Ok, finish.fate == Fate::Executed);
    (finish.status, reply)
}

/// An object of any bytes that its checksum proves.
fn object(arguments: &Arguments, random: &mut Random) -> Vec<u8> {
    let mut object: Vec<u8> = (0..arguments.length.get()).map(|_| random.next() as u8).collect();
    assert!(seal(arguments, &mut object));
    object
}

#[test]
fn whole_objects_come_back_and_damaged_ones_do_not() {
    let mut bench = Bench::<Builtin>::new(2);
    let (memory, rkey) = bench.region(8192);
    let mut random = Random::new(1);
    for round in 0..1500u64 {
        let checksum = CHECKSUMS[(round % 3) as usize];
        let longest = if round % 2 == 0 { 4096 } else { 520 };
        let length = (checksum.bytes() + random.below(longest) as u16).min(4096);
        let address = random.below(4097);
        let arguments = if random.below(2) == 0 {
            Arguments::trailing(address, length, checksum)
        } else {
            let most = u64::from(length - checksum.bytes()) + 1;
            Arguments::leading(address, length, checksum, random.below(most) as u16)
        };
        let whole = object(&arguments, &mut random);
        memory.write(address, &whole).unwrap();
        assert_eq!(call(&mut bench, &rkey, &arguments), (Status::Ok, whole.clone()), "{round}");
        // One changed bit of what the checksum covers, or of itself.
        let (from, to) = (arguments.from.get(), arguments.to.get());
        let covered = u64::from(to - from);
        let place = random.below(covered + u64::from(checksum.bytes()));
        let place = match place.checked_sub(covered) {
            Some(of_checksum) => u64::from(arguments.checksum_at.get()) + of_checksum,
            None => u64::from(from) + place,
        };
        let changed = whole[place as usize] ^ 1 << random.below(8);
        memory.write(address + place, &[changed]).unwrap();
        let damaged = call(&mut bench, &rkey, &arguments);
        assert_eq!(damaged, (Status::Torn, Vec::new()), "{round}: {arguments:?}, byte {place}");
    }
}

#[test]
fn a_torn_object_is_read_again_so_often_and_no_more() {
    for retries in [0, 1, 7, 255] {
        let mut bench = Bench::<Builtin>::new(2);
        let (memory, rkey) = bench.region(4096);
        let arguments = Arguments { retries, ..Arguments::trailing(64, 1000, Checksum::Crc64) };
        assert_eq!(call(&mut bench, &rkey, &arguments), (Status::Torn, Vec::new()));
        assert_eq!(bench.memory.admitted, u64::from(retries) + 1);
        // Mended while it is read again.
        let encoded = arguments.encode();
        let slot = bench.start(&rkey, &op(KernelId::CONSISTENT_READ, &encoded)).unwrap();
        let before_last = Budget { rounds: u32::from(retries), cost: 1 << 20 };
        bench.executor.run(&mut bench.memory, Time::ZERO, before_last, &mut |_, _, _| {});
        let whole = object(&arguments, &mut Random::new(2));
        memory.write(64, &whole).unwrap();
        assert_eq!(bench.run(Time::ZERO)[0].2.status, Status::Ok, "the last of {retries}");
        // What comes later changes nothing: the reply is the copy that was verified.
        memory.fill(0, 4096, 0).unwrap();
        assert_eq!(bench.reply(slot), whole);
        let mut part = [0; 300];
        bench.executor.copy_reply(slot, &bench.memory, 690, &mut part).unwrap();
        assert_eq!(part, whole[690..990]);
    }
}

#[test]
fn long_buffers_are_few_and_come_back() {
    let mut bench = Bench::<Builtin>::new(600);
    let (memory, rkey) = bench.region(4096);
    let long = Arguments::trailing(0, 4096, Checksum::Xxh3);
    let whole = object(&long, &mut Random::new(3));
    memory.write(0, &whole).unwrap();
    let encoded = long.encode();
    for round in 0..3 {
        let slots: Vec<SlotId> = (0..260)
            .map(|_| bench.start(&rkey, &op(KernelId::CONSISTENT_READ, &encoded)).unwrap())
            .collect();
        let over = bench.run(Time::ZERO);
        let busy = Finish { status: Status::Busy, fate: Fate::NotExecuted, reply_length: 0 };
        assert_eq!(over.iter().filter(|(_, _, finish)| *finish == busy).count(), 4);
        let kept = over.iter().filter(|(_, _, finish)| finish.status == Status::Ok);
        assert_eq!(kept.count(), 256);
        for (place, slot) in slots.into_iter().enumerate() {
            // However the slot is given back.
            match place % 2 == round % 2 {
                true => bench.executor.free(slot, &mut bench.memory),
                false => {
                    bench.executor.cancel(slot, &mut bench.memory);
                }
            }
        }
        assert!(bench.executor.is_idle());
    }
    // A revocation takes the reply, and not the buffer for ever.
    let slot = bench.start(&rkey, &op(KernelId::CONSISTENT_READ, &encoded)).unwrap();
    bench.run(Time::ZERO);
    bench.memory.revoke(rkey.export.get(), rkey.generation.get()).unwrap();
    bench.executor.release_revoked(&mut bench.memory);
    let mut part = [0; 600];
    let copied = bench.executor.copy_reply(slot, &bench.memory, 0, &mut part);
    assert_eq!(copied, Err(Status::Revoked));
    bench.executor.free(slot, &mut bench.memory);
    assert!(bench.executor.is_idle());
}

#[test]
fn every_bad_argument_has_its_status() {
    let mut bench = Bench::<Builtin>::new(2);
    let (_, rkey) = bench.region(4096);
    let good = Arguments::trailing(0, 64, Checksum::Crc32);
    for arguments in [
        Arguments { checksum: 3, ..good },
        Arguments { length: 4097.into(), ..good },
        Arguments { length: 63.into(), ..good },
        Arguments { length: 0.into(), ..good },
        Arguments { checksum_at: 61.into(), ..good },
        Arguments { checksum_at: 59.into(), ..good },
        Arguments { checksum_at: u16::MAX.into(), ..good },
        Arguments { from: 61.into(), ..good },
        Arguments { to: 65.into(), ..good },
        Arguments { from: 61.into(), to: 65.into(), ..good },
        Arguments { region: 256.into(), ..good },
    ] {
        let refused = call(&mut bench, &rkey, &arguments);
        assert_eq!(refused, (Status::BadArguments, Vec::new()), "{arguments:?}");
        assert!(!arguments.is_whole(&[0; 64]) || arguments.region.get() == 256);
    }
    let beyond = Arguments { address: 4033.into(), ..good };
    assert_eq!(call(&mut bench, &rkey, &beyond), (Status::OutOfBounds, Vec::new()));
    let encoded = good.encode();
    let short = Invocation { reply_capacity: 63, ..op(KernelId::CONSISTENT_READ, &encoded) };
    assert_eq!(bench.start(&rkey, &short), Err(Status::ReplyTooLong));
}

#[test]
fn no_torn_object_leaves_while_its_owner_writes_it() {
    for (checksum, length) in [(Checksum::Crc64, 4096), (Checksum::Xxh3, 500)] {
        let mut bench = Bench::<Builtin>::new(2);
        let (memory, rkey) = bench.region(4096);
        let arguments = Arguments { retries: 255, ..Arguments::trailing(0, length, checksum) };
        // Each writing has one byte all over, so that a mixture is noticed.
        let write = |byte: u8| {
            let mut whole = alloc::vec![byte; usize::from(length)];
            assert!(seal(&arguments, &mut whole));
            memory.write(0, &whole).unwrap();
        };
        write(0);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for count in 0u64.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    write(count as u8);
                }
            });
            let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut whole = 0;
                for _ in 0..4000 {
                    let (status, reply) = call(&mut bench, &rkey, &arguments);
                    if status == Status::Torn {
                        continue;
                    }
                    assert_eq!(status, Status::Ok);
                    assert!(arguments.is_whole(&reply));
                    let covered = &reply[..usize::from(arguments.to.get())];
                    assert!(covered.iter().all(|byte| *byte == covered[0]), "a mixture");
                    whole += 1;
                }
                whole
            }));
            stop.store(true, Ordering::Relaxed);
            let whole = seen.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert!(whole > 0, "no object was ever whole");
        });
    }
}

crate::bench::also_on_dma!(
    whole_objects_come_back_and_damaged_ones_do_not,
    a_torn_object_is_read_again_so_often_and_no_more,
    long_buffers_are_few_and_come_back,
);
