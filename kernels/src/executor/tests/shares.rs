//! Long ops that stand aside: each account gets the same, whatever it has out.

use alloc::vec::Vec;

use nic_wire::{KernelId, Status, Time};

use crate::bench::{Bench, op};
use crate::kernel::{Event, Extent, Step};
use crate::{BadArguments, Budget, Call, Invocation, Kernel, Reply, SlotId};

/// Fetches so many times, so many bytes.
struct Fetches {
    left: u32,
    length: u32,
}

impl Kernel for Fetches {
    const ID: KernelId = KernelId(0x8000);

    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let (words, _) = call.arguments.as_chunks::<4>();
        Ok(Fetches { left: u32::from_le_bytes(words[0]), length: u32::from_le_bytes(words[1]) })
    }

    fn step(&mut self, _: Event<'_>, _: &mut Reply<'_>) -> Step {
        if self.left == 0 {
            return Step::DONE;
        }
        self.left -= 1;
        Step::Fetch(Extent::named(0, 0, self.length))
    }
}

crate::kernel_set! {
    /// What these tests run.
    enum Tested {
        Fetches(Fetches),
    }
}

const SLOTS: u32 = 256;

struct Scene {
    bench: Bench<Tested>,
    rkey: nic_wire::Rkey,
}

impl Scene {
    fn new() -> Self {
        let mut bench = Bench::new(SLOTS);
        let (_, rkey) = bench.region(4096);
        bench.executor.share_among(8);
        Scene { bench, rkey }
    }

    /// Begins an op of an account, which is its owner.
    fn start(&mut self, account: u64, fetches: u32, length: u32, deadline: Time) -> SlotId {
        let arguments = [fetches, length].map(u32::to_le_bytes).concat();
        let invocation = Invocation { owner: account, deadline, ..op(Fetches::ID, &arguments) };
        self.bench.start(&self.rkey, &invocation).unwrap()
    }

    /// A turn in which what stands aside may spend so much: the owners of ops that are over.
    fn turn(&mut self, cost: u64, now: Time) -> Vec<(u64, Status)> {
        let Bench { executor, memory, .. } = &mut self.bench;
        let mut over = Vec::new();
        executor.take_up(cost);
        let budget = Budget { rounds: 8, ..Budget::default() };
        let mut slots = Vec::new();
        executor.run(memory, now, budget, &mut |slot, owner, finish| {
            slots.push(slot);
            over.push((owner, finish.status));
        });
        slots.into_iter().for_each(|slot| executor.free(slot, memory));
        executor.set_aside(|owner| owner as u32);
        over
    }
}

/// What two accounts have fetched after many turns, the first with `count` ops of `length` bytes out, the
/// second with eight of a word.
fn fetched(count: usize, length: u32, cost: u64) -> [u64; 2] {
    let mut scene = Scene::new();
    let (mut fetched, lengths) = ([0; 2], [length, 8]);
    for _ in 0..count {
        scene.start(0, 500, length, Time::NEVER);
    }
    for _ in 0..8 {
        scene.start(1, 500, 8, Time::NEVER);
    }
    for _ in 0..20_000 {
        for (owner, status) in scene.turn(cost, Time::ZERO) {
            assert_eq!(status, Status::Ok);
            let owner = owner as usize;
            fetched[owner] += 500 * u64::from(1 + lengths[owner] / 64);
            scene.start(owner as u64, 500, lengths[owner], Time::NEVER);
        }
    }
    fetched
}

fn about_equal([first, second]: [u64; 2]) {
    assert!(first.min(second) > 10_000, "{first}, {second}");
    let ratio = first as f64 / second as f64;
    assert!((0.75..1.34).contains(&ratio), "{first} beside {second}");
}

#[test]
fn who_has_many_walks_out_gets_no_more_than_who_has_few() {
    about_equal(fetched(200, 8, 128));
    about_equal(fetched(9, 8, 128));
}

#[test]
fn an_account_pays_for_bytes_as_well() {
    about_equal(fetched(20, 2048, 128));
}

#[test]
fn a_lone_account_goes_on_as_if_there_were_no_shares() {
    let mut scene = Scene::new();
    for _ in 0..64 {
        scene.start(3, 1000, 8, Time::NEVER);
    }
    let turns = (0..).take_while(|_| {
        scene.turn(u64::MAX, Time::ZERO);
        !scene.bench.executor.is_idle()
    });
    assert!(turns.count() <= 1000 / 8);
}

#[test]
fn what_is_short_never_stands_aside() {
    let mut scene = Scene::new();
    for _ in 0..8 {
        scene.start(0, 1000, 8, Time::NEVER);
    }
    for _ in 0..10 {
        scene.turn(16, Time::ZERO);
    }
    assert_eq!((scene.bench.executor.aside(), scene.bench.executor.accounts_aside()), (8, 1));
    for _ in 0..100 {
        scene.start(1, 4, 8, Time::NEVER);
        assert_eq!(scene.turn(16, Time::ZERO), [(1, Status::Ok)]);
    }
    let ready = scene.bench.executor.long_accounts(|owner| owner as u32);
    assert_eq!((ready, scene.bench.executor.ready()), ([None, None], 8));
}

#[test]
fn ops_that_stand_aside_end_when_they_are_cancelled_late_or_revoked() {
    let mut scene = Scene::new();
    let later = Time::from_ns(1000);
    let cancelled = scene.start(0, 60_000, 8, Time::NEVER);
    scene.start(0, 60_000, 8, later);
    scene.start(0, 60_000, 8, Time::NEVER);
    while scene.bench.executor.aside() < 3 {
        scene.turn(16, Time::ZERO);
    }
    scene.bench.executor.cancel(cancelled, &mut scene.bench.memory);
    let mut over = Vec::new();
    for _ in 0..8 {
        over.extend(scene.turn(16, later));
    }
    assert_eq!(over, [(0, Status::Expired)]);
    assert_eq!(scene.bench.executor.room(), SLOTS as usize - 1);
    let (export, generation) = (scene.rkey.export.get(), scene.rkey.generation.get());
    scene.bench.memory.revoke(export, generation).unwrap();
    scene.bench.executor.release_revoked(&mut scene.bench.memory);
    for _ in 0..8 {
        over.extend(scene.turn(16, later));
    }
    assert_eq!(over[1..], [(0, Status::Revoked)]);
    assert!(scene.bench.executor.is_idle());
    assert_eq!(scene.bench.memory.holds(export, generation), 0);
}
