//! Kernels that behave badly, and long walks.

use alloc::vec::Vec;

use nic_wire::{Fate, KernelId, Status, Time};

use crate::bench::{Bench, op};
use crate::kernel::{Continuation, Event, Extent, Pointer, Step};
use crate::{
    BadArguments, Budget, Call, Finish, Invocation, Kernel, Limits, Memory, Reply, fetch_add,
};

/// Walks a list of words, each the next one's address, until one is zero; replies with how many.
/// It may be resumed.
struct Walk {
    home: u8,
    at: u64,
    hops: u64,
}

/// Length of the walk's arguments.
const WALK_BYTES: usize = 28;

impl Kernel for Walk {
    const ID: KernelId = KernelId(0x8000);

    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let length = BadArguments::Length { found: call.arguments.len(), expected: WALK_BYTES };
        let (words, _) = call.arguments.as_chunks::<8>();
        let [at, hops, _] = words else { return Err(length) };
        let (at, hops) = (u64::from_le_bytes(*at), u64::from_le_bytes(*hops));
        Ok(Walk { home: call.home, at, hops })
    }

    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        if let Event::Fetched(word) = event {
            self.hops += 1;
            self.at = u64::from_le_bytes(word.try_into().unwrap());
            if self.at == 0 {
                return match reply.append(&self.hops.to_le_bytes()) {
                    Ok(()) => Step::DONE,
                    Err(full) => full.into(),
                };
            }
        }
        let at = Pointer { region: self.home, address: self.at };
        Step::Fetch(Extent::followed(at, 8))
    }

    fn resume_point(&self) -> Option<Continuation> {
        Some(Continuation::new(&walk_arguments(self.at, self.hops)))
    }
}

fn walk_arguments(at: u64, hops: u64) -> [u8; WALK_BYTES] {
    let mut bytes = [0; WALK_BYTES];
    bytes[..8].copy_from_slice(&at.to_le_bytes());
    bytes[8..16].copy_from_slice(&hops.to_le_bytes());
    bytes
}

/// Does one step after another, as its arguments say.
struct Script {
    steps: [u8; 32],
    next: usize,
}

impl Kernel for Script {
    const ID: KernelId = KernelId(0x8001);

    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let mut steps = [0; 32];
        steps[..call.arguments.len()].copy_from_slice(call.arguments);
        Ok(Script { steps, next: 0 })
    }

    fn step(&mut self, _event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        let step = self.steps[self.next.min(31)];
        self.next += 1;
        let word = Extent::named(0, 8, 8);
        match step {
            b'f' => Step::Fetch(word),
            b'F' => Step::Fetch(Extent::named(0, 0, 4097)),
            b'r' => Step::FetchToReply(word),
            b's' => Step::Store { at: word, word: 0x5555 },
            b'a' => Step::FetchAdd { at: word, addend: 1 },
            b'o' => Step::Fetch(Extent::named(0, 1 << 40, 8)),
            b'p' => Step::StorePayload(word),
            b'g' => match reply.append(&[7; 100]) {
                Ok(()) => Step::Fetch(word),
                Err(full) => full.into(),
            },
            b'!' => Step::fail(Status::Torn),
            b'l' => {
                self.next -= 1;
                Step::Fetch(word)
            }
            _ => Step::DONE,
        }
    }
}

crate::kernel_set! {
    /// What these tests run.
    enum Tested {
        Walk(Walk),
        Script(Script),
        FetchAdd(fetch_add::FetchAdd),
    }
}

/// A list over 1000 words: word n points to word n + 1, the last is zero.
fn list(bench: &mut Bench<Tested>) -> nic_wire::Rkey {
    let (memory, rkey) = bench.region(8192);
    for place in 0..1000u64 {
        let next = if place == 999 { 0 } else { (place + 1) * 8 };
        memory.write(place * 8, &next.to_le_bytes()).unwrap();
    }
    rkey
}

#[test]
fn a_walk_that_reaches_its_bound_can_be_resumed() {
    let limits = Limits { steps: 101, ..Limits::default() };
    let mut bench = Bench::<Tested>::with_limits(4, limits);
    let rkey = list(&mut bench);
    let mut arguments = walk_arguments(8, 0);
    for _ in 0..9 {
        let (finish, reply) = bench.call(&rkey, Walk::ID, &arguments, &[]);
        assert_eq!((finish.status, finish.fate), (Status::Continues, Fate::Executed));
        arguments = reply.try_into().unwrap();
    }
    let (finish, reply) = bench.call(&rkey, Walk::ID, &arguments, &[]);
    assert_eq!((finish.status, reply), (Status::Ok, 999u64.to_le_bytes().to_vec()));
    // Without a place for the continuation there is none.
    let invocation = Invocation { reply_capacity: 27, ..op(Walk::ID, &arguments[..]) };
    let long = walk_arguments(8, 0);
    bench.start(&rkey, &Invocation { arguments: &long, ..invocation }).unwrap();
    let over = bench.run(Time::ZERO);
    let finish = Finish { status: Status::TooManySteps, fate: Fate::NotExecuted, reply_length: 0 };
    assert_eq!(over[0].2, finish);
}

#[test]
fn bytes_are_bounded_as_well() {
    let limits = Limits { bytes: 800, ..Limits::default() };
    let mut bench = Bench::<Tested>::with_limits(4, limits);
    let rkey = list(&mut bench);
    let (finish, reply) = bench.call(&rkey, Walk::ID, &walk_arguments(8, 0), &[]);
    assert_eq!(finish.status, Status::Continues);
    assert_eq!(reply[8], 100, "hops in 800 bytes");
}

#[test]
fn long_walks_do_not_delay_short_ops() {
    let mut bench = Bench::<Tested>::new(8);
    let rkey = list(&mut bench);
    let long = walk_arguments(8, 0);
    for _ in 0..3 {
        bench.start(&rkey, &Invocation { owner: 1, ..op(Walk::ID, &long) }).unwrap();
    }
    let arguments = fetch_add::Arguments::home(8000, 1).encode();
    let short = Invocation { owner: 2, ..op(KernelId::FETCH_ADD, &arguments) };
    bench.start(&rkey, &short).unwrap();
    let mut over = Vec::new();
    let progress = bench.executor.run(
        &mut bench.memory,
        Time::ZERO,
        Budget { rounds: 2, cost: 1000 },
        &mut |_, owner, _| over.push(owner),
    );
    assert_eq!(over, [2]);
    assert_eq!((progress.finished, progress.ready, progress.waiting), (1, 3, 0));
    // Four fetches at the start, then three walks over two rounds.
    assert_eq!(progress.cost, 4 + 6);
}

#[test]
fn a_budget_that_ends_within_a_round_is_fair_in_the_next_turn() {
    let mut bench = Bench::<Tested>::new(8);
    let rkey = list(&mut bench);
    let arguments = walk_arguments(8, 0);
    for owner in 0..4 {
        bench.start(&rkey, &Invocation { owner, ..op(Walk::ID, &arguments) }).unwrap();
    }
    let budget = Budget { rounds: 64, cost: 1 };
    let mut ends = Vec::new();
    for turn in 0..5000u32 {
        bench.executor.run(&mut bench.memory, Time::ZERO, budget, &mut |_, owner, _| {
            ends.push((owner, turn));
        });
    }
    assert_eq!(ends.iter().map(|(owner, _)| *owner).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(ends[3].1 - ends[0].1 <= 4, "they went on side by side: {ends:?}");
}

#[test]
fn expired_ops_are_stopped_at_their_next_step() {
    let mut bench = Bench::<Tested>::new(8);
    let rkey = list(&mut bench);
    let arguments = walk_arguments(8, 0);
    let deadline = Time::from_ns(100);
    let invocation = Invocation { deadline, ..op(Walk::ID, &arguments) };
    bench.start(&rkey, &invocation).unwrap();
    let budget = Budget { rounds: 10, cost: 1000 };
    let mut over = Vec::new();
    for now in [98, 99, 100] {
        let now = Time::from_ns(now);
        bench.executor.run(&mut bench.memory, now, budget, &mut |_, _, finish| {
            over.push((now.as_ns(), finish));
        });
    }
    let finish = Finish { status: Status::Expired, fate: Fate::NotExecuted, reply_length: 0 };
    assert_eq!(over, [(100, finish)]);
    let grant = bench.memory.admit(&rkey).unwrap();
    let late = bench.executor.start(&mut bench.memory, deadline, grant, &invocation);
    assert_eq!(late, Err(Status::Expired));
}

#[test]
fn revocation_between_steps_stops_the_op() {
    let mut bench = Bench::<Tested>::new(8);
    let rkey = list(&mut bench);
    bench.start(&rkey, &op(Walk::ID, &walk_arguments(8, 0))).unwrap();
    let budget = Budget { rounds: 5, cost: 1000 };
    let mut over = Vec::new();
    bench.executor.run(&mut bench.memory, Time::ZERO, budget, &mut |_, _, _| unreachable!());
    let (export, generation) = (rkey.export.get(), rkey.generation.get());
    assert_eq!(bench.memory.revoke(export, generation), Ok(1), "a fetch is under way");
    bench.executor.run(&mut bench.memory, Time::ZERO, budget, &mut |_, _, finish| {
        over.push(finish);
    });
    let finish = Finish { status: Status::Revoked, fate: Fate::NotExecuted, reply_length: 0 };
    assert_eq!(over, [finish]);
    assert_eq!(bench.memory.holds(export, generation), 0);
}

#[test]
fn a_run_of_long_walks_ends_soon_and_with_a_short_op_at_once() {
    let mut bench = Bench::<Tested>::new(4);
    let rkey = list(&mut bench);
    bench.start(&rkey, &op(Walk::ID, &walk_arguments(8, 0))).unwrap();
    let budget = Budget { rounds: 64, cost: 4096 };
    let run = |bench: &mut Bench<Tested>| {
        bench.executor.run(&mut bench.memory, Time::ZERO, budget, &mut |_, _, _| {})
    };
    assert_eq!(run(&mut bench).cost, 1 + 64, "it is short until it has gone so far");
    let progress = run(&mut bench);
    assert_eq!((progress.cost, progress.ready), (8, 1));
    bench.start(&rkey, &op(Script::ID, b"ff.")).unwrap();
    let progress = run(&mut bench);
    assert_eq!((progress.finished, progress.ready), (1, 1));
    assert!(progress.cost <= 2 + 3, "{progress:?}: a round of the walk for each of the short op's");
    assert_eq!(run(&mut bench).cost, 8);
}

#[test]
fn every_bad_step_ends_the_op_with_its_status_and_fate() {
    let cases: &[(&[u8], Status, Fate)] = &[
        (b"ff", Status::Ok, Fate::Executed),
        (b"F", Status::Unsupported, Fate::NotExecuted),
        (b"fF", Status::Unsupported, Fate::NotExecuted),
        (b"fo", Status::OutOfBounds, Fate::NotExecuted),
        (b"so", Status::OutOfBounds, Fate::Unknown),
        (b"a!", Status::Torn, Fate::Executed),
        (b"f!", Status::Torn, Fate::NotExecuted),
        (b"p", Status::Unsupported, Fate::NotExecuted),
        (b"sp", Status::Unsupported, Fate::Unknown),
        (b"rrrr", Status::Ok, Fate::Executed),
        (b"rrrrr", Status::Unsupported, Fate::NotExecuted),
        (b"ggggg", Status::Ok, Fate::Executed),
        (b"gggggg", Status::ReplyTooLong, Fate::NotExecuted),
        (b"sgggggg", Status::ReplyTooLong, Fate::Executed),
        (b"l", Status::TooManySteps, Fate::NotExecuted),
        (b"sl", Status::TooManySteps, Fate::Unknown),
    ];
    for (steps, status, fate) in cases {
        let limits = Limits { steps: 1000, ..Limits::default() };
        let mut bench = Bench::<Tested>::with_limits(2, limits);
        let (_, rkey) = bench.region(64);
        let (finish, _) = bench.call(&rkey, Script::ID, steps, &[]);
        let name = core::str::from_utf8(steps).unwrap();
        assert_eq!((finish.status, finish.fate), (*status, *fate), "{name}");
        assert!(bench.executor.is_idle(), "{name}");
        assert_eq!(bench.memory.holds(rkey.export.get(), rkey.generation.get()), 0, "{name}");
    }
}

#[test]
fn gathered_bytes_precede_ranges() {
    let mut bench = Bench::<Tested>::new(2);
    let (_, rkey) = bench.region(64);
    let (finish, reply) = bench.call(&rkey, Script::ID, b"rgr", &[]);
    assert_eq!(finish.reply_length, 116);
    assert_eq!(reply[..100], [7; 100]);
    assert_eq!(reply[100..108], [8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!(reply[108..], reply[100..108]);
}

#[test]
fn a_stored_word_is_there() {
    let mut bench = Bench::<Tested>::new(2);
    let (memory, rkey) = bench.region(64);
    bench.call(&rkey, Script::ID, b"sa", &[]);
    assert_eq!(memory.load64(8), Ok(0x5556));
}

crate::bench::also_on_dma!(
    a_walk_that_reaches_its_bound_can_be_resumed,
    bytes_are_bounded_as_well,
    every_bad_step_ends_the_op_with_its_status_and_fate,
    gathered_bytes_precede_ranges,
    a_stored_word_is_there,
);
