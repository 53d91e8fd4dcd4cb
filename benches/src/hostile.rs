//! What neighbours and peers that are greedy, mad or hostile, and those that are killed, do to an
//! application that is neither: how much slower it gets, and what it loses.
//!
//! All are processes of their own around one engine, the daemon as it is shipped. With two cores
//! the engine has one and everybody else shares the other, so that the polite application's ops are
//! measured as the engine serves them: those that are not polite sleep between their bursts.

mod greedy;
mod link;
mod misuser;
mod owner;
mod passer;
mod polite;
mod relay;
mod roles;
mod scene;
mod stranger;
mod vandal;

use std::time::Duration;

use anyhow::Result;
use nic_figures::{Figure, Interleave, Measured, PlacementProbe, Report, SliceResult, Subject};
use nic_figures::{cores, median};

use self::roles::Way;
use self::scene::{Beside, Scene, Verdict};
use super::Arguments;

pub(super) use self::roles::process;

/// The hidden command of the scene's processes, followed by their options.
pub(super) const COMMAND: &str = "__hostile";

const SLICE: Duration = Duration::from_millis(250);
/// Rates are medians of so many slices, one after the other: a second together.
const RATE_SLICES: u32 = 10;
const RATE_SLICE: Duration = Duration::from_millis(100);
/// From the end of a storm until the rate is measured.
const REST: Duration = Duration::from_secs(1);

/// Ops of the misuser for each round, in storms and after them: a million in nine.
const KERNEL_OPS: u64 = 120_000;

/// What the greedy session asks for: what each READ brings, in bytes.
const LARGE: u64 = 64 << 10;
const SMALL: u64 = 64;

/// Ops one after the other: name, way, who is there besides.
const LATENCIES: [(&str, Way, Beside); 9] = [
    ("session_p50_us_alone", Way::Session, Beside::Nobody),
    ("session_p50_us_beside_greedy_large", Way::Session, Beside::Greedy(LARGE)),
    ("session_p50_us_beside_greedy_small", Way::Session, Beside::Greedy(SMALL)),
    ("session_p50_us_beside_vandal", Way::Session, Beside::Vandal),
    ("peer_p50_us_alone", Way::Peer, Beside::Nobody),
    ("peer_p50_us_beside_greedy_large", Way::Peer, Beside::Greedy(LARGE)),
    ("peer_p50_us_beside_greedy_small", Way::Peer, Beside::Greedy(SMALL)),
    ("peer_p50_us_beside_greedy_peer_large", Way::Peer, Beside::GreedyPeer(LARGE)),
    ("peer_p50_us_beside_greedy_peer_small", Way::Peer, Beside::GreedyPeer(SMALL)),
];

pub(super) fn run(arguments: &Arguments) -> Result<Report> {
    // Before anything is pinned.
    let count = cores::available()?.len();
    let mut probe = PlacementProbe::choose();
    let scene = Scene::set(arguments.seed)?;
    let latencies = latencies(&scene, &mut probe, arguments.rounds);
    let rates = rates(&scene, &mut probe, arguments.rounds);
    let mut report = Report::new("nic-benches hostile")
        .setup("port", "udp")
        .setup("cores", count)
        .setup("engine", "one process, initiator and target of all; adaptive; its core its own")
        .setup("others", "share a core; greedy, vandal and the like sleep between bursts")
        .setup(
            "polite",
            "READs of 64 B one by one, 20 us between; rates: 16 out on each of two ways",
        )
        .setup("greedy", format!("READs of {LARGE} or {SMALL} B, {} out", greedy::DEPTH))
        .setup("slice_ms", SLICE.as_millis() as u64)
        .setup("seed", arguments.seed)
        .setup("pids", scene.pids())
        .measured(&latencies)
        .measured(&rates);
    scene.misuse(KERNEL_OPS * u64::from(arguments.rounds))?;
    let verdict = scene.end()?;
    report = counted(report, &verdict);
    report = compared(report, &latencies, &rates);
    Ok(report.results(latencies.figures()).results(rates.figures()))
}

fn latencies(scene: &Scene, probe: &mut PlacementProbe, rounds: u32) -> Measured {
    let mut interleave = Interleave::new(probe, SLICE);
    for (name, way, beside) in LATENCIES {
        interleave =
            interleave.add(Subject::new(name, "us", move |time| latency(scene, way, beside, time)));
    }
    interleave.run(rounds)
}

fn latency(scene: &Scene, way: Way, beside: Beside, time: Duration) -> SliceResult {
    match scene.latency(way, beside, time) {
        Ok((p50, said)) => match said.as_f64() {
            // The greedy one tells how much of the time it was none.
            Some(dry) => SliceResult::single(p50).value_in("dry", dry * 100.0, "%"),
            None => SliceResult::single(p50),
        },
        Err(error) => SliceResult::failed(format!("{error:#}")),
    }
}

/// Rates before, in and after storms.
fn rates(scene: &Scene, probe: &mut PlacementProbe, rounds: u32) -> Measured {
    let rate = || -> Result<f64> {
        let mut rates = scene.rates(RATE_SLICES, RATE_SLICE)?;
        Ok(median(&mut rates).unwrap_or_default())
    };
    Interleave::new(probe, SLICE)
        .add(Subject::new("rate_before", "op/s", |_| slice(rate())))
        .add(Subject::new("rate_in_storm", "op/s", |_| slice(scene.storm(RATE_SLICE))))
        .add(Subject::new("rate_1s_after", "op/s", |_| {
            // The storm's end was the last thing that happened, but for a look at the placement.
            let rested = scene.rates(RATE_SLICES, REST / RATE_SLICES);
            slice(rested.and_then(|_| rate()))
        }))
        .run(rounds)
}

fn slice(outcome: Result<f64>) -> SliceResult {
    match outcome {
        Ok(value) => SliceResult::single(value),
        Err(error) => SliceResult::failed(format!("{error:#}")),
    }
}

/// What no noise can touch.
fn counted(report: Report, verdict: &Verdict) -> Report {
    let counts = [
        ("crashes", "processes", verdict.crashes),
        ("outside_accesses", "times", verdict.outside_accesses),
        ("ops_lost", "ops", verdict.ops_lost),
        ("ops", "ops", verdict.ops),
        ("ops_failed", "ops", verdict.failed_as.values().sum()),
        ("watched_bytes", "bytes", verdict.watched_bytes),
        ("kills", "processes", verdict.kills),
        ("refused_starts", "processes", verdict.refused_starts),
        ("kernel_ops", "ops", verdict.misuser.completed),
        ("kernel_ops_untyped", "ops", verdict.misuser.untyped),
        ("vandal_sessions", "sessions", verdict.vandal.lives),
        ("vandal_words", "words", verdict.vandal.words),
        ("vandal_messages", "messages", verdict.vandal.messages),
        ("hostile_packets", "packets", verdict.stranger.packets),
        ("relayed_packets", "packets", verdict.stranger.relayed),
        ("changed_packets", "packets", verdict.stranger.changed),
        ("rkey_guesses", "ops", verdict.stranger.guesses),
        ("trespasses", "ops", verdict.stranger.trespasses),
    ];
    report
        .setup("ops_failed_as", serde_json::json!(verdict.failed_as))
        .setup("ops_lost_of", serde_json::json!(verdict.ops_lost_of))
        .setup("polite_gap_ms", verdict.polite_gap_ms)
        .setup("kernel_ops_ended_as", serde_json::json!(verdict.misuser.ends))
        .results(counts.map(|(name, unit, count)| Figure::count(name, unit, count)))
}

/// What is held against limits.
fn compared(report: Report, latencies: &Measured, rates: &Measured) -> Report {
    let over_alone = |way: &str, beside: &str| {
        let (name, base) = (format!("{way}_p50_us_beside_{beside}"), format!("{way}_p50_us_alone"));
        let ratio = latencies.ratio(&name, &base)?;
        Some(ratio.named(format!("{way}_p50_beside_{beside}_over_alone")))
    };
    let greedy = ["greedy_large", "greedy_small"].map(|beside| over_alone("session", beside));
    let worst = greedy.iter().flatten().max_by(|one, other| one.value.total_cmp(&other.value));
    let vandal = over_alone("session", "vandal");
    let rate = rates.ratio("rate_1s_after", "rate_before");
    report
        .results(rate.map(|ratio| ratio.named("rate_1s_after_over_before")))
        .results(worst.cloned().map(|ratio| ratio.named("polite_p50_beside_greedy_over_alone")))
        .results(vandal.map(|ratio| ratio.named("polite_p50_beside_vandal_over_alone")))
        .results(greedy.into_iter().flatten())
        .results(
            ["greedy_large", "greedy_small", "greedy_peer_large", "greedy_peer_small"]
                .into_iter()
                .filter_map(|beside| over_alone("peer", beside)),
        )
}
