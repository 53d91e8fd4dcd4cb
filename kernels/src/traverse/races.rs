//! Readers walk a list whose owner changes it under them.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nic_shm::RacyMem;
use nic_wire::{KernelId, Status, Time};

use super::{Arguments, ReplyHeader};
use crate::bench::{Bench, op};
use crate::random::Random;
use crate::{Builtin, Memory};

/// Keys that are always in the list, and that come and go.
const STEADY: u64 = 6;
const FLEETING: u64 = 6;
/// Walks that a run makes.
const WALKS: u64 = 20_000;
const ELEMENT: u64 = 32;

/// The owner of a list of elements {key, next, value pointer, spare}, and of two words of value
/// for each key, of which one is published at a time. A key that comes and goes has its place
/// behind one that stays: so whoever stands in an element that was taken out misses nothing.
struct Owner {
    memory: RacyMem,
    is_in: [bool; FLEETING as usize],
    count: u64,
}

impl Owner {
    fn element(key: u64) -> u64 {
        64 + key * ELEMENT
    }

    fn put(&self, at: u64, word: u64) {
        self.memory.word64(at).unwrap().store(word, Ordering::Release);
    }

    /// Publishes a new value: written where no pointer leads, then pointed to.
    fn renew(&mut self, key: u64) {
        self.count += 1;
        let value = 2048 + 16 * key + 8 * (self.count % 2);
        self.put(value, key << 32 | self.count);
        self.put(Self::element(key) + 16, value);
    }

    /// Links the key behind a steady one in, or takes it out; what was taken out still leads on.
    fn toggle(&mut self, steady: u64) {
        let next = if steady + 1 < STEADY { Self::element(steady + 1) } else { 0 };
        let fleeting = Self::element(STEADY + steady);
        let is_in = &mut self.is_in[steady as usize];
        *is_in = !*is_in;
        let behind_steady = if *is_in { fleeting } else { next };
        self.put(fleeting + 8, next);
        self.put(Self::element(steady) + 8, behind_steady);
    }
}

#[test]
fn what_stays_in_a_changing_list_is_always_found() {
    let mut bench = Bench::<Builtin>::new(16);
    let (memory, rkey) = bench.region(4096);
    memory.fill(0, 4096, 0).unwrap();
    let mut owner = Owner { memory, is_in: [false; FLEETING as usize], count: 0 };
    for key in 0..STEADY + FLEETING {
        owner.put(Owner::element(key), key);
        let next = if key + 1 < STEADY { Owner::element(key + 1) } else { 0 };
        owner.put(Owner::element(key) + 8, next);
        owner.renew(key);
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(11);
            while !stop.load(Ordering::Relaxed) {
                owner.renew(random.below(STEADY + FLEETING));
                owner.toggle(random.below(STEADY));
            }
        });
        // A reader that panics must not leave the writer running for ever.
        let seen =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read(&mut bench, &rkey)));
        stop.store(true, Ordering::Relaxed);
        let newest = seen.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(newest.iter().all(|count| *count > 0), "nothing was found: {newest:?}");
    });
}

/// Walks to every key, several at a time; returns the newest value of each.
fn read(bench: &mut Bench<Builtin>, rkey: &nic_wire::Rkey) -> Vec<u64> {
    let mut newest = alloc::vec![0; (STEADY + FLEETING) as usize];
    let grant = bench.memory.admit(rkey).unwrap();
    for walk in 0..WALKS {
        for lane in 0..8 {
            let key = (walk + lane) % (STEADY + FLEETING);
            let list = Arguments::list(Owner::element(0), key, 8).encode();
            let invocation = crate::Invocation { owner: key, ..op(KernelId::TRAVERSE, &list) };
            bench.executor.start(&mut bench.memory, Time::ZERO, grant, &invocation).unwrap();
        }
        for (slot, key, finish) in bench.run(Time::ZERO) {
            let reply = bench.reply(slot);
            bench.executor.free(slot, &mut bench.memory);
            assert_eq!(finish.status, Status::Ok);
            let (header, value) = ReplyHeader::parse(&reply).unwrap();
            if header.found().is_none() {
                assert!(key >= STEADY, "key {key} was there all the time");
                continue;
            }
            let value = u64::from_le_bytes(value.try_into().unwrap());
            assert_eq!(value >> 32, key, "a value of another key");
            newest[key as usize] = value & 0xffff_ffff;
        }
    }
    newest
}
