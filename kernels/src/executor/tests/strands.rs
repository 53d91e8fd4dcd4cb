//! Ops of many strands: slots, order, ends.

use alloc::vec::Vec;

use nic_wire::{Fate, KernelId, Rkey, Span, Status, Time};

use crate::bench::{Bench, op};
use crate::indirect_read::{self, IndirectRead};
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Outcome, Step};
use crate::read::{self, Read};
use crate::reply::Reply;
use crate::{Budget, Finish, Invocation, Limits, SlotId, StrandHeader, Strands};

/// What the word at 8 holds at first.
const WORD: u64 = u64::from_le_bytes([8, 9, 10, 11, 12, 13, 14, 15]);

/// Splits as its arguments say, {count, stride, what}; strands do what the third byte says.
#[derive(Clone, Copy)]
struct Fan {
    count: u8,
    stride: u8,
    what: u8,
    place: Option<u8>,
}

impl Kernel for Fan {
    const ID: KernelId = KernelId(0x8000);

    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let [count, stride, what] = call.arguments.try_into().unwrap();
        Ok(Fan { count, stride, what, place: None })
    }

    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        let stride = if self.what == b'k' { 1008 } else { self.stride.into() };
        let split = Step::Split(Strands { count: self.count, stride });
        let word = Extent::named(0, 8, 8);
        match (self.place, event, self.what) {
            (None, Event::Start, b'l') => Step::Fetch(word),
            (Some(place), Event::Start, b'p') => match reply.append(&[place; 3]) {
                Ok(()) => Step::DONE,
                Err(full) => full.into(),
            },
            (Some(_), Event::Start, b's') => Step::Split(Strands { count: 1, stride: 8 }),
            (Some(_), Event::Start, b'w') => Step::StorePayload(Extent::named(0, 8, 0)),
            (Some(_), Event::Start, b'W') => Step::StorePayload(word),
            (Some(_), Event::Start, b'h') => Step::HoldPayload,
            (Some(_), Event::Start, b't') => Step::TapPayload(Extent::named(0, 8, 0)),
            (Some(_), Event::Start, b'P') => Step::Peek { offset: 0, length: 8 },
            (None, Event::Start, b'A') | (Some(_), Event::Start, b'v') => {
                Step::Await { word, unlike: WORD, at_most: Span::from_ms(1000) }
            }
            (None, Event::Woken(_), _) => Step::DONE,
            (Some(_), Event::Start, b'a' | b'm') => Step::FetchAdd { at: word, addend: 1 },
            (Some(_), Event::Old(_), _) => Step::DONE,
            (Some(place), Event::Start, b'k') => Step::Fetch(Extent::named(0, place.into(), 1000)),
            (Some(_), Event::Fetched(_), b'k') => Step::Finish(Outcome::Fetched),
            // Without end.
            (Some(_), Event::Fetched(_), b'e') => Step::Fetch(word),
            (None, Event::Start | Event::Fetched(_), _) => split,
            (Some(_), Event::Start, _) => Step::Fetch(word),
            (Some(_), Event::Fetched(_), _) => Step::DONE,
            _ => Step::UNEXPECTED,
        }
    }

    fn strand(&self, place: u8) -> Option<Self> {
        (self.what != b'n').then_some(Fan { place: Some(place), ..*self })
    }

    fn must_end(&self) -> bool {
        self.what == b'm'
    }
}

/// INDIRECT_READ by strands, whatever the executor could do by itself.
#[derive(Clone, Copy)]
struct Strandwise(IndirectRead);

impl Kernel for Strandwise {
    const ID: KernelId = KernelId(0x8001);

    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        IndirectRead::begin(call).map(Strandwise)
    }

    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        self.0.step(event, reply)
    }

    fn strand(&self, place: u8) -> Option<Self> {
        self.0.strand(place).map(Strandwise)
    }
}

crate::kernel_set! {
    /// What these tests run.
    enum Tested { Read(Read), Strandwise(Strandwise), Fan(Fan) }
}

/// A batch of so many lookups through a table of pointers to 64.
fn batch(count: usize) -> Vec<u8> {
    let indices: Vec<u32> = (0..count as u32).collect();
    let arguments = indirect_read::Arguments::new(512, 8, &indices).unwrap();
    arguments.encoded().to_vec()
}

fn bench(capacity: u32) -> (Bench<Tested>, Rkey) {
    let mut bench = Bench::<Tested>::new(capacity);
    let (memory, rkey) = bench.region(2048);
    for index in 0..54 {
        memory.write(512 + 8 * index, &64u64.to_le_bytes()).unwrap();
    }
    (bench, rkey)
}

fn holds(bench: &Bench<Tested>, rkey: &Rkey) -> u32 {
    bench.memory.holds(rkey.export.get(), rkey.generation.get())
}

fn start(bench: &mut Bench<Tested>, rkey: &Rkey, arguments: &[u8], deadline: u64) -> SlotId {
    let deadline = Time::from_ns(deadline);
    let invocation = Invocation { deadline, ..op(Strandwise::ID, arguments) };
    bench.start(rkey, &invocation).unwrap()
}

/// All strands' slots can be had, so none was lost.
fn all_slots_are_free(bench: &mut Bench<Tested>, rkey: &Rkey) {
    assert!(bench.executor.is_idle());
    assert_eq!(holds(bench, rkey), 0);
    let encoded = batch(32);
    let slots: Vec<SlotId> = (0..16).map(|_| start(bench, rkey, &encoded, u64::MAX)).collect();
    assert_eq!(bench.run(Time::ZERO).len(), 16, "512 strands at once");
    slots.iter().for_each(|slot| bench.executor.free(*slot, &mut bench.memory));
    assert!(bench.executor.is_idle());
    assert_eq!(holds(bench, rkey), 0);
}

#[test]
fn strands_advance_side_by_side() {
    let (mut bench, rkey) = bench(4);
    start(&mut bench, &rkey, &batch(54), u64::MAX);
    let budget = Budget { rounds: 2, cost: 4096 };
    let mut over = Vec::new();
    let progress =
        bench.executor.run(&mut bench.memory, Time::ZERO, budget, &mut |_, _, finish| {
            over.push(finish);
        });
    let finish = Finish { status: Status::Ok, fate: Fate::Executed, reply_length: 54 * (8 + 8) };
    assert_eq!(over, [finish], "one round for all pointers; all are told in the next");
    assert_eq!(progress.cost, 54 * 2, "a fetch and a range for each");
    assert_eq!((progress.ready, progress.waiting), (0, 0));
}

#[test]
fn ops_wait_for_slots_in_their_order_and_none_is_lost() {
    let (mut bench, rkey) = bench(64);
    let encoded = batch(54);
    let slots: Vec<SlotId> =
        (0..30).map(|_| start(&mut bench, &rkey, &encoded, u64::MAX)).collect();
    let mut next = 0;
    while next < 30 {
        // Their replies are not made yet, and keep the slots.
        let over: Vec<SlotId> = bench.run(Time::ZERO).iter().map(|over| over.0).collect();
        let most = (next + 512 / 54).min(30);
        assert_eq!(over, slots[next..most]);
        assert!(bench.run(Time::ZERO).is_empty());
        assert_eq!(bench.executor.ready(), 0, "nothing to do until slots are free");
        for slot in &slots[next..most] {
            let reply = bench.reply(*slot);
            let parts = StrandHeader::parts(&reply, 16).flatten();
            assert_eq!(parts.filter(|part| *part == (Status::Ok, &reply[8..16])).count(), 54);
            bench.executor.free(*slot, &mut bench.memory);
        }
        next = most;
    }
    all_slots_are_free(&mut bench, &rkey);
}

#[test]
fn deadlines_end_ops_that_wait_and_strands_under_way() {
    let (mut bench, rkey) = bench(64);
    let encoded = batch(54);
    let slots: Vec<SlotId> = (0..12).map(|_| start(&mut bench, &rkey, &encoded, 100)).collect();
    assert_eq!(bench.executor.next_deadline(), Time::from_ns(100));
    // Enough to begin, and not to end.
    let once = Budget { rounds: 1, cost: 1 };
    bench.executor.run(&mut bench.memory, Time::ZERO, once, &mut |_, _, _| unreachable!());
    let over = bench.run(Time::from_ns(100));
    assert_eq!(over.len(), 12);
    let expired = Finish { status: Status::Expired, fate: Fate::NotExecuted, reply_length: 0 };
    for (slot, _, finish) in over {
        if slots[..9].contains(&slot) {
            let reply = bench.reply(slot);
            for part in StrandHeader::parts(&reply, 16).flatten() {
                assert!(part.0 == Status::Expired || part.0 == Status::Ok);
            }
            let expired = |part: &(Status, &[u8])| *part == (Status::Expired, &[][..]);
            assert!(StrandHeader::parts(&reply, 16).flatten().any(|part| expired(&part)));
        } else {
            assert_eq!(finish, expired);
        }
        bench.executor.free(slot, &mut bench.memory);
    }
    all_slots_are_free(&mut bench, &rkey);
}

#[test]
fn cancelled_at_any_moment_an_op_leaves_nothing_behind() {
    for rounds in 0..5 {
        let (mut bench, rkey) = bench(64);
        let encoded = batch(54);
        // The last ones wait.
        let slots: Vec<SlotId> =
            (0..12).map(|_| start(&mut bench, &rkey, &encoded, u64::MAX)).collect();
        // In the midst of a round, too.
        for _ in 0..rounds {
            let budget = Budget { rounds: 1, cost: 300 };
            bench.executor.run(&mut bench.memory, Time::ZERO, budget, &mut |_, _, _| {});
        }
        for slot in slots {
            let fate = bench.executor.cancel(slot, &mut bench.memory);
            assert_ne!(fate, Fate::Unknown);
        }
        assert!(bench.run(Time::ZERO).is_empty());
        all_slots_are_free(&mut bench, &rkey);
    }
}

#[test]
fn revoked_at_any_moment_an_op_ends_and_lets_go() {
    for rounds in 0..5 {
        let (mut bench, rkey) = bench(64);
        let encoded = batch(54);
        let mut slots: Vec<SlotId> =
            (0..12).map(|_| start(&mut bench, &rkey, &encoded, u64::MAX)).collect();
        for _ in 0..rounds {
            let budget = Budget { rounds: 1, cost: 300 };
            bench.executor.run(&mut bench.memory, Time::ZERO, budget, &mut |_, _, _| {});
        }
        let (export, generation) = (rkey.export.get(), rkey.generation.get());
        bench.memory.revoke(export, generation).unwrap();
        bench.executor.release_revoked(&mut bench.memory);
        bench.run(Time::ZERO);
        bench.executor.release_revoked(&mut bench.memory);
        assert_eq!(holds(&bench, &rkey), 0, "after {rounds} rounds");
        for slot in slots.drain(..) {
            let length = bench.executor.reply_length(slot) as usize;
            if length > 0 {
                // Some strands may have ended before; nothing is read any more.
                let mut reply = alloc::vec![0; length];
                let copied = bench.executor.copy_reply(slot, &bench.memory, 0, &mut reply);
                let failed =
                    StrandHeader::parts(&reply, 16).flatten().all(|part| part.0 != Status::Ok);
                assert!(copied == Err(Status::Revoked) || failed);
            }
            bench.executor.free(slot, &mut bench.memory);
        }
        let again = bench.memory.export(bench.domain, 0, crate::bench::ALL, &[], 9).unwrap();
        all_slots_are_free(&mut bench, &again);
    }
}

#[test]
fn strands_may_gather_fail_and_change_words() {
    let cases: &[([u8; 3], Status, &[u8], Fate)] = &[
        ([64, 12, b'p'], Status::Ok, &[63; 3], Fate::Executed),
        ([64, 11, b'p'], Status::Ok, &[63; 3], Fate::Executed),
        ([64, 10, b'p'], Status::ReplyTooLong, &[], Fate::Executed),
        ([3, 16, b'l'], Status::Ok, &[], Fate::Executed),
        ([3, 16, b's'], Status::Unsupported, &[], Fate::Executed),
        ([3, 16, b'w'], Status::Unsupported, &[], Fate::Executed),
        ([3, 16, b'W'], Status::Unsupported, &[], Fate::Executed),
        ([3, 16, b'h'], Status::Unsupported, &[], Fate::Executed),
        ([3, 16, b't'], Status::Unsupported, &[], Fate::Executed),
        ([3, 16, b'P'], Status::Unsupported, &[], Fate::Executed),
        ([3, 16, b'v'], Status::Unsupported, &[], Fate::Executed),
        ([3, 16, b'n'], Status::Unsupported, &[], Fate::Executed),
        ([3, 16, b'a'], Status::Ok, &[], Fate::Executed),
        ([3, 16, b'e'], Status::TooManySteps, &[], Fate::Executed),
    ];
    for (arguments, status, reply, fate) in cases {
        let mut bench = Bench::<Tested>::with_limits(2, Limits { steps: 50, ..Limits::default() });
        let (memory, rkey) = bench.region(64);
        memory.write(8, &[0; 8]).unwrap();
        let (finish, whole) = bench.call(&rkey, Fan::ID, arguments, &[]);
        let name = char::from(arguments[2]);
        assert_eq!((finish.status, finish.fate), (Status::Ok, *fate), "{name}");
        let parts: Vec<_> =
            StrandHeader::parts(&whole, arguments[1].into()).map(Option::unwrap).collect();
        assert_eq!(parts.len(), usize::from(arguments[0]));
        assert_eq!(parts.last(), Some(&(*status, *reply)), "{name}");
        let added = if name == 'a' { 3 } else { 0 };
        assert_eq!(memory.load64(8), Ok(added));
        assert!(bench.executor.is_idle());
        assert_eq!(holds(&bench, &rkey), 0);
    }
}

#[test]
fn what_strands_change_wakes_those_who_wait_for_it() {
    let (mut bench, rkey) = bench(2);
    let waiting = bench.start(&rkey, &op(Fan::ID, &[1, 16, b'A'])).unwrap();
    assert!(bench.run(Time::ZERO).is_empty());
    assert!(bench.executor.waits(waiting));
    let adding = bench.start(&rkey, &op(Fan::ID, &[3, 16, b'a'])).unwrap();
    // Long before anybody would look again.
    let over: Vec<SlotId> = bench.run(Time::ZERO).iter().map(|over| over.0).collect();
    assert!(over.contains(&waiting) && over.contains(&adding));
    over.iter().for_each(|slot| bench.executor.free(*slot, &mut bench.memory));
    assert!(bench.executor.is_idle());
}

#[test]
fn strands_of_an_op_that_must_end_go_on_without_it() {
    for rounds in 0..3 {
        let (mut bench, rkey) = bench(64);
        let slot = bench.start(&rkey, &op(Fan::ID, &[5, 16, b'm'])).unwrap();
        let budget = Budget { rounds, cost: 2 };
        bench.executor.run(&mut bench.memory, Time::ZERO, budget, &mut |_, _, _| {});
        bench.executor.cancel(slot, &mut bench.memory);
        assert!(bench.run(Time::ZERO).is_empty(), "nobody hears of it");
        let read = read::Arguments::home(8, 8).encode();
        let (_, word) = bench.call(&rkey, KernelId::READ, &read, &[]);
        assert_eq!(word, (WORD + 5).to_le_bytes(), "after {rounds} rounds");
        all_slots_are_free(&mut bench, &rkey);
    }
}

#[test]
fn strands_may_reply_with_long_copies() {
    let (mut bench, rkey) = bench(8);
    // More of them than there are buffers, if any were lost.
    for _ in 0..9 {
        let (finish, reply) = bench.call(&rkey, Fan::ID, &[32, 0, b'k'], &[]);
        assert_eq!(finish.reply_length, 32 * 1008);
        for (place, part) in StrandHeader::parts(&reply, 1008).enumerate() {
            let (status, copy) = part.unwrap();
            assert_eq!((status, copy.len()), (Status::Ok, 1000));
            assert!(copy[..500 - place].iter().zip(place..).all(|(byte, at)| *byte == at as u8));
        }
    }
    all_slots_are_free(&mut bench_with(bench), &rkey);
}

#[test]
fn a_split_that_makes_no_sense_ends_the_op() {
    let (mut bench, rkey) = bench(2);
    for (arguments, payload_length, capacity, status) in [
        ([0, 16, b'p'], 0, 4096, Status::Unsupported),
        ([65, 16, b'p'], 0, 4096, Status::Unsupported),
        ([4, 7, b'p'], 0, 4096, Status::Unsupported),
        ([4, 16, b'p'], 1, 4096, Status::Unsupported),
        ([4, 16, b'p'], 0, 63, Status::ReplyTooLong),
    ] {
        let invocation =
            Invocation { payload_length, reply_capacity: capacity, ..op(Fan::ID, &arguments) };
        assert_eq!(bench.start(&rkey, &invocation), Err(status), "{arguments:?}");
    }
    all_slots_are_free(&mut bench_with(bench), &rkey);
}

/// Room for what [`all_slots_are_free`] starts.
fn bench_with(mut small: Bench<Tested>) -> Bench<Tested> {
    assert!(small.executor.is_idle());
    small.executor = crate::Executor::new(64, Limits::default());
    small
}

#[test]
fn ops_and_strands_share_what_a_turn_may_cost() {
    let (mut bench, rkey) = bench(64);
    // Strands without end, and READs that come again and again.
    let endless = [32, 16, b'e'];
    for _ in 0..4 {
        bench.start(&rkey, &op(Fan::ID, &endless)).unwrap();
    }
    let read = read::Arguments::home(0, 8).encode();
    let budget = Budget { rounds: 64, cost: 64 };
    let mut reads = 0;
    let mut costs = 0;
    for _ in 0..100 {
        for _ in 0..8 {
            bench.start(&rkey, &op(KernelId::READ, &read)).unwrap();
        }
        let mut over = Vec::new();
        let progress =
            bench.executor.run(&mut bench.memory, Time::ZERO, budget, &mut |slot, _, _| {
                over.push(slot);
            });
        reads += over.len();
        over.iter().for_each(|slot| bench.executor.free(*slot, &mut bench.memory));
        assert!(progress.cost <= 64 + 64 / 4 + 128 + 8, "{progress:?}");
        costs += progress.cost;
    }
    assert_eq!(reads, 800, "each in the turn in which it came");
    assert!(costs > 50 * 64, "and the strands went on: {costs}");
}

crate::bench::also_on_dma!(
    cancelled_at_any_moment_an_op_leaves_nothing_behind,
    revoked_at_any_moment_an_op_ends_and_lets_go,
    strands_may_gather_fail_and_change_words,
    what_strands_change_wakes_those_who_wait_for_it,
    strands_of_an_op_that_must_end_go_on_without_it,
    strands_may_reply_with_long_copies,
);
