//! A memory whose completions come late and in any order, as a DMA engine's do.

use alloc::vec::Vec;

use nic_wire::{KernelId, Rkey, Span, Status, Time};

use crate::bench::{Bench, op};
use crate::checked::{Checked, Pending};
use crate::kernel::{Event, Extent, Step};
use crate::memory::{AccessError, Atomicity, Done, Grant, Memory, Request};
use crate::random::Random;
use crate::write;
use crate::{
    Access, BadArguments, Budget, Builtin, Call, Executor, Invocation, Kernel, Limits, Reply,
    fetch_add,
};

/// Answers a poll only now and then.
struct Slow {
    mapped: Checked,
    random: Random,
    never: bool,
}

impl Memory for Slow {
    type Pending = Pending;

    fn admit(&self, rkey: &Rkey) -> Result<Grant, AccessError> {
        self.mapped.admit(rkey)
    }

    fn permit(&self, grant: Grant, access: Access) -> Result<(), AccessError> {
        self.mapped.permit(grant, access)
    }

    fn submit(&mut self, grant: Grant, request: &Request) -> Result<Pending, AccessError> {
        self.mapped.submit(grant, request)
    }

    fn poll(&mut self, pending: &Pending, into: &mut [u8]) -> Result<Option<Done>, AccessError> {
        if self.never || self.random.below(4) != 0 {
            return Ok(None);
        }
        self.mapped.poll(pending, into)
    }

    fn abandon(&mut self, pending: &Pending) {
        self.mapped.abandon(pending);
    }

    fn copy_out(&self, pending: &Pending, at: u32, into: &mut [u8]) -> Result<(), AccessError> {
        self.mapped.copy_out(pending, at, into)
    }

    fn place(&mut self, pending: &Pending, at: u32, bytes: &[u8]) -> Result<(), AccessError> {
        self.mapped.place(pending, at, bytes)
    }

    fn place_whole(&mut self, pending: &Pending, bytes: &[u8]) -> Result<(), AccessError> {
        self.mapped.place_whole(pending, bytes)
    }

    fn last_word(&self, pending: &Pending) -> Option<u32> {
        self.mapped.last_word(pending)
    }

    fn place_last_word(&mut self, pending: &Pending, word: [u8; 8]) -> Result<(), AccessError> {
        self.mapped.place_last_word(pending, word)
    }

    fn atomicity(&self) -> Atomicity {
        self.mapped.atomicity()
    }
}

#[test]
fn late_completions_in_any_order_are_taken_as_they_come() {
    let mut bench = Bench::<Builtin>::new(1);
    let (region, rkey) = bench.region(4096);
    region.fill(0, 4096, 0).unwrap();
    let mut memory = Slow { mapped: bench.memory, random: Random::new(11), never: false };
    let mut executor = Executor::<Builtin, Slow>::new(32, Limits::default());
    let grant = memory.admit(&rkey).unwrap();
    let mut order = Vec::new();
    for owner in 0..32 {
        let arguments = fetch_add::Arguments::home(owner * 8, owner).encode();
        let invocation = Invocation { owner, ..op(KernelId::FETCH_ADD, &arguments) };
        executor.start(&mut memory, Time::ZERO, grant, &invocation).unwrap();
    }
    while order.len() < 32 {
        executor.run(&mut memory, Time::ZERO, Budget::default(), &mut |_, owner, finish| {
            assert_eq!(finish.status, Status::Ok);
            order.push(owner);
        });
    }
    assert!(!order.is_sorted(), "{order:?}");
    order.sort_unstable();
    assert_eq!(order, (0..32).collect::<Vec<_>>());
    assert!((0..32).all(|owner| region.load64(owner * 8) == Ok(owner)));
}

#[test]
fn a_memory_that_never_answers_costs_one_round_and_the_op_expires() {
    let mut bench = Bench::<Builtin>::new(1);
    let (_, rkey) = bench.region(4096);
    let mut memory = Slow { mapped: bench.memory, random: Random::new(11), never: true };
    let mut executor = Executor::<Builtin, Slow>::new(4, Limits::default());
    let grant = memory.admit(&rkey).unwrap();
    let arguments = fetch_add::Arguments::home(0, 1).encode();
    let deadline = Time::from_ns(50);
    let invocation = Invocation { deadline, ..op(KernelId::FETCH_ADD, &arguments) };
    executor.start(&mut memory, Time::ZERO, grant, &invocation).unwrap();
    let budget = Budget { rounds: u32::MAX, cost: u64::MAX };
    let progress = executor.run(&mut memory, Time::ZERO, budget, &mut |_, _, _| unreachable!());
    assert_eq!((progress.ready, progress.finished), (1, 0));
    let mut over = Vec::new();
    executor.run(&mut memory, deadline, budget, &mut |_, _, finish| over.push(finish.status));
    assert_eq!(over, [Status::Expired]);
    assert_eq!(memory.mapped.holds(rkey.export.get(), rkey.generation.get()), 0);
}

/// Waits until the word at an address is no longer zero, and replies with it.
struct Until {
    word: Extent,
}

impl Kernel for Until {
    const ID: KernelId = KernelId(0x8000);

    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        Ok(Until { word: Extent::named(call.home, call.arguments[0].into(), 8) })
    }

    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        match event {
            Event::Start => Step::Await { word: self.word, unlike: 0, at_most: Span::MAX },
            Event::Woken(word) => match reply.append(&word.to_le_bytes()) {
                Ok(()) => Step::DONE,
                Err(full) => full.into(),
            },
            _ => Step::UNEXPECTED,
        }
    }
}

crate::kernel_set! {
    /// What these tests run.
    enum Waiting {
        Until(Until),
        FetchAdd(fetch_add::FetchAdd),
        Write(write::Write),
    }
}

#[test]
fn no_change_is_missed_between_a_look_and_the_wait() {
    for seed in 0..300 {
        let mut bench = Bench::<Builtin>::new(1);
        let (region, rkey) = bench.region(64);
        region.fill(0, 64, 0).unwrap();
        let random = Random::new(seed);
        let mut memory = Slow { mapped: bench.memory, random, never: false };
        // Nobody looks again by the clock.
        let limits = Limits { look_again: Span::MAX, ..Limits::default() };
        let mut executor = Executor::<Waiting, Slow>::new(8, limits);
        let grant = memory.admit(&rkey).unwrap();
        for (owner, address) in [8, 8, 8, 16].into_iter().enumerate() {
            let arguments = [address];
            let invocation = Invocation { owner: owner as u64, ..op(Until::ID, &arguments) };
            executor.start(&mut memory, Time::ZERO, grant, &invocation).unwrap();
        }
        let mut woken = Vec::new();
        let mut run = |executor: &mut Executor<Waiting, Slow>, memory: &mut Slow, times| {
            for _ in 0..times {
                let budget = Budget::default();
                executor.run(memory, Time::ZERO, budget, &mut |slot, owner, finish| {
                    assert_eq!(finish.status, Status::Ok);
                    woken.push((owner, slot));
                });
            }
        };
        run(&mut executor, &mut memory, seed % 7);
        // The change is an atomic, or the last word of a payload.
        let add = fetch_add::Arguments::home(8, 5).encode();
        let write = write::Arguments::home(4).encode();
        if seed % 2 == 0 {
            let invocation = Invocation { owner: 9, ..op(KernelId::FETCH_ADD, &add) };
            executor.start(&mut memory, Time::ZERO, grant, &invocation).unwrap();
        } else {
            let base = op(KernelId::WRITE, &write);
            let invocation = Invocation { owner: 9, payload_length: 12, ..base };
            let slot = executor.start(&mut memory, Time::ZERO, grant, &invocation).unwrap();
            executor.payload(slot, 0, &[5, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0], &mut memory).unwrap();
        }
        run(&mut executor, &mut memory, 300);
        let mut owners: Vec<u64> = woken.iter().map(|(owner, _)| *owner).collect();
        owners.sort_unstable();
        assert_eq!(owners, [0, 1, 2, 9], "seed {seed}");
        for (owner, slot) in woken {
            let mut word = [0; 8];
            if owner < 9 {
                executor.copy_reply(slot, &memory, 0, &mut word).unwrap();
                assert_eq!(u64::from_le_bytes(word), 5, "seed {seed}");
            }
        }
        let end = executor.run(&mut memory, Time::ZERO, Budget::default(), &mut |_, _, _| {});
        assert_eq!((end.ready, end.waiting, end.cost), (0, 1, 0), "the fourth waits on");
    }
}
