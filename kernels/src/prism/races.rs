//! Takers and swappers that race each other.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use std::thread;

use nic_shm::RacyMem;
use nic_wire::{KernelId, Status, Time};

use super::tests::{CAPACITY, LIST, WORDS, bench_of, regions, run};
use super::*;
use crate::bench::op;
use crate::{HOME_REGION, Pointer};

/// Takers on several threads, many ops at once on each, and an owner that posts: each buffer is
/// taken once, and none is lost.
#[test]
fn racing_takers_share_a_list() {
    const TAKERS: usize = 2;
    const BUFFERS: u64 = 4000;
    let memories = regions();
    let mut list = FreeList::format(memories[0].clone(), LIST, CAPACITY).unwrap();
    let taken: Vec<Vec<u64>> = thread::scope(|scope| {
        let takers: Vec<_> = (0..TAKERS)
            .map(|_| {
                let memories = &memories;
                scope.spawn(move || take_all(memories, BUFFERS))
            })
            .collect();
        // Those behind the last tell the takers that it is over; each takes four at the most.
        for number in 0..BUFFERS + 4 * TAKERS as u64 {
            let buffer = Pointer { region: 1, address: number };
            while list.post(buffer).is_err() {
                assert!(!takers.iter().all(|taker| taker.is_finished()), "nobody takes");
                thread::yield_now();
            }
        }
        takers.into_iter().map(|taker| taker.join().unwrap()).collect()
    });
    let all: Vec<u64> = taken.concat();
    let distinct: BTreeSet<u64> = all.iter().copied().collect();
    assert_eq!(all.len(), distinct.len(), "one was taken twice");
    assert_eq!((0..BUFFERS).filter(|number| !distinct.contains(number)).count(), 0);
}

/// Takes buffers, four ops at a time, until one of the last comes.
fn take_all(memories: &[RacyMem], last: u64) -> Vec<u64> {
    let (mut bench, rkey) = bench_of(memories);
    let chain = Chain::first(Primitive::Allocate { region: HOME_REGION, list: LIST });
    let invocation = op(KernelId::PRISM, chain.arguments());
    let mut taken = Vec::new();
    loop {
        for _ in 0..4 {
            bench.start(&rkey, &invocation).unwrap();
        }
        let mut over = Vec::new();
        while over.len() < 4 {
            over.extend(bench.run(Time::ZERO));
        }
        for (slot, _, finish) in over {
            assert_eq!(finish.status, Status::Ok);
            let reply = bench.reply(slot);
            bench.executor.free(slot, &mut bench.memory);
            let report = Report::decode(&reply).unwrap();
            if report.succeeded(0) {
                taken.push(unpack(report.word(0).unwrap()).address);
            }
        }
        if taken.iter().any(|address| *address >= last) {
            return taken;
        }
    }
}

/// Two threads install ever newer versions in one half of a word, and a third counts in the other
/// by plain atomics: the newest version stays, and no count is lost.
#[test]
fn racing_swaps_leave_the_other_bits() {
    const ROUNDS: u64 = 1500;
    let memories = regions();
    thread::scope(|scope| {
        for writer in 0..2 {
            let memories = &memories;
            scope.spawn(move || {
                let (mut bench, rkey) = bench_of(memories);
                for round in 0..ROUNDS {
                    let version = (round * 2 + writer + 1) << 32;
                    let install = CompareSwap::new(
                        Target::home(WORDS),
                        Comparison::Less,
                        Operand::Word(version),
                        Operand::Word(version),
                    );
                    let high = u64::MAX << 32;
                    let chain = Chain::first(Primitive::CompareSwap(install.masked(high, high)));
                    let (finish, reply) = run(&mut bench, &rkey, &chain, &[], true);
                    assert_eq!(finish.status, Status::Ok);
                    let report = Report::decode(&reply).unwrap();
                    let was_older = report.word(0).unwrap() & high < version;
                    assert_eq!(report.succeeded(0), was_older);
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                memories[0].word64(WORDS).unwrap().fetch_add(1, Ordering::Relaxed);
            }
        });
    });
    let word = memories[0].load64(WORDS).unwrap();
    assert_eq!(word, (ROUNDS * 2) << 32 | ROUNDS);
}
