//! Kills, stops and restarts at random.

use nic_tests::OnFailure;
use rustix::process::Signal;

use super::machine;
use super::residue::{
    assert_nothing_is_left_of, files_of, free_huge_pages, processes_of, shared_files, until,
};
use super::scene::{Scene, Who};

/// The seed of the environment, or this one.
pub fn seed(default: u64) -> u64 {
    let given = std::env::var("NIC_SEED").ok();
    given.map_or(default, |seed| seed.parse().expect("NIC_SEED is a number"))
}

fn under_faults(seed: u64, kills: u64) {
    let _machine = machine();
    let _shown = OnFailure(format!("NIC_SEED={seed}"));
    let (before, huge_pages) = (shared_files(), free_huge_pages());
    let mut scene = Scene::new(seed);
    let mut orphans = Vec::new();
    while scene.tally.kills() < kills {
        scene.some_load();
        let who = scene.anyone();
        match (scene.random.below(10), who) {
            (0..2, who) => scene.stop(who),
            (2, Who::Engine(_)) => scene.kill(who, Signal::TERM),
            (2, Who::Load(load)) => orphans.push(scene.orphan(load)),
            (_, who) => scene.kill(who, Signal::KILL),
        }
    }
    scene.settle();
    let (folder, wire, tally) = scene.end_all();
    drop(orphans);
    println!("seed {seed}\n{tally}");
    let left = processes_of(folder.path());
    assert!(left.is_empty(), "processes are left: {left:?}");
    // The configurations are the test's own. Who is killed leaves what the next start takes over.
    let expected =
        ["left.toml", "right.sock", "right.sock.counters", "right.sock.lock", "right.toml"];
    assert_eq!(files_of(folder.path()), expected);
    assert_eq!(shared_files(), before);
    assert_nothing_is_left_of(wire);
    // Others may have huge pages meanwhile, and give them back.
    until("huge pages are free again", || free_huge_pages() >= huge_pages);
}

#[test]
fn survivors_of_a_few_dozen_kills_go_on() {
    under_faults(seed(1), 30);
}

#[test]
#[ignore = "needs about a minute of a machine that does little else: --include-ignored"]
fn survivors_of_three_hundred_kills_go_on() {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = clock.map_or(1, |since| since.as_secs());
    under_faults(seed(now), 300);
}
