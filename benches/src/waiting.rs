//! What each way of waiting costs: how long ops take, and how much of the processor is used for
//! nothing. Engines and sessions wait alike. The target's engine is a daemon as it is shipped, in a
//! process of its own; the initiator's is one as well where there are cores for it.

mod cpu;
mod world;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nic_engine::daemon::WaitMode;
use nic_figures::{
    Figure, Interleave, LatencyRecorder, PlacementProbe, Report, SliceResult, Subject, cores,
};

use self::cpu::Usage;
use self::world::{Cores, Engines, READ_BYTES, Way};
use super::Arguments;

pub(super) use self::world::{ENGINE_COMMAND, engine_process};

const SLICE: Duration = Duration::from_millis(250);
/// Ops of a slice before any is timed: whoever slept through the others' slices is awake.
const WARM_UP: usize = 100;
/// Between two ops that are to find everyone asleep who sleeps: longer than anyone spins.
const PAUSE: Duration = Duration::from_millis(2);
/// How long the idle are watched, and how long they have to come to rest before.
const IDLE: Duration = Duration::from_secs(3);
const COME_TO_REST: Duration = Duration::from_millis(500);
/// More than there are ops in a slice.
const LATENCIES: usize = 200_000;

const MODES: [(&str, WaitMode); 3] =
    [("spin", WaitMode::Spin), ("adaptive", WaitMode::Adaptive), ("block", WaitMode::Block)];

pub(super) fn run(arguments: &Arguments) -> Result<Report> {
    // Before this thread is pinned: what it starts afterwards would be pinned with it.
    let cores = Cores::deal()?;
    let mut probe = PlacementProbe::choose();
    let engines: Result<Vec<_>> =
        MODES.iter().map(|(_, mode)| Engines::start(*mode, &cores, 1)).collect();
    let crowded = Engines::start(WaitMode::Spin, &cores, 2)?;
    if let Some(core) = cores.application {
        cores::pin_current_thread(core)?;
    }
    let ways: Result<Vec<_>> = engines?.into_iter().map(Way::open).collect();
    let (ways, crowded) = (ways?, Way::open(crowded)?);
    let latencies = RefCell::new(LatencyRecorder::with_capacity(LATENCIES));

    let mut interleave = Interleave::new(&mut probe, SLICE);
    for (way, (name, _)) in ways.iter().zip(MODES) {
        let latencies = &latencies;
        interleave = interleave
            .add(Subject::new(format!("p50_us_{name}"), "us", move |time| {
                sliced(way, time, Duration::ZERO, &mut latencies.borrow_mut())
            }))
            .add(Subject::new(format!("p50_us_idle_{name}"), "us", move |time| {
                sliced(way, time, PAUSE, &mut latencies.borrow_mut())
            }));
    }
    let with_another = Subject::new("p50_us_spin_beside_another", "us", |time| {
        sliced(&crowded, time, Duration::ZERO, &mut latencies.borrow_mut())
    });
    let measured = interleave.add(with_another).run(arguments.rounds);

    let mut report = Report::new("nic-benches waiting")
        .setup("port", "udp")
        .setup("op", format!("READ of {READ_BYTES} B, one after the other"))
        .setup("initiator", if cores.initiator_engine.is_some() { "process" } else { "inline" })
        .setup("cores", cores.count)
        .setup("pause_ms", PAUSE.as_millis() as u64)
        .setup("idle_s", IDLE.as_secs())
        .setup("slice_ms", SLICE.as_millis() as u64)
        .setup("pids", ways.iter().flat_map(Way::pids).collect::<Vec<_>>())
        .measured(&measured)
        .results(measured.figures());
    let ratio = |name: &str, side: &str, base: &str| {
        Some(measured.ratio(&format!("p50_us_{side}"), &format!("p50_us_{base}"))?.named(name))
    };
    report = report.results(ratio("adaptive_over_spin", "adaptive", "spin"));
    report = report.results(ratio("block_over_spin", "block", "spin"));
    for (way, (name, _)) in ways.iter().zip(MODES) {
        let Idle { cpu_percent, wakeups_per_s, crowded } = idle(way)?;
        let cpu = Figure::of(format!("idle_cpu_percent_{name}"), "%", &[cpu_percent]);
        let wakeups = Figure::of(format!("idle_wakeups_per_s_{name}"), "1/s", &[wakeups_per_s]);
        let crowded = Figure::count(format!("crowded_{name}"), "times", crowded);
        report = report.results(cpu.into_iter().chain(wakeups)).result(crowded);
    }
    Ok(report)
}

/// One slice of a way, whose engines stand still otherwise.
fn sliced(
    way: &Way,
    time: Duration,
    pause: Duration,
    latencies: &mut LatencyRecorder,
) -> SliceResult {
    latencies.clear();
    let outcome = way.resume().and_then(|()| ops(way, time, pause, latencies));
    match outcome.and_then(|()| way.stop()) {
        Ok(()) => match latencies.p50() {
            Some(p50) => SliceResult::single(p50 as f64 / 1e3),
            None => SliceResult::failed("no op ended within the slice"),
        },
        Err(error) => SliceResult::failed(format!("{error:#}")),
    }
}

/// Ops one after the other, each after a pause in which the application waits for nothing.
fn ops(way: &Way, time: Duration, pause: Duration, latencies: &mut LatencyRecorder) -> Result<()> {
    for _ in 0..WARM_UP {
        way.read()?;
    }
    let begun = Instant::now();
    let mut before = begun;
    while before.duration_since(begun) < time {
        if !pause.is_zero() {
            way.wait(pause)?;
            before = Instant::now();
        }
        way.read()?;
        let now = Instant::now();
        latencies.record(now.duration_since(before).as_nanos() as u64);
        before = now;
    }
    Ok(())
}

/// What the idle use.
struct Idle {
    /// Of all threads of the engines and the application together; 100 is one core.
    cpu_percent: f64,
    /// Of the thread that is woken most often.
    wakeups_per_s: f64,
    /// See [`Way::crowded`].
    crowded: u64,
}

/// Watches engines and application while it waits and no op is out.
fn idle(way: &Way) -> Result<Idle> {
    way.resume()?;
    for _ in 0..WARM_UP {
        way.read()?;
    }
    way.wait(COME_TO_REST)?;
    let usage = || -> Result<Vec<Usage>> {
        way.pids().chain([std::process::id()]).map(Usage::of).collect()
    };
    let (before, begun) = (usage()?, Instant::now());
    way.wait(IDLE)?;
    let seconds = begun.elapsed().as_secs_f64();
    let after = usage()?;
    let spent = after.iter().zip(&before).map(|(after, before)| after.since(before));
    let (cpu_ns, wakeups) = spent
        .reduce(|one, other| (one.0 + other.0, one.1.max(other.1)))
        .context("there are engines")?;
    let crowded = way.crowded()?;
    way.stop()?;
    let cpu_percent = cpu_ns as f64 / 1e7 / seconds;
    Ok(Idle { cpu_percent, wakeups_per_s: wakeups as f64 / seconds, crowded })
}
