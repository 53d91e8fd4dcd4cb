//! StRoM's evaluation in its three modes (one op whose kernel does the walk; a READ per hop; a call
//! whose serving application does the walk), Clover's chains by staleness, and how well the executor
//! overlaps cache misses.

mod application;
mod bars;
mod beside;
mod client;
mod contents;
mod indirect;
mod interleaved;
mod plots;
mod procedures;
mod server;
mod store;
mod streams;
mod subjects;
mod way;

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context, Result};
use nic_figures::{Figure, Interleave, LatencyRecorder, PlacementProbe, Report, cores};

use self::client::Client;
use self::interleaved::Interleaved;
use self::way::Way;
use super::Arguments;
use super::ports::Kind;

pub(super) use self::server::serve;

const SLICE: Duration = Duration::from_millis(50);
/// More than there are ops in a slice.
const LATENCIES: usize = 1_000_000;
/// What the executor walks through when it is alone: 4 GiB, or little.
const LOG2: [u32; 2] = [32, 24];

pub(super) fn run(arguments: &Arguments) -> Result<Report> {
    let pair = cores::pick_pair().context("both sides want a core of their own")?;
    let mut probe = PlacementProbe::choose();
    let open = |kind| Way::open(kind, pair.target, arguments.small);
    let ways = [open(Kind::Udp)?, open(Kind::Ring)?];
    let ports = ways.each_ref().map(|way| way.name);
    cores::pin_current_thread(pair.initiator)?;
    let alone = Interleaved::new(LOG2[usize::from(arguments.small)], arguments.seed)?;
    let recorder = RefCell::new(LatencyRecorder::with_capacity(LATENCIES));
    let mut interleave = Interleave::new(&mut probe, SLICE);
    for way in &ways {
        interleave = subjects::add(interleave, way, &recorder);
    }
    let measured = alone.add(interleave).run(arguments.rounds);
    for way in &ways {
        way.far.resume()?;
        way.streams.check(&way.client)?;
        way.far.stop()?;
    }
    if let Some(folder) = &arguments.plot {
        plots::draw(folder, &measured, &ports)?;
    }
    let mut report = Report::new("nic-benches kernels")
        .setup("value_bytes", subjects::VALUE_BYTES)
        .setup("lookups_per_op", indirect::LOOKUPS as u64)
        .setup("long_walk_hops", beside::HOPS)
        .setup("executor_table_bytes", alone.bytes())
        .setup("executor_table_pages", alone.pages())
        .setup("store_bytes", ways[0].client.store.bytes())
        .setup("chains_bytes", ways[0].client.store.chains_bytes())
        .setup("slice_ms", SLICE.as_millis() as u64)
        .setup("seed", arguments.seed)
        .setup("pids", ways.iter().map(|way| way.far.pid()).collect::<Vec<_>>());
    for way in &ways {
        report = report
            .setup(way.named("port"), way.near.port())
            .setup(way.named("store_pages"), way.pages.as_str());
    }
    let sum = |of: fn(&Client) -> u64| ways.iter().map(|way| of(&way.client)).sum();
    let (ops, errors) = (sum(Client::judged), sum(Client::errors));
    Ok(report
        .measured(&measured)
        .results(measured.figures())
        .results(bars::figures(&measured, &ports))
        .result(Figure::count("ops", "ops", ops))
        .result(Figure::count("errors", "ops", errors))
        .result(Figure::count("failed_slices", "slices", measured.slices().failed.into())))
}
