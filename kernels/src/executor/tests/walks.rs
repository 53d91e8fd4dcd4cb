//! Plain walks: where they end, and what ends them.

use alloc::vec::Vec;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Rkey, Status, Time};

use crate::bench::{ALL, Bench, also_on_dma, op};
use crate::kernel::{BadArguments, Call, Event, Extent, Kernel, Pointer, Step};
use crate::reply::Reply;
use crate::traverse::{Arguments, Flags, ReplyHeader, Traverse, Value};
use crate::walk::Walk;
use crate::{Budget, Finish, Invocation, Limits, PointerForm, Progress, SlotId};

/// How far apart elements lie, in bytes.
const STRIDE: u64 = 64;

fn address(number: u64) -> u64 {
    STRIDE * (number + 1)
}

/// An element {key, next, value pointer}, its key its number.
fn put(memory: &RacyMem, number: u64, next: u64) {
    for (place, word) in [number, next, 0].into_iter().enumerate() {
        memory.write(address(number) + 8 * place as u64, &word.to_le_bytes()).unwrap();
    }
}

/// A list of so many elements; the last leads to the first if it is a circle.
fn list(bench: &mut Bench<Walkers>, count: u64, is_circle: bool) -> Rkey {
    let memory = RacyMem::allocate(STRIDE * (count + 2));
    for number in 0..count {
        let is_last = number + 1 == count;
        put(
            &memory,
            number,
            if is_last { u64::from(is_circle) * STRIDE } else { address(number + 1) },
        );
    }
    let home = bench.register(&memory);
    bench.memory.export(bench.domain, home, ALL, &[], 0x5ec).unwrap()
}

fn search(key: u64) -> Arguments {
    Arguments { value: Value::None as u8, ..Arguments::list(address(0), key, 0) }
}

crate::kernel_set! {
    /// What these tests run.
    #[derive(Debug)]
    enum Walkers { Traverse(Traverse), Restless(Restless), Laden(Laden) }
}

/// Walks again wherever it has come to.
#[derive(Clone, Copy, Debug)]
struct Restless {
    at: Pointer,
}

impl Restless {
    const ID: KernelId = KernelId(0x8000);
}

impl Kernel for Restless {
    const ID: KernelId = Restless::ID;

    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        Ok(Restless { at: Pointer { region: call.home, address: address(0) } })
    }

    fn step(&mut self, event: Event<'_>, _: &mut Reply<'_>) -> Step {
        if let Event::Walked { at, .. } = event {
            self.at = at;
        }
        Step::Walk
    }

    fn walk(&self) -> Walk {
        Walk {
            from: self.at,
            form: PointerForm::Plain { region: self.at.region },
            key: 7,
            places: [0, 8],
            element_bytes: 24,
            hops_max: u32::MAX,
        }
    }
}

/// Walks, and then takes its payload.
#[derive(Clone, Copy, Debug)]
struct Laden {
    home: u8,
}

impl Laden {
    const ID: KernelId = KernelId(0x8001);
}

impl Kernel for Laden {
    const ID: KernelId = Laden::ID;

    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        Ok(Laden { home: call.home })
    }

    fn step(&mut self, event: Event<'_>, _: &mut Reply<'_>) -> Step {
        match event {
            Event::Start => Step::Walk,
            Event::Walked { .. } => Step::StorePayload(Extent::named(self.home, address(0), 8)),
            Event::Payload => Step::DONE,
            _ => Step::UNEXPECTED,
        }
    }

    fn walk(&self) -> Walk {
        let at = Pointer { region: self.home, address: address(0) };
        Restless { at }.walk()
    }
}

/// One run, and the ops that it reported.
fn run(bench: &mut Bench<Walkers>, now: Time, budget: Budget) -> (Progress, Vec<(u64, Finish)>) {
    let mut over = Vec::new();
    let progress = bench.executor.run(&mut bench.memory, now, budget, &mut |_, owner, finish| {
        over.push((owner, finish));
    });
    (progress, over)
}

fn begin(bench: &mut Bench<Walkers>, rkey: &Rkey, owner: u64, arguments: Arguments) -> SlotId {
    let arguments = arguments.encode();
    let invocation = Invocation { owner, ..op(KernelId::TRAVERSE, &arguments) };
    bench.start(rkey, &invocation).unwrap()
}

fn holds(bench: &Bench<Walkers>, rkey: &Rkey) -> u32 {
    bench.memory.holds(rkey.export.get(), rkey.generation.get())
}

#[test]
fn a_walk_goes_on_where_the_executors_bound_has_stopped_it() {
    for steps in [3, 4, 10, 99, 100, 101, 1000] {
        let limits = Limits { steps, ..Limits::default() };
        let mut bench = Bench::<Walkers>::with_limits(1, limits);
        let rkey = list(&mut bench, 200, false);
        let mut arguments = search(150).encode();
        let mut ops = 0;
        let header = loop {
            ops += 1;
            assert!(ops <= 200, "it goes on with {steps} steps");
            let (finish, reply) = bench.call(&rkey, KernelId::TRAVERSE, &arguments, &[]);
            match finish.status {
                Status::Continues => arguments.copy_from_slice(&reply),
                Status::Ok => break ReplyHeader::parse(&reply).unwrap().0,
                status => panic!("{status} with {steps} steps"),
            }
        };
        let found = header.found().unwrap();
        assert_eq!((found.element.address, header.hops.get()), (address(150), 151));
        assert!(u64::from(steps) * ops >= 151, "{ops} ops of {steps} steps");
    }
}

#[test]
fn bytes_bound_a_walk_as_well() {
    let limits = Limits { bytes: 24 * 10, ..Limits::default() };
    let mut bench = Bench::<Walkers>::with_limits(1, limits);
    let rkey = list(&mut bench, 50, false);
    let (finish, reply) = bench.call(&rkey, KernelId::TRAVERSE, &search(40).encode(), &[]);
    assert_eq!((finish.status, reply.len()), (Status::Continues, Arguments::BYTES));
}

#[test]
fn what_ends_a_walk_ends_it_in_any_round() {
    type End = fn(&mut Bench<Walkers>, &Rkey);
    let ends: [(Status, End); 2] = [
        (Status::Expired, |_, _| {}),
        (Status::Revoked, |bench, rkey| {
            bench.memory.revoke(rkey.export.get(), rkey.generation.get()).unwrap();
            bench.executor.release_revoked(&mut bench.memory);
        }),
    ];
    for (status, end) in ends {
        for rounds in 0..12 {
            let mut bench = Bench::<Walkers>::new(1);
            let rkey = list(&mut bench, 7, true);
            let arguments = search(1000).encode();
            let deadline = Time::from_ns(100);
            let invocation = Invocation { deadline, ..op(KernelId::TRAVERSE, &arguments) };
            bench.start(&rkey, &invocation).unwrap();
            for _ in 0..rounds {
                let budget = Budget { rounds: 1, ..Budget::default() };
                let (progress, over) = run(&mut bench, Time::ZERO, budget);
                assert_eq!((progress.ready, over.len()), (1, 0));
            }
            end(&mut bench, &rkey);
            let now = if status == Status::Expired { deadline } else { Time::ZERO };
            let over = bench.run(now);
            let expected = Finish { status, fate: Fate::NotExecuted, reply_length: 0 };
            assert_eq!(over[0].2, expected, "after {rounds} rounds");
            bench.executor.free(over[0].0, &mut bench.memory);
            assert!(bench.executor.is_idle());
            assert_eq!(holds(&bench, &rkey), 0);
        }
    }
}

#[test]
fn a_walk_that_is_cancelled_is_gone_and_the_others_walk_on() {
    for rounds in 0..12 {
        let mut bench = Bench::<Walkers>::new(4);
        let rkey = list(&mut bench, 30, false);
        let slots = [20, 1000, 21].map(|key| begin(&mut bench, &rkey, key, search(key)));
        for _ in 0..rounds {
            run(&mut bench, Time::ZERO, Budget { rounds: 1, ..Budget::default() });
        }
        assert_eq!(bench.executor.cancel(slots[1], &mut bench.memory), Fate::NotExecuted);
        let over = bench.run(Time::ZERO);
        let mut owners: Vec<u64> = over.iter().map(|(_, owner, _)| *owner).collect();
        owners.sort_unstable();
        assert_eq!(owners, [20, 21], "after {rounds} rounds");
        for (slot, ..) in over {
            bench.executor.free(slot, &mut bench.memory);
        }
        assert!(bench.executor.is_idle());
    }
}

#[test]
fn walks_take_turns_under_the_smallest_budget() {
    let mut bench = Bench::<Walkers>::new(8);
    let rkey = list(&mut bench, 40, false);
    for owner in 0..5 {
        begin(&mut bench, &rkey, owner, search(30));
    }
    let mut ends = Vec::new();
    for turn in 0..1000 {
        let (_, over) = run(&mut bench, Time::ZERO, Budget { rounds: 1, cost: 1 });
        ends.extend(over.into_iter().map(|(owner, finish)| (turn, owner, finish.status)));
        if ends.len() == 5 {
            break;
        }
    }
    assert_eq!(ends.len(), 5);
    assert!(ends.iter().all(|(_, _, status)| *status == Status::Ok));
    let (first, last) = (ends[0].0, ends[4].0);
    assert!(last - first <= 40, "they walk side by side: {ends:?}");
}

#[test]
fn a_walk_crosses_regions_and_stops_where_the_export_does() {
    for follows in [true, false] {
        let mut bench = Bench::<Walkers>::new(1);
        let memories = [0, 1].map(|_| RacyMem::allocate(STRIDE * 32));
        let numbers = [0, 1].map(|place: usize| bench.register(&memories[place]));
        for number in 0..20_u64 {
            let next = u64::from(numbers[(number + 1) as usize % 2]) << 56 | address(number + 1);
            put(&memories[number as usize % 2], number, if number == 19 { 0 } else { next });
        }
        let follow: &[u8] = if follows { &numbers } else { &[] };
        let rkey = bench.memory.export(bench.domain, numbers[0], ALL, follow, 1).unwrap();
        let arguments = search(17).with(Flags::TAGGED).encode();
        let (finish, reply) = bench.call(&rkey, KernelId::TRAVERSE, &arguments, &[]);
        if !follows {
            assert_eq!(finish.status, Status::BadPointer);
            continue;
        }
        let (header, _) = ReplyHeader::parse(&reply).unwrap();
        let element = header.found().unwrap().element;
        assert_eq!((element.region, element.address), (numbers[1], address(17)));
        assert_eq!(header.hops.get(), 18);
    }
}

#[test]
fn elements_that_leave_the_region_are_bad_pointers() {
    let mut bench = Bench::<Walkers>::new(1);
    let memory = RacyMem::allocate(4096);
    let home = bench.register(&memory);
    let rkey = bench.memory.export(bench.domain, home, ALL, &[], 1).unwrap();
    for (beyond, status) in [
        (4096 - 24, Status::Ok),
        // Its two words are there, but not the whole of it.
        (4096 - 16, Status::BadPointer),
        (4096, Status::BadPointer),
        (u64::MAX - 7, Status::BadPointer),
        (u64::MAX >> 8, Status::BadPointer),
    ] {
        put(&memory, 0, beyond);
        let (finish, _) = bench.call(&rkey, KernelId::TRAVERSE, &search(999).encode(), &[]);
        assert_eq!(finish.status, status, "at {beyond:#x}");
        assert_eq!(holds(&bench, &rkey), 0);
    }
    let outside = Arguments { start: 4096.into(), ..search(1) };
    let (finish, _) = bench.call(&rkey, KernelId::TRAVERSE, &outside.encode(), &[]);
    assert_eq!(finish.status, Status::OutOfBounds, "the initiator named it");
}

#[test]
fn a_kernel_that_never_stops_walking_is_stopped() {
    for has_end in [true, false] {
        let mut bench =
            Bench::<Walkers>::with_limits(1, Limits { steps: 500, ..Limits::default() });
        let rkey = list(&mut bench, 5, !has_end);
        let (finish, _) = bench.call(&rkey, Restless::ID, &[], &[]);
        assert_eq!(finish.status, Status::TooManySteps);
        let deadline = Time::from_ns(9);
        bench.start(&rkey, &Invocation { deadline, ..op(Restless::ID, &[]) }).unwrap();
        run(&mut bench, Time::ZERO, Budget { rounds: 3, ..Budget::default() });
        let over = bench.run(deadline);
        assert_eq!(over[0].2.status, Status::Expired);
    }
}

/// A walk of an op that brings payload ends where it begins, and the payload finds its place.
#[test]
fn payload_that_comes_amid_a_walk_is_kept() {
    for early in [true, false] {
        let mut bench = Bench::<Walkers>::new(1);
        let rkey = list(&mut bench, 5, false);
        let invocation = Invocation { payload_length: 8, ..op(Laden::ID, &[]) };
        let slot = bench.start(&rkey, &invocation).unwrap();
        if !early {
            run(&mut bench, Time::ZERO, Budget { rounds: 1, ..Budget::default() });
        }
        bench.executor.payload(slot, 0, &[9; 8], &mut bench.memory).unwrap();
        let over = bench.run(Time::ZERO);
        assert_eq!(over[0].2.status, Status::Ok, "early: {early}");
        bench.executor.free(slot, &mut bench.memory);
        assert_eq!(holds(&bench, &rkey), 0);
    }
}

/// Zeros stand where pages were: no walk may take them for an element, nor lose its place because
/// one beside it met them.
#[test]
#[cfg(not(any(miri, loom)))]
fn missing_pages_end_the_walks_that_meet_them_and_no_others() {
    const COUNT: u64 = 40;
    for (rounds, key) in (0..12).flat_map(|rounds| [(rounds, 0), (rounds, 1000)]) {
        let mut bench = Bench::<Walkers>::new(64);
        let (file, cut) = crate::bench::file_to_cut(&std::format!("walks-{rounds}-{key}"), 8192);
        let memories = [RacyMem::allocate(8192), file];
        let rkeys = [0, 1].map(|place| {
            for number in 0..COUNT {
                let next = if number + 1 == COUNT { 0 } else { address(number + 1) };
                put(&memories[place], number, next);
            }
            let home = bench.register(&memories[place]);
            bench.memory.export(bench.domain, home, ALL, &[], 7).unwrap()
        });
        for owner in 0..32 {
            // Behind the first element, whose key is 0.
            let start = address(1 + owner / 2 % 4).into();
            let key = if owner % 2 == 0 { COUNT - 1 } else { key };
            begin(
                &mut bench,
                &rkeys[owner as usize % 2],
                owner,
                Arguments { start, ..search(key) },
            );
        }
        run(&mut bench, Time::ZERO, Budget { rounds, ..Budget::default() });
        cut();
        let over = bench.run(Time::ZERO);
        assert_eq!(over.len(), 32);
        for (slot, owner, finish) in over {
            if owner % 2 == 1 {
                assert_eq!(finish.status, Status::MemoryLost, "{owner} after {rounds} rounds");
            } else {
                let mut reply = [0; ReplyHeader::BYTES];
                bench.executor.copy_reply(slot, &bench.memory, 0, &mut reply).unwrap();
                let (header, _) = ReplyHeader::parse(&reply).unwrap();
                assert_eq!(header.found().unwrap().element.address, address(COUNT - 1));
                let hops = COUNT - (1 + owner / 2 % 4);
                assert_eq!(u64::from(header.hops.get()), hops, "{owner} after {rounds} rounds");
            }
            bench.executor.free(slot, &mut bench.memory);
        }
    }
}

also_on_dma!(
    payload_that_comes_amid_a_walk_is_kept,
    a_walk_goes_on_where_the_executors_bound_has_stopped_it,
    a_walk_that_is_cancelled_is_gone_and_the_others_walk_on,
    a_walk_crosses_regions_and_stops_where_the_export_does,
    elements_that_leave_the_region_are_bad_pointers,
    a_kernel_that_never_stops_walking_is_stopped,
);
