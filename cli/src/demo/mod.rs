//! `nic demo`: keys looked up in a hash table that lives in another process's memory, through two
//! engines, while no thread of that process runs; and the same by other ways, for comparison.

mod counts;
mod input;
mod lookups;
mod measure;
mod message;
mod pairs;
mod pipeline;
mod plain;
mod plan;
mod report;
mod target_process;
mod world;

pub use input::BadInput;
pub use target_process::run as target_process;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use nic_figures::{LatencyRecorder, PlacementProbe};

use self::counts::{Per, Snapshot, Tally};
use self::lookups::{Kind, Lookups};
use self::measure::{Contest, Tallies};
use self::pairs::Pairs;
use self::plain::{Lengths, Plain};
use self::plan::Plan;
use self::report::{Outcome, Setup};
use self::world::World;
use crate::pair::{Drive, PairPort};

/// The hidden command of the application that owns the table.
pub const TARGET_COMMAND: &str = "__demo-target";

/// How long one slice of a way lasts.
const SLICE: Duration = Duration::from_millis(100);
/// Lookups out at once while every pair is read once.
const VERIFY_WINDOW: usize = 64;
/// Lookups from which the length of packets is learnt.
const SAMPLE: Duration = Duration::from_millis(20);

/// Options of `nic demo`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How packets travel between the two engines.
    #[arg(long, value_parser = PairPort::parser(), default_value = "udp")]
    port: PairPort,
    /// Load these pairs: each line a key (1 to 512 bytes), a TAB, a value (up to 1 MiB).
    #[arg(long, value_name = "FILE", conflicts_with = "entries")]
    input: Option<PathBuf>,
    /// Make up so many pairs (16 B keys, 64 B values).
    #[arg(long, default_value_t = 1_000_000, value_parser = entries_range())]
    entries: u32,
    /// Makes the pairs and the order in which they are read; equal seeds repeat.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How often each way takes its turn of 100 ms [default: 12, with --json 24].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: Option<u32>,
    /// Who drives the initiator's engine [default: inline with fewer than four cores].
    #[arg(long, value_enum)]
    initiator: Option<Drive>,
    /// Who drives the target's engine for CALL polled; for tests.
    #[arg(long, value_enum, hide = true)]
    polled: Option<Drive>,
    /// Print one JSON object instead of the table; ends 75 if the machine was too restless.
    #[arg(long)]
    json: bool,
    /// Draw the latencies as an SVG picture.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

fn entries_range() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1 << 26)
}

/// Runs the demo.
///
/// # Errors
/// Bad input, or a machine on which it cannot run at all.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let plan = Plan::new(arguments.port, arguments.initiator, arguments.polled)?;
    // Before this thread is pinned: the probe's threads go elsewhere.
    let mut probe = match (plan.cores.initiator, plan.cores.target) {
        (Some(initiator), Some(target)) => PlacementProbe::new((initiator, target))?,
        _ => PlacementProbe::unavailable("there is one core"),
    };
    let pairs = match &arguments.input {
        Some(path) => input::read(path)?,
        None => Pairs::generate(arguments.entries, arguments.seed),
    };
    let bar = progress("loading", pairs.len() as u64 * plan.tables());
    let world = World::start(&plan, &pairs, |loaded| bar.set_position(loaded))?;
    bar.finish_and_clear();
    let geometry = pairs.geometry();
    let pairs = pairs.shuffled(arguments.seed);

    let all = Lookups::new(&pairs, geometry, arguments.seed);
    let bar = progress("reading every pair", pairs.len() as u64);
    let overflowed = all.verify_all(&world.main, VERIFY_WINDOW, |read| bar.set_position(read))?;
    bar.finish_and_clear();
    stop_if_wrong(&all)?;
    let verified = pairs.len() as u64;
    let overflow_calls = all.overflow_calls();
    let pairs = pairs.without(&overflowed);
    ensure!(pairs.len() > 0, "every key is in an overflowed bucket; give more pairs");

    let lookups = Lookups::new(&pairs, geometry, arguments.seed);
    let lengths = packet_lengths(&world, &lookups)?;
    let one = plan.cores.is_one();
    let plain = Plain::start(plan.port, lengths, plan.cores.target, one)?;
    let (chase, chase_pages) = measure::chase(world.main.ready.bytes.iter().sum(), arguments.seed)?;
    let answers_while_stopped = measure::answers_while_stopped(&world, &lookups)?;

    let rounds = arguments.rounds.unwrap_or(if arguments.json { 24 } else { 12 });
    let bar = progress("measuring", u64::from(rounds * measure::subjects(&lookups)));
    let tallies = Tallies::default();
    let contest = Contest { world: &world, lookups: &lookups, plain, chase, tallies: &tallies };
    let measured = contest.run(&mut probe, SLICE, rounds, || bar.inc(1));
    bar.finish_and_clear();
    world.check()?;

    let setup = Setup {
        plan: &plan,
        world: &world,
        sizes: pairs.sizes(),
        pairs: verified,
        seed: arguments.seed,
        rounds,
        slice: SLICE,
        lengths,
        chase_pages,
        input: arguments.input.as_deref(),
    };
    let outcome = Outcome {
        measured,
        tallies,
        verified,
        answers_while_stopped,
        errors: lookups.errors(),
        first_error: lookups.first_error(),
        overflow_calls: overflow_calls + lookups.overflow_calls(),
    };
    report::tell(&setup, &outcome, arguments.json, arguments.plot.as_deref())
}

/// A bar on standard error, if that is a terminal.
fn progress(what: &'static str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent}%");
    let bar = ProgressBar::new(length).with_message(what);
    // The template is a constant; if it were wrong the bar would have its usual look.
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

/// A wrong answer before anything is measured ends the demo.
fn stop_if_wrong(lookups: &Lookups<'_>) -> Result<()> {
    let errors = lookups.errors();
    match lookups.first_error() {
        Some(first) => anyhow::bail!("{errors} lookups went wrong; the first: {first}"),
        None => Ok(()),
    }
}

/// How long the packets of a Scan-and-Read are, there and back.
fn packet_lengths(world: &World, lookups: &Lookups<'_>) -> Result<Lengths> {
    let way = &world.main;
    let before = Snapshot::take(world, way)?;
    let mut latencies = LatencyRecorder::with_capacity(1);
    let done = lookups.one_by_one(way, Kind::Scar, SAMPLE, &mut latencies);
    let after = Snapshot::take(world, way)?;
    let mut tally = Tally::default();
    tally.add(done.gets, &before, &after);
    let bytes = |per| -> Result<usize> {
        let figure = tally.figure("packet", "B", per).context("no packet was seen")?;
        Ok(figure.value.round() as usize)
    };
    Ok(Lengths { request: bytes(Per::RequestBytes)?, reply: bytes(Per::ReplyBytes)? })
}
