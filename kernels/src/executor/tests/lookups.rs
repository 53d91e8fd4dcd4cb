//! Lookups that the executor makes by itself: what ends them, and where strands take over.

use alloc::vec::Vec;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Rkey, Status, Time};

use crate::bench::{ALL, Bench, op};
use crate::indirect_read::Arguments;
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Step};
use crate::read;
use crate::reply::Reply;
use crate::{
    Access, Budget, Finish, Invocation, Limits, Lookups, PointerForm, SlotId, StrandHeader, Strands,
};

/// Where the table begins, how many entries it has, and how many of them a batch asks for.
const TABLE: u64 = 4096;
const ENTRIES: u32 = 100;
const COUNT: u32 = 40;
/// Length of a value.
const LENGTH: u32 = 24;

fn address(index: u32) -> u64 {
    u64::from(index) * 32 + 8
}

fn value(index: u32) -> [u8; LENGTH as usize] {
    [index as u8; LENGTH as usize]
}

fn point(memory: &RacyMem, index: u32, to: u64) {
    memory.write(TABLE + 8 * u64::from(index), &to.to_le_bytes()).unwrap();
}

/// A region with values and a table of them.
fn bench(capacity: u32) -> (Bench, RacyMem, Rkey) {
    bench_of(Bench::new(capacity))
}

fn bench_of(mut bench: Bench) -> (Bench, RacyMem, Rkey) {
    let memory = RacyMem::allocate(8192);
    for index in 0..ENTRIES {
        memory.write(address(index), &value(index)).unwrap();
        point(&memory, index, address(index));
    }
    let home = bench.register(&memory);
    let rkey = bench.memory.export(bench.domain, home, ALL, &[], 0x5ec).unwrap();
    (bench, memory, rkey)
}

/// Lookups of so many entries from the first one on.
fn from(first: u32) -> Arguments {
    let indices: Vec<u32> = (first..first + COUNT).collect();
    Arguments::new(TABLE, LENGTH, &indices).unwrap()
}

fn start(bench: &mut Bench, rkey: &Rkey, first: u32) -> SlotId {
    let arguments = from(first);
    let invocation = op(KernelId::INDIRECT_READ, arguments.encoded());
    bench.start(rkey, &Invocation { owner: first.into(), ..invocation }).unwrap()
}

/// The parts of a reply of lookups from an entry on.
fn check(reply: &[u8], first: u32, expected: impl Fn(u32) -> (Status, Vec<u8>)) {
    let parts = StrandHeader::parts(reply, from(first).stride() as usize);
    assert_eq!(parts.len(), COUNT as usize);
    for (index, part) in (first..).zip(parts) {
        let (status, found) = part.unwrap();
        assert_eq!((status, found.to_vec()), expected(index), "entry {index}");
    }
}

fn good(index: u32) -> (Status, Vec<u8>) {
    (Status::Ok, value(index).to_vec())
}

#[test]
fn all_pointers_are_read_in_one_round_and_without_strands() {
    // More than there are slots for strands.
    let (mut bench, _memory, rkey) = bench(50);
    for first in 0..50 {
        start(&mut bench, &rkey, first);
    }
    assert_eq!(bench.executor.ready(), 50);
    let mut over = Vec::new();
    let budget = Budget { rounds: 2, cost: 1 << 20 };
    let progress =
        bench.executor.run(&mut bench.memory, Time::ZERO, budget, &mut |slot, owner, finish| {
            over.push((slot, owner, finish));
        });
    assert_eq!((progress.cost, progress.ready), (50 * u64::from(COUNT) * 2, 0));
    assert_eq!(over.len(), 50, "nobody has waited");
    for (slot, owner, finish) in over {
        let reply_length = COUNT * (8 + LENGTH);
        assert_eq!(finish, Finish { status: Status::Ok, fate: Fate::Executed, reply_length });
        check(&bench.reply(slot), owner as u32, good);
        bench.executor.free(slot, &mut bench.memory);
    }
    assert!(bench.executor.is_idle());
}

#[test]
fn where_one_lookup_fails_strands_say_which() {
    for (to, status) in [
        (8192 - u64::from(LENGTH), Status::Ok),
        (8192 - u64::from(LENGTH) + 1, Status::BadPointer),
        (8192, Status::BadPointer),
        (u64::MAX, Status::BadPointer),
        (0, Status::Ok),
    ] {
        let (mut bench, memory, rkey) = bench(2);
        point(&memory, 17, to);
        let (finish, reply) = bench.call(&rkey, KernelId::INDIRECT_READ, from(3).encoded(), &[]);
        assert_eq!(finish.status, Status::Ok);
        check(&reply, 3, |index| match (index, to) {
            (17, 0) => (Status::Ok, Vec::new()),
            (17, _) if status == Status::Ok => (status, [0; LENGTH as usize].to_vec()),
            (17, _) => (status, Vec::new()),
            _ => good(index),
        });
        assert!(bench.executor.is_idle());
    }
}

#[test]
fn rights_that_end_meanwhile_end_the_lookups_of_their_own_ops() {
    for rounds in 0..4 {
        let (mut bench, _memory, rkey) = bench(8);
        let other = bench.memory.export(bench.domain, 0, Access::READ, &[], 0xbad).unwrap();
        let slots = [(rkey, 0), (other, 9)].map(|(rkey, first)| start(&mut bench, &rkey, first));
        for _ in 0..rounds {
            let budget = Budget { rounds: 1, ..Budget::default() };
            bench.executor.run(&mut bench.memory, Time::ZERO, budget, &mut |_, _, _| {});
        }
        bench.memory.revoke(other.export.get(), other.generation.get()).unwrap();
        bench.executor.release_revoked(&mut bench.memory);
        bench.run(Time::ZERO);
        check(&bench.reply(slots[0]), 0, good);
        let length = bench.executor.reply_length(slots[1]) as usize;
        let mut reply = alloc::vec![0; length];
        match bench.executor.copy_reply(slots[1], &bench.memory, 0, &mut reply) {
            Ok(()) => check(&reply, 9, |_| (Status::Revoked, Vec::new())),
            Err(status) => assert_eq!(status, Status::Revoked, "after {rounds} rounds"),
        }
        for slot in slots {
            bench.executor.free(slot, &mut bench.memory);
        }
        assert!(bench.executor.is_idle(), "after {rounds} rounds");
        assert_eq!(bench.memory.holds(rkey.export.get(), rkey.generation.get()), 0);
    }
}

#[test]
fn values_come_from_what_the_export_may_follow_now() {
    let (mut bench, memory, _) = bench(2);
    let values = RacyMem::allocate(4096);
    values.write(64, &[7; LENGTH as usize]).unwrap();
    let second = bench.register(&values);
    for index in 0..ENTRIES {
        point(&memory, index, if index % 2 == 0 { address(index) } else { (1 << 56) | 64 });
    }
    let arguments = from(0).tagged();
    for follow in [&[second][..], &[]] {
        let rkey = bench.memory.export(bench.domain, 0, ALL, follow, 1).unwrap();
        let (finish, reply) = bench.call(&rkey, KernelId::INDIRECT_READ, arguments.encoded(), &[]);
        assert_eq!(finish.status, Status::Ok);
        check(&reply, 0, |index| match (index % 2, follow.len()) {
            (0, _) => good(index),
            (_, 1) => (Status::Ok, [7; LENGTH as usize].to_vec()),
            _ => (Status::BadPointer, Vec::new()),
        });
    }
}

/// Zeros stand where pages were: they are neither null pointers nor values.
#[test]
#[cfg(not(any(miri, loom)))]
fn missing_pages_are_told_to_the_ops_that_meet_them_and_no_others() {
    for is_table_lost in [true, false] {
        let (mut bench, memory, rkey) = bench(2);
        let (file, cut) = crate::bench::file_to_cut(&std::format!("{is_table_lost}"), 8192);
        for index in 0..ENTRIES {
            point(&file, index, address(index));
        }
        let second = bench.register(&file);
        if !is_table_lost {
            point(&memory, 20, (1 << 56) | address(20));
        }
        let home = if is_table_lost { second } else { 0 };
        let meets = bench.memory.export(bench.domain, home, ALL, &[second], 1).unwrap();
        let arguments = if is_table_lost { from(0) } else { from(0).tagged() };
        let lost = bench.start(&meets, &op(KernelId::INDIRECT_READ, arguments.encoded())).unwrap();
        let other = start(&mut bench, &rkey, 30);
        cut();
        assert!(bench.run(Time::ZERO).iter().all(|(_, _, finish)| finish.status == Status::Ok));
        let mut reply = alloc::vec![0; bench.executor.reply_length(lost) as usize];
        let copied = bench.executor.copy_reply(lost, &bench.memory, 0, &mut reply);
        if is_table_lost {
            assert_eq!(copied, Ok(()));
            check(&reply, 0, |_| (Status::MemoryLost, Vec::new()));
        } else {
            assert_eq!(copied, Err(Status::MemoryLost), "one of its values is");
        }
        check(&bench.reply(other), 30, good);
    }
}

#[test]
fn cancelled_ones_are_gone_and_late_ones_expire() {
    for rounds in 0..3 {
        let (mut bench, _memory, rkey) = bench(4);
        let slots: Vec<SlotId> = (0..3).map(|first| start(&mut bench, &rkey, first)).collect();
        for _ in 0..rounds {
            let budget = Budget { rounds: 1, cost: 50 };
            bench.executor.run(&mut bench.memory, Time::ZERO, budget, &mut |_, _, _| {});
        }
        assert_ne!(bench.executor.cancel(slots[1], &mut bench.memory), Fate::Unknown);
        bench.run(Time::ZERO);
        for (first, slot) in [(0, slots[0]), (2, slots[2])] {
            check(&bench.reply(slot), first, good);
            bench.executor.free(slot, &mut bench.memory);
        }
        assert!(bench.executor.is_idle(), "after {rounds} rounds");
    }
    let (mut bench, _memory, rkey) = bench(4);
    let (arguments, deadline) = (from(0), Time::from_ns(9));
    let invocation = op(KernelId::INDIRECT_READ, arguments.encoded());
    bench.start(&rkey, &Invocation { deadline, ..invocation }).unwrap();
    let over = bench.run(deadline);
    let finish = Finish { status: Status::Expired, fate: Fate::NotExecuted, reply_length: 0 };
    assert_eq!((over.len(), over[0].2), (1, finish));
}

#[test]
fn lookups_take_turns_under_the_smallest_budget_and_keep_the_executors_bounds() {
    let (mut bench, _memory, rkey) = bench(8);
    for first in 0..5 {
        start(&mut bench, &rkey, first);
    }
    let mut owners = Vec::new();
    for _ in 0..20 {
        let budget = Budget { rounds: 1, cost: 1 };
        bench.executor.run(&mut bench.memory, Time::ZERO, budget, &mut |_, owner, _| {
            owners.push(owner);
        });
    }
    assert_eq!(owners, [0, 1, 2, 3, 4]);
    for (limits, status) in [
        (Limits { steps: 3, ..Limits::default() }, Status::Ok),
        (Limits { steps: 2, ..Limits::default() }, Status::TooManySteps),
        (Limits { bytes: 7, ..Limits::default() }, Status::TooManySteps),
    ] {
        let (mut bench, _memory, rkey) = bench_of(Bench::with_limits(1, limits));
        let (_, reply) = bench.call(&rkey, KernelId::INDIRECT_READ, from(0).encoded(), &[]);
        let has_some = status == Status::Ok;
        check(&reply, 0, |index| if has_some { good(index) } else { (status, Vec::new()) });
    }
}

#[test]
fn who_begins_many_lookups_holds_nobody_up() {
    let (mut bench, _memory, rkey) = bench(128);
    for first in 0..60 {
        start(&mut bench, &rkey, first);
    }
    let read = read::Arguments::home(TABLE, 8).encode();
    for owner in 1000..1005 {
        bench.start(&rkey, &Invocation { owner, ..op(KernelId::READ, &read) }).unwrap();
    }
    for first in 0..60 {
        start(&mut bench, &rkey, first);
    }
    let mut reads = 0;
    bench.executor.run(&mut bench.memory, Time::ZERO, Budget::default(), &mut |_, owner, _| {
        reads += u32::from(owner >= 1000);
    });
    assert_eq!(reads, 5, "with the first turn");
}

#[test]
fn replies_may_be_copied_byte_by_byte_also_at_the_end_of_a_region() {
    let (mut bench, memory, rkey) = bench(1);
    memory.write(8192 - 5, b"value").unwrap();
    point(&memory, 1, 8192 - 5);
    let arguments = Arguments::new(TABLE, 5, &[0, 1]).unwrap();
    let slot = bench.start(&rkey, &op(KernelId::INDIRECT_READ, arguments.encoded())).unwrap();
    bench.run(Time::ZERO);
    let whole = bench.reply(slot);
    assert_eq!(whole.len(), 32);
    assert_eq!(&whole[24..], b"value\0\0\0");
    for (offset, byte) in whole.iter().enumerate() {
        let mut copy = [0xff];
        let copied = bench.executor.copy_reply(slot, &bench.memory, offset as u32, &mut copy);
        assert_eq!((copied, copy[0]), (Ok(()), *byte), "byte {offset}");
    }
}

#[test]
fn values_that_do_not_fit_their_places_are_refused_as_strands_would() {
    let mut bench = crate::bench::Bench::<Tight>::new(1);
    let (_memory, rkey) = bench.region(64);
    let (finish, reply) = bench.call(&rkey, TooLong::ID, &[], &[]);
    assert_eq!(finish.status, Status::Ok);
    let parts: Vec<_> = StrandHeader::parts(&reply, 16).map(Option::unwrap).collect();
    assert_eq!(parts, [(Status::ReplyTooLong, &[][..]); 2]);
}

crate::kernel_set! {
    /// A kernel that says of its lookups what cannot be.
    enum Tight { TooLong(TooLong) }
}

/// Looks 9 bytes up where there is room for 8; `true`: a strand.
struct TooLong(bool);

impl Kernel for TooLong {
    const ID: KernelId = KernelId(0x8000);

    fn begin(_: &Call<'_>) -> Result<Self, BadArguments> {
        Ok(TooLong(false))
    }

    fn step(&mut self, event: Event<'_>, _: &mut Reply<'_>) -> Step {
        match (self.0, event) {
            (false, Event::Start) => Step::Split(Strands { count: 2, stride: 16 }),
            (true, Event::Start) => Step::FetchToReply(Extent::named(0, 8, 9)),
            (true, Event::Replied { .. }) => Step::DONE,
            _ => Step::UNEXPECTED,
        }
    }

    fn strand(&self, _: u8) -> Option<Self> {
        Some(TooLong(true))
    }

    fn lookups(&self) -> Option<Lookups> {
        Some(Lookups { region: 0, form: PointerForm::Plain { region: 0 }, length: 9 })
    }

    fn lookup(&self, _: u8) -> u64 {
        8
    }
}

crate::bench::also_on_dma!(
    replies_may_be_copied_byte_by_byte_also_at_the_end_of_a_region,
    where_one_lookup_fails_strands_say_which,
    values_come_from_what_the_export_may_follow_now,
);
