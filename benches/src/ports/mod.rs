//! Each kind of port beside its own plainest calls: how much engines add to a round trip, and how
//! many Scan-and-Reads a second two of them do; where the target's time goes; and, over vhost, what
//! is left of what memory can do with a table that no cache holds.

mod far;
mod lookups;
mod network;
mod raw;
mod stages;
mod two_loads;
mod wire;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nic_figures::{
    Chase, Figure, Interleave, LatencyRecorder, Measured, PlacementProbe, Report, SliceResult,
    Subject, cores,
};
use nic_host::Nic;

use self::lookups::{Lookups, Table};
use self::stages::Staged;
use self::wire::KINDS;
use super::Arguments;

pub(super) use self::far::{COMMAND, Far, Started, process};
pub(super) use self::raw::Raw;
pub(super) use self::wire::Kind;

const SLICE: Duration = Duration::from_millis(200);
/// Round trips of a slice before any is timed.
const WARM_UP: usize = 100;
/// More than there are round trips in a slice.
const LATENCIES: usize = 2_000_000;
const WINDOW: usize = 256;
/// Index and entries together, in bytes.
const TABLE_BYTES: u64 = 16 << 20;
/// The same of a table that no cache holds.
const DRAM_TABLE_BYTES: u64 = 3 << 30;

/// One kind of port, ready to be measured.
struct Way {
    kind: Kind,
    raw: RefCell<Raw>,
    lookups: Lookups,
    dram: Option<Dram>,
    staged: Staged,
    _table: Table,
    _owner: Nic,
    near: Nic,
    far: Far,
}

/// A table that no cache holds.
struct Dram {
    lookups: Lookups,
    table: Table,
}

impl Drop for Way {
    fn drop(&mut self) {
        // What is dropped next asks the far side for its end, and so may devices.
        let _ = self.far.resume();
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Report> {
    // Before there is a second thread: the network is this process's own from here on.
    network::own()?;
    let count = cores::available()?.len();
    let pair = cores::pick_pair().context("both sides want a core of their own")?;
    let mut probe = PlacementProbe::choose();
    let mut report = Report::new("nic-benches ports");
    let mut ways = Vec::new();
    for kind in KINDS {
        // Whoever comes first starts the environment that DPDK has once per process.
        match open(kind, &pair, !arguments.small) {
            Ok(way) => ways.push(way),
            Err(error) => {
                eprintln!("without {}: {error:#}", kind.name());
                report = report.setup(format!("without_{}", kind.name()), format!("{error:#}"))
            }
        }
    }
    cores::pin_current_thread(pair.initiator)?;
    let latencies = RefCell::new(LatencyRecorder::with_capacity(LATENCIES));
    let chase = RefCell::new(chase(arguments.seed)?);
    let mut interleave = Interleave::new(&mut probe, SLICE);
    for way in &ways {
        let (latencies, name) = (&latencies, way.kind.name());
        interleave = interleave
            .add(Subject::new(format!("raw_p50_us_{name}"), "us", move |time| {
                raw_slice(way, time, &mut latencies.borrow_mut())
            }))
            .add(Subject::new(format!("scar_p50_us_{name}"), "us", move |time| {
                slice(way, |way| one_by_one(way, time, &mut latencies.borrow_mut()))
            }))
            .add(Subject::new(format!("scar_mops_{name}"), "M/s", move |time| {
                slice(way, |way| way.lookups.windowed(WINDOW, time))
            }))
            .add(Subject::new(format!("stage_us_{name}"), "us", move |time| {
                let failed = |error| SliceResult::failed(format!("{error:#}"));
                way.staged.slice(time).unwrap_or_else(failed)
            }));
        if let Some(dram) = &way.dram {
            interleave = interleave
                .add(Subject::new(format!("scar_mops_dram_{name}"), "M/s", move |time| {
                    slice(way, |_| dram.lookups.windowed(WINDOW, time))
                }))
                .add(Subject::new(format!("two_loads_mops_dram_{name}"), "M/s", move |time| {
                    let Table { index, entries, .. } = &dram.table;
                    SliceResult::single(two_loads::rate(&index.memory(), &entries.memory(), time))
                }));
        }
    }
    let loads = Subject::new("dependent_load_ns", "ns", |_| {
        SliceResult::single(chase.borrow_mut().run(20_000))
    });
    let measured = interleave.add(loads).run(arguments.rounds);
    report = report
        .setup("window", WINDOW as u64)
        .setup("table_bytes", TABLE_BYTES)
        .setup("dram_table_bytes", if arguments.small { 0 } else { DRAM_TABLE_BYTES })
        .setup("value_bytes", lookups::VALUE_BYTES as u64)
        .setup("raw_bytes", serde_json::json!(raw::BYTES))
        .setup("raw", "udp: sendto and recvfrom; others: the port's own calls without an engine")
        .setup("cores", count)
        .setup("slice_ms", SLICE.as_millis() as u64)
        .setup("seed", arguments.seed)
        .setup("pids", ways.iter().map(|way| way.far.pid()).collect::<Vec<_>>())
        .setup("pids_by_stage", ways.iter().map(|way| way.staged.far.pid()).collect::<Vec<_>>());
    for way in &ways {
        report = report.setup(format!("port_{}", way.kind.name()), way.near.port());
    }
    report = report.measured(&measured).results(measured.figures());
    for way in &ways {
        let name = way.kind.name();
        report = report.results(over_port(&measured, name));
        let (dram, limit) =
            (format!("scar_mops_dram_{name}"), format!("two_loads_mops_dram_{name}"));
        let share = measured.ratio(&dram, &limit);
        report = report
            .results(share.map(|share| share.named(format!("scar_rate_dram_over_limit_{name}"))))
            .result(Figure::count(format!("errors_{name}"), "lookups", way.errors()));
    }
    Ok(report)
}

fn open(kind: Kind, cores: &cores::CorePair, may_be_large: bool) -> Result<Way> {
    let Started { far, near, beside: owner } = Far::daemon(kind, cores.target)?;
    // Both tables before the first flow: a peer that is silent while it fills 3 GiB would be lost.
    let table = Table::new(&owner, TABLE_BYTES)?;
    let dram = match kind {
        Kind::Vhost if may_be_large => Some(Table::new(&owner, DRAM_TABLE_BYTES)?),
        _ => None,
    };
    let open = |table: Table| anyhow::Ok(Dram { lookups: table.open(&near)?, table });
    let (lookups, dram) = (table.open(&near)?, dram.map(open).transpose()?);
    far.stop()?;
    let staged = Staged::open(kind, cores.target)?;
    let raw = RefCell::new(Raw::open(kind, cores.target)?);
    Ok(Way { kind, raw, lookups, dram, staged, _table: table, _owner: owner, near, far })
}

impl Way {
    /// Lookups that brought a wrong value, or none.
    fn errors(&self) -> u64 {
        let dram = self.dram.as_ref().map_or(0, |dram| dram.lookups.errors());
        self.lookups.errors() + self.staged.errors() + dram
    }
}

fn chase(seed: u64) -> Result<Chase<nic_benches::RegionWords>> {
    let (words, _) = nic_benches::memory(TABLE_BYTES)?;
    Ok(Chase::prepare(nic_benches::RegionWords(words), seed)?)
}

/// What engines add: less the port's own round trip and two loads, one after the other.
fn over_port(measured: &Measured, name: &str) -> Option<Figure> {
    let over =
        measured.difference(&format!("scar_p50_us_{name}"), &format!("raw_p50_us_{name}"))?;
    let loads_us = 2.0 * measured.figure("dependent_load_ns")?.value / 1e3;
    let mut figure = over.named(format!("scar_over_port_us_{name}"));
    figure.value -= loads_us;
    figure.min -= loads_us;
    figure.max -= loads_us;
    Some(figure)
}

fn raw_slice(way: &Way, time: Duration, latencies: &mut LatencyRecorder) -> SliceResult {
    let mut raw = way.raw.borrow_mut();
    latencies.clear();
    let outcome = raw.begin().and_then(|()| {
        for _ in 0..WARM_UP {
            raw.round_trip()?;
        }
        timed(time, latencies, || raw.round_trip())?;
        raw.end()
    });
    p50(outcome, latencies)
}

fn one_by_one(way: &Way, time: Duration, latencies: &mut LatencyRecorder) -> Result<f64> {
    latencies.clear();
    for _ in 0..WARM_UP {
        way.lookups.one()?;
    }
    timed(time, latencies, || way.lookups.one())?;
    Ok(latencies.p50().context("no op ended within the slice")? as f64 / 1e3)
}

pub(super) fn timed(
    time: Duration,
    latencies: &mut LatencyRecorder,
    mut once: impl FnMut() -> Result<()>,
) -> Result<()> {
    let begun = Instant::now();
    let mut before = begun;
    while before.duration_since(begun) < time {
        once()?;
        let now = Instant::now();
        latencies.record(now.duration_since(before).as_nanos() as u64);
        before = now;
    }
    Ok(())
}

/// A slice with the far engine at work, which stands still otherwise.
fn slice(way: &Way, measure: impl FnOnce(&Way) -> Result<f64>) -> SliceResult {
    let outcome = way.far.resume().and_then(|()| measure(way));
    match outcome.and_then(|value| way.far.stop().map(|()| value)) {
        Ok(value) => SliceResult::single(value),
        Err(error) => SliceResult::failed(format!("{error:#}")),
    }
}

pub(super) fn p50(outcome: Result<()>, latencies: &mut LatencyRecorder) -> SliceResult {
    match (outcome, latencies.p50()) {
        (Ok(()), Some(p50)) => SliceResult::single(p50 as f64 / 1e3),
        (Ok(()), None) => SliceResult::failed("no round trip ended within the slice"),
        (Err(error), _) => SliceResult::failed(format!("{error:#}")),
    }
}
