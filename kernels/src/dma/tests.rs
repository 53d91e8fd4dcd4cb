//! The queue's bounds, its order and its failures. That kernels do the same over it as over mapped
//! memory is for their own tests, which run on both.

use alloc::vec::Vec;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Rkey, Span, Status, Time};

use super::*;
use crate::bench::op;
use crate::mapped::{MappedMemory, Tables};
use crate::{Access, Budget, Builtin, Executor, Finish, Invocation, Limits, Memory, fetch_add};

const DEPTH: usize = 5;

/// Words behind a queue, and an executor.
struct Words {
    region: RacyMem,
    memory: DmaMemory,
    executor: Executor<Builtin, DmaMemory>,
    rkey: Rkey,
}

impl Words {
    fn new(settings: Settings) -> Self {
        let mut memory = DmaMemory::new(MappedMemory::new(Tables::default()), settings);
        let domain = memory.add_domain().unwrap();
        let region = RacyMem::allocate(4096);
        region.fill(0, 4096, 0).unwrap();
        let home = memory.register(domain, region.clone(), 0).unwrap();
        let rkey = memory.export(domain, home, Access::all(), &[], 7).unwrap();
        Words { region, memory, executor: Executor::new(64, Limits::default()), rkey }
    }

    /// One atomic per word: `owner + 1` is added to the word of that number.
    fn start(&mut self, owner: u64, deadline: Time) {
        let arguments = fetch_add::Arguments::home(owner * 8, owner + 1).encode();
        let invocation = Invocation { owner, deadline, ..op(KernelId::FETCH_ADD, &arguments) };
        let (grant, now) = (self.memory.admit(&self.rkey).unwrap(), self.memory.now());
        self.executor.start(&mut self.memory, now, grant, &invocation).unwrap();
    }

    /// Runs nanosecond by nanosecond until nothing is under way, and says how each op ended.
    fn run(&mut self) -> Vec<(u64, Finish)> {
        let mut over = Vec::new();
        loop {
            let now = self.memory.now() + Span::from_ns(1);
            self.memory.advance(now);
            let Words { executor, memory, .. } = self;
            let progress = executor.run(memory, now, Budget::default(), &mut |_, owner, finish| {
                over.push((owner, finish));
            });
            assert!(memory.under_way() <= DEPTH);
            if progress.ready == 0 {
                return over;
            }
        }
    }

    fn holds(&self) -> u32 {
        self.memory.holds(self.rkey.export.get(), self.rkey.generation.get())
    }
}

fn settings(seed: u64) -> Settings {
    let latency = Span::from_ns(2)..=Span::from_ns(40);
    Settings { depth: DEPTH, latency, failures_per_million: 0, seed }
}

#[test]
fn more_requests_than_the_queue_takes_wait_and_none_is_lost() {
    let mut words = Words::new(settings(3));
    (0..64).for_each(|owner| words.start(owner, Time::NEVER));
    let mut order: Vec<u64> = words
        .run()
        .iter()
        .map(|(owner, finish)| {
            assert_eq!(finish.status, Status::Ok);
            *owner
        })
        .collect();
    assert!(!order.is_sorted(), "they end in any order: {order:?}");
    order.sort_unstable();
    assert_eq!(order, (0..64).collect::<Vec<_>>());
    assert!((0..64).all(|owner| words.region.load64(owner * 8) == Ok(owner + 1)));
    let counts = words.memory.counts();
    let expected = Counts { posted: 64, waited: 64 - DEPTH as u64, failed: 0, deepest: DEPTH };
    assert_eq!((counts, words.holds()), (expected, 0));
    // 64 of 2 to 40 ns, five at a time.
    let took = words.memory.now().as_ns();
    assert!((64 * 2 / 5..64 * 41 / 5 + 41).contains(&took), "it took {took} ns");
}

#[test]
fn the_same_seed_has_the_same_course() {
    let course = |seed| {
        let mut words = Words::new(Settings { failures_per_million: 200_000, ..settings(seed) });
        (0..64).for_each(|owner| words.start(owner, Time::NEVER));
        words.run()
    };
    assert_eq!(course(8), course(8));
    assert_ne!(course(8), course(9));
}

#[test]
fn what_fails_has_no_effect_and_says_so() {
    let mut words = Words::new(Settings { failures_per_million: 250_000, ..settings(5) });
    (0..64).for_each(|owner| words.start(owner, Time::NEVER));
    let over = words.run();
    let failed =
        Finish { status: Status::TransferFailed, fate: Fate::NotExecuted, reply_length: 0 };
    for (owner, finish) in &over {
        let done = finish.status == Status::Ok;
        assert!(done || *finish == failed, "{finish:?}");
        let expected = if done { owner + 1 } else { 0 };
        assert_eq!(words.region.load64(owner * 8), Ok(expected));
    }
    let count = over.iter().filter(|(_, finish)| *finish == failed).count();
    assert_eq!((over.len(), count as u64), (64, words.memory.counts().failed));
    assert!((5..30).contains(&count), "{count} of 64 at one in four");
    assert_eq!((words.holds(), words.memory.under_way()), (0, 0));
}

#[test]
fn requests_that_are_given_up_leave_their_place_to_others() {
    let mut words =
        Words::new(Settings { latency: Span::from_ns(100)..=Span::from_ns(100), ..settings(1) });
    // The first five are under way and the next five wait. All ten expire in one turn, in which the
    // latter take the places of the former for a moment.
    (0..10).for_each(|owner| words.start(owner, Time::from_ns(50)));
    (10..15).for_each(|owner| words.start(owner, Time::NEVER));
    for (owner, finish) in words.run() {
        let expected = if owner < 10 { Status::Expired } else { Status::Ok };
        assert_eq!(finish.status, expected, "{owner}");
        let added = if owner < 10 { 0 } else { owner + 1 };
        assert_eq!(words.region.load64(owner * 8), Ok(added));
    }
    let counts = words.memory.counts();
    assert_eq!((counts.posted, words.holds(), words.memory.under_way()), (15, 0, 0));
    assert!(words.memory.now() < Time::from_ns(160), "the last began at 50: {counts:?}");
}

#[test]
fn a_revocation_waits_for_what_is_under_way() {
    let mut words = Words::new(settings(2));
    words.start(0, Time::NEVER);
    words.executor.run(&mut words.memory, Time::ZERO, Budget::default(), &mut |_, _, _| {});
    let (export, generation) = (words.rkey.export.get(), words.rkey.generation.get());
    assert_eq!(words.memory.revoke(export, generation), Ok(1));
    let over = words.run();
    assert_eq!((over[0].1.status, over[0].1.fate), (Status::Revoked, Fate::NotExecuted));
    assert_eq!((words.holds(), words.region.load64(0)), (0, Ok(0)));
}
