//! A memory whose completions come late and in any order, as a DMA engine's do.

use alloc::vec::Vec;

use nic_wire::{KernelId, Rkey, Status, Time};

use crate::bench::{Bench, op};
use crate::checked::{Checked, Pending};
use crate::memory::{AccessError, Atomicity, Done, Grant, Memory, Request};
use crate::random::Random;
use crate::{Access, Budget, Builtin, Executor, Invocation, Limits, fetch_add};

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
