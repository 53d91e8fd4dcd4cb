//! The whole stack under a virtual clock: processes of engines, links that lose, double, reorder,
//! delay and change packets, partitions, pauses, deaths of engines and applications, revocations;
//! and an oracle of all memory and of each op's fate.
//!
//! A seed decides everything. A failure prints its seed, and
//! `NIC_SEED=... cargo test --release -p nic-tests --test simulation` repeats it. `NIC_SEEDS=n`
//! tries so many more.

#![allow(clippy::unwrap_used, clippy::panic)]

mod closing;
mod deeds;
mod faults;
mod initiator;
mod oracle;
mod owner;
mod plan;
mod scene;
mod tally;

use std::io::Write;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use nic_tests::OnFailure;

use self::scene::Scene;
use self::tally::Tally;

/// Ops of each seed.
const OPS: u64 = 4_000;
/// Seeds of a run: ten million ops where the compiler has optimised, fewer where it has not.
const SEEDS: u64 = if cfg!(debug_assertions) { 96 } else { 2_520 };

/// What a run of thousands of seeds cannot be without.
const WANTED: &[(&str, &str)] = &[
    ("faults", "deaths of a process of engines"),
    ("faults", "deaths of an initiator"),
    ("faults", "deaths of an owner of regions"),
    ("faults", "one-way partitions"),
    ("faults", "packets led to the wrong engine"),
    ("faults", "partitions"),
    ("faults", "pauses of a process"),
    ("faults", "ports that stand still"),
    ("faults", "regions given up"),
    ("faults", "revocations"),
    ("packets spoilt", "changed"),
    ("packets spoilt", "doubled"),
    ("packets spoilt", "lost"),
    ("packets spoilt", "reordered"),
    ("ops", "Expired, NotExecuted"),
    ("ops", "Expired, Unknown"),
    ("ops", "Revoked, NotExecuted"),
    ("ops", "no completion, the application is gone"),
    ("oracle", "pairs of atomics ordered by a fence"),
    ("oracle", "writes ruled out by a fence"),
    ("oracle", "lookups that hit"),
    ("engines", "requests that waited for a fence"),
    ("engines start with", "packet numbers near their wrap"),
];

fn run(seed: u64) -> Tally {
    let shown = OnFailure(format!(
        "seed {seed}; to repeat it: NIC_SEED={seed} cargo test --release -p nic-tests --test \
         simulation"
    ));
    let mut scene = Scene::new(seed, OPS);
    scene.tally.add("seeds", format!("{:?}", scene.plan.kind), 1);
    scene.run();
    scene.close();
    drop(shown);
    scene.tally
}

/// A number from the environment.
fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, no number")))
}

/// Runs seeds on all cores, each in one thread.
fn run_all(seeds: &[u64]) -> Tally {
    let next = AtomicU64::new(0);
    let sum = Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let take = || seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize);
                while let Some(seed) = take() {
                    match catch_unwind(|| run(*seed)) {
                        Ok(tally) => sum.lock().unwrap().merge(tally),
                        Err(panic) => {
                            // The others need not go on.
                            next.store(seeds.len() as u64, Ordering::Relaxed);
                            resume_unwind(panic);
                        }
                    }
                }
            });
        }
    });
    sum.into_inner().unwrap()
}

/// Past the test harness, which keeps what passing tests print to itself.
fn show(tally: &Tally) {
    let _ = write!(std::io::stderr().lock(), "\n{tally}");
}

#[test]
fn every_op_ends_as_its_fate_says() {
    if let Some(seed) = from_environment("NIC_SEED") {
        return show(&run(seed));
    }
    let more = from_environment("NIC_SEEDS").unwrap_or(0);
    let seeds: Vec<u64> = (0..SEEDS).chain(1_000_000..1_000_000 + more).collect();
    let tally = run_all(&seeds);
    show(&tally);
    assert!(tally.total("submitted") >= SEEDS * OPS);
    let wanted = if seeds.len() < 1000 { &[] } else { WANTED };
    for (group, what) in wanted {
        assert!(tally.of(group, what) > 0, "{group}: {what} did not happen");
    }
}

#[test]
fn a_seed_repeats_itself() {
    for seed in [3, 5, 8] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
