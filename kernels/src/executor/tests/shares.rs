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

/// Fetches so many times, and then takes its payload.
struct Places {
    left: u32,
}

impl Kernel for Places {
    const ID: KernelId = KernelId(0x8001);

    fn begin(_: &Call<'_>) -> Result<Self, BadArguments> {
        Ok(Places { left: 100 })
    }

    fn step(&mut self, event: Event<'_>, _: &mut Reply<'_>) -> Step {
        if event == Event::Payload {
            return Step::DONE;
        }
        self.left -= 1;
        match self.left {
            0 => Step::StorePayload(Extent::named(0, 64, 16)),
            _ => Step::Fetch(Extent::named(0, 0, 8)),
        }
    }
}

/// Fetches so many times, and must come to its end.
struct Stubborn {
    left: u32,
}

impl Kernel for Stubborn {
    const ID: KernelId = KernelId(0x8002);

    fn begin(_: &Call<'_>) -> Result<Self, BadArguments> {
        Ok(Stubborn { left: 100 })
    }

    fn step(&mut self, _: Event<'_>, _: &mut Reply<'_>) -> Step {
        self.left -= 1;
        if self.left == 0 { Step::DONE } else { Step::Fetch(Extent::named(0, 0, 8)) }
    }

    fn must_end(&self) -> bool {
        self.left > 0
    }
}

crate::kernel_set! {
    /// What these tests run.
    enum Tested {
        Fetches(Fetches),
        Places(Places),
        Stubborn(Stubborn),
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

/// Sets all long ops aside that have taken a few rounds.
fn set_aside(scene: &mut Scene) {
    for _ in 0..8 {
        scene.turn(1 << 20, Time::ZERO);
        if scene.bench.executor.aside() > 0 {
            return;
        }
    }
    panic!("nothing stands aside");
}

#[test]
fn who_stands_aside_is_ended_by_cancel_revocation_and_deadline_whatever_its_account_owes() {
    let deadline = Time::from_ns(100);
    for end in 0..3 {
        let mut scene = Scene::new();
        let slots: Vec<_> = (0..200).map(|_| scene.start(1, 5000, 4096, deadline)).collect();
        set_aside(&mut scene);
        // Debts, as deep as they may be; and short ops of others, so that debts are not forgotten.
        for _ in 0..3 {
            scene.turn(1, Time::ZERO);
        }
        let aside = scene.bench.executor.aside();
        assert!(aside > 150, "{aside} of 200");
        let Bench { executor, memory, .. } = &mut scene.bench;
        let (export, generation) = (scene.rkey.export.get(), scene.rkey.generation.get());
        match end {
            0 => {
                for slot in slots {
                    executor.cancel(slot, memory);
                }
                assert_eq!(executor.aside(), 0);
                assert!(executor.room() >= aside, "places are free at once");
            }
            1 => {
                memory.revoke(export, generation).unwrap();
                executor.release_revoked(memory);
                assert!(memory.holds(export, generation) as usize <= 200 - aside);
                let over = scene.turn(1, Time::ZERO);
                assert!(over.len() >= aside);
                assert!(over.iter().all(|(_, status)| *status == Status::Revoked));
            }
            _ => {
                let over = scene.turn(1, deadline);
                assert!(over.len() >= aside);
                assert!(over.iter().all(|(_, status)| *status == Status::Expired));
            }
        }
        for _ in 0..3 {
            scene.turn(1 << 20, deadline);
        }
        let executor = &scene.bench.executor;
        assert!((executor.is_idle(), executor.aside()) == (true, 0));
        assert_eq!(scene.bench.memory.holds(export, generation), 0);
    }
}

/// Whose payload has yet to come is looked for when it does, wherever its kernel is by then.
#[test]
fn who_waits_for_payload_or_must_end_does_not_stand_aside() {
    for rounds in 0..20 {
        let mut scene = Scene::new();
        for _ in 0..20 {
            scene.start(1, 5000, 8, Time::NEVER);
        }
        let placing = Invocation { owner: 2, payload_length: 16, ..op(Places::ID, &[]) };
        let placing = scene.bench.start(&scene.rkey, &placing).unwrap();
        let stubborn = Invocation { owner: 3, ..op(Stubborn::ID, &[]) };
        scene.bench.start(&scene.rkey, &stubborn).unwrap();
        let mut over = Vec::new();
        for _ in 0..rounds {
            over.extend(scene.turn(1, Time::ZERO));
        }
        for offset in [8, 0] {
            let Bench { executor, memory, .. } = &mut scene.bench;
            executor.payload(placing, offset, &[7; 8], memory).unwrap();
            executor.take_up(1 << 20);
        }
        for _ in 0..20 {
            over.extend(scene.turn(1, Time::ZERO));
        }
        over.sort_unstable_by_key(|(owner, _)| *owner);
        assert_eq!(over, [(2, Status::Ok), (3, Status::Ok)], "after {rounds} turns");
        assert!(scene.bench.executor.aside() > 0, "the others wait");
    }
}
