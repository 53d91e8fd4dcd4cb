//! The measurement: every way takes its turn in short slices, round after round.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nic_figures::chase::Words;
use nic_figures::{
    Chase, Interleave, LatencyRecorder, Measured, PlacementProbe, SliceResult, Subject,
};
use nic_shm::{Pages, RacyMem, SharedMemory};
use rustix::process::{Pid, Signal, kill_process};

use super::counts::{Snapshot, Tally};
use super::lookups::{Done, Kind, Lookups};
use super::plain::Plain;
use super::world::{Way, World};

/// Latencies kept of a slice: more than there are ops in one.
const LATENCIES: usize = 200_000;
/// Loads that are timed together: few, so that most walks are not interrupted.
const LOADS: usize = 1_000;
/// Lookups while the target application is stopped.
const STOPPED_LOOKUPS: u32 = 1000;

/// The counts of the ways of which counts are reported.
#[derive(Debug, Default)]
pub struct Tallies {
    /// Two READs.
    pub two_reads: RefCell<Tally>,
    /// Scan-and-Read, one at a time.
    pub scar: RefCell<Tally>,
    /// Scan-and-Read, 64 at a time.
    pub scar_64: RefCell<Tally>,
    /// Scan-and-Read, 256 at a time.
    pub scar_256: RefCell<Tally>,
    /// Calls to an owner that sleeps.
    pub call_threaded: RefCell<Tally>,
}

/// Everything that takes turns.
pub struct Contest<'c> {
    /// Who takes part.
    pub world: &'c World,
    /// What is asked.
    pub lookups: &'c Lookups<'c>,
    /// The port without engines.
    pub plain: Plain,
    /// Loads that depend on each other.
    pub chase: Chase<RegionWords>,
    /// What is counted meanwhile.
    pub tallies: &'c Tallies,
}

impl Contest<'_> {
    /// Runs all rounds. `begun` is told of each slice.
    pub fn run(
        mut self,
        probe: &mut PlacementProbe,
        slice: Duration,
        rounds: u32,
        begun: impl Fn(),
    ) -> Measured {
        let (world, lookups, tallies) = (self.world, self.lookups, self.tallies);
        let begun = &begun;
        let latencies = || LatencyRecorder::with_capacity(LATENCIES);
        let each = |name: &'static str, kind, tally| {
            let mut latencies = latencies();
            turn(name, "us", world, begun, move |time| {
                one_by_one(world, lookups, kind, time, &mut latencies, tally)
            })
        };
        let many = |name: &'static str, window, tally| {
            turn(name, "Mops", world, begun, move |time| {
                windowed(world, lookups, window, time, tally)
            })
        };
        let (plain, chase) = (&mut self.plain, &mut self.chase);
        let (mut of_plain, mut of_polled) = (latencies(), latencies());
        let mut contest = Interleave::new(probe, slice)
            .add(each("read", Kind::Read, None))
            .add(each("two_reads", Kind::TwoReads, Some(&tallies.two_reads)))
            .add(each("scar", Kind::Scar, Some(&tallies.scar)))
            .add(turn("port_rtt", "us", world, begun, move |time| {
                plain_round_trips(plain, time, &mut of_plain)
            }))
            .add(turn("dependent_load", "ns", world, begun, move |time| loads(chase, time)))
            .add(many("scar_64", 64, &tallies.scar_64))
            .add(many("scar_256", 256, &tallies.scar_256));
        if lookups.can_call() {
            contest = contest
                .add(each("call_threaded", Kind::Call, Some(&tallies.call_threaded)))
                .add(turn("call_polled", "us", world, begun, move |time| {
                    polled(world.polled_way(), lookups, time, &mut of_polled)
                }));
        }
        contest.run(rounds)
    }
}

/// One way's turns. Once a process is gone all that is left fails at once.
fn turn<'c>(
    name: &'static str,
    unit: &'static str,
    world: &'c World,
    begun: &'c impl Fn(),
    mut measure: impl FnMut(Duration) -> Result<SliceResult> + 'c,
) -> Subject<'c> {
    Subject::new(name, unit, move |time| {
        begun();
        let outcome = world.check().and_then(|()| measure(time));
        outcome.unwrap_or_else(|error| SliceResult::failed(format!("{error:#}")))
    })
}

/// How many ways take turns.
pub fn subjects(lookups: &Lookups<'_>) -> u32 {
    if lookups.can_call() { 9 } else { 7 }
}

fn one_by_one(
    world: &World,
    lookups: &Lookups<'_>,
    kind: Kind,
    time: Duration,
    latencies: &mut LatencyRecorder,
    tally: Option<&RefCell<Tally>>,
) -> Result<SliceResult> {
    let way = &world.main;
    let before = Snapshot::take(world, way)?;
    let done = lookups.one_by_one(way, kind, time, latencies);
    let after = Snapshot::take(world, way)?;
    if let Some(tally) = tally {
        tally.borrow_mut().add(done.gets, &before, &after);
    }
    latency(done, latencies)
}

fn latency(done: Done, latencies: &mut LatencyRecorder) -> Result<SliceResult> {
    let p50 = latencies.p50().context("no lookup ended within the slice")?;
    let rate = done.gets as f64 / done.seconds;
    Ok(SliceResult::new().value("p50", p50 as f64 / 1e3).value_in("rate", rate, "op/s"))
}

fn windowed(
    world: &World,
    lookups: &Lookups<'_>,
    window: usize,
    time: Duration,
    tally: &RefCell<Tally>,
) -> Result<SliceResult> {
    let way = &world.main;
    let before = Snapshot::take(world, way)?;
    let done = lookups.windowed(way, window, time)?;
    let after = Snapshot::take(world, way)?;
    tally.borrow_mut().add(done.gets, &before, &after);
    Ok(SliceResult::single(done.gets as f64 / done.seconds / 1e6))
}

fn polled(
    way: &Way,
    lookups: &Lookups<'_>,
    time: Duration,
    latencies: &mut LatencyRecorder,
) -> Result<SliceResult> {
    way.poll()?;
    let done = lookups.one_by_one(way, Kind::Call, time, latencies);
    way.finish_turns()?;
    way.rest()?;
    latency(done, latencies)
}

fn plain_round_trips(
    plain: &mut Plain,
    time: Duration,
    latencies: &mut LatencyRecorder,
) -> Result<SliceResult> {
    latencies.clear();
    plain.begin()?;
    let begin = Instant::now();
    let mut before = begin;
    loop {
        plain.round_trip()?;
        let now = Instant::now();
        latencies.record(now.duration_since(before).as_nanos() as u64);
        before = now;
        if now.duration_since(begin) >= time {
            break;
        }
    }
    plain.end()?;
    let p50 = latencies.p50().context("no round trip ended within the slice")?;
    Ok(SliceResult::new().value("p50", p50 as f64 / 1e3))
}

fn loads(chase: &mut Chase<RegionWords>, time: Duration) -> Result<SliceResult> {
    let begin = Instant::now();
    let mut each = Vec::new();
    while begin.elapsed() < time {
        each.push(chase.run(LOADS));
    }
    let p50 = nic_figures::median(&mut each).context("no walk ended within the slice")?;
    Ok(SliceResult::single(p50))
}

/// A region's memory as a chase sees it.
#[derive(Debug)]
pub struct RegionWords(RacyMem);

impl Words for RegionWords {
    #[inline]
    fn load(&self, index: usize) -> u64 {
        self.0.load64(index as u64 * 8).expect("indices are below the length")
    }

    #[inline]
    fn store(&self, index: usize, value: u64) {
        let word = self.0.word64(index as u64 * 8).expect("indices are below the length");
        word.store(value, std::sync::atomic::Ordering::Relaxed);
    }

    fn len(&self) -> usize {
        (self.0.len() / 8) as usize
    }
}

/// A chase through memory of the tables' size and pages, and the pages that it got.
pub fn chase(bytes: u64, seed: u64) -> Result<(Chase<RegionWords>, nic_shm::PageKind)> {
    let mut shared = SharedMemory::create("nic-demo-chase", bytes, Pages::TryHuge)?;
    shared.populate()?;
    let kind = shared.page_kind();
    Ok((Chase::prepare(RegionWords(shared.memory()), seed)?, kind))
}

/// Whether Scan-and-Read answers while no thread of the target application can run.
pub fn answers_while_stopped(world: &World, lookups: &Lookups<'_>) -> Result<bool> {
    let stopped = Stopped::new(world.main.owner.pid())?;
    let errors = lookups.errors();
    let mut latencies = LatencyRecorder::with_capacity(1);
    let mut gets = 0;
    while gets < u64::from(STOPPED_LOOKUPS) && lookups.errors() == errors {
        gets += lookups.one_by_one(&world.main, Kind::Scar, Duration::ZERO, &mut latencies).gets;
    }
    let was_stopped = stopped.is_stopped()?;
    Ok(was_stopped && lookups.errors() == errors)
}

/// A stopped process, until dropped.
struct Stopped {
    pid: u32,
}

impl Stopped {
    fn new(pid: u32) -> Result<Self> {
        let stopped = Stopped { pid };
        stopped.signal(Signal::STOP)?;
        let begin = Instant::now();
        while !stopped.is_stopped()? {
            if begin.elapsed() > Duration::from_secs(5) {
                bail!("process {pid} does not stop");
            }
            std::thread::yield_now();
        }
        Ok(stopped)
    }

    fn is_stopped(&self) -> Result<bool> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        Ok(stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.context("this is no process number")?, signal)?)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // A process that is gone needs no signal.
        let _ = self.signal(Signal::CONT);
    }
}
