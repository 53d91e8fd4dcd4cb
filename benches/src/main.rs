//! Figures of single parts: `cargo run --release -p nic-benches -- NAME [--json]`.
#![forbid(unsafe_code)]

mod executor;
mod hostile;
mod instructions;
mod kernels;
mod ports;
mod rpc;
mod waiting;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use nic_figures::Report;

/// Makes the figures of one part, each beside its limit.
#[derive(Debug, Parser)]
#[command(name = "nic-benches")]
struct Arguments {
    /// Which figures: see the list that an unknown name gets.
    name: String,
    /// Print one JSON object. Ends with status 75 if the machine gave too few good slices.
    #[arg(long)]
    json: bool,
    /// Rounds in which every side has a slice.
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Keys in tables.
    #[arg(long, default_value_t = 4_000_000)]
    keys: u64,
    /// Leave out what wants gigabytes of memory.
    #[arg(long)]
    small: bool,
    /// Draw pictures into this folder, for figures that have some (kernels).
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// What chance is made of.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Makes one program's figures.
type Program = fn(&Arguments) -> Result<Report>;

/// The whole life of a process that a bench has started, by its options.
type Life = fn(&str) -> Result<()>;

/// All there are: name, what it measures, how.
const PROGRAMS: [(&str, &str, Program); 7] = [
    (
        "executor",
        "Scan-and-Reads of one core by the number in flight, beside raw interleaved loads",
        executor::run,
    ),
    (
        "hostile",
        "a polite application beside greedy, mad, hostile and dying ones, and what it loses",
        hostile::run,
    ),
    (
        "instructions",
        "instructions of the target engine for each op, counted by valgrind",
        instructions::run,
    ),
    (
        "kernels",
        "walks near memory beside a READ per hop and beside calls; how the executor overlaps misses",
        kernels::run,
    ),
    (
        "ports",
        "each kind of port beside its own plainest calls: what engines add, and the rate of two",
        ports::run,
    ),
    (
        "rpc",
        "typed calls and long messages between two applications, beside their port and kernel TCP",
        rpc::run,
    ),
    (
        "waiting",
        "READs by how engines and sessions wait, and what they use when idle",
        waiting::run,
    ),
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let life = match words.next().as_deref() {
        Some(waiting::ENGINE_COMMAND) => Some(waiting::engine_process as Life),
        Some(hostile::COMMAND) => Some(hostile::process as Life),
        Some(ports::COMMAND) => Some(ports::process as Life),
        Some(rpc::COMMAND) => Some(rpc::process as Life),
        Some(instructions::COMMAND) => Some(instructions::process as Life),
        _ => None,
    };
    if let Some(life) = life {
        return child_process(life, &words.next().unwrap_or_default());
    }
    let arguments = Arguments::parse();
    let Some((_, _, program)) = PROGRAMS.iter().find(|(name, _, _)| *name == arguments.name) else {
        eprintln!("found no figures named {:?}; there are:", arguments.name);
        PROGRAMS.iter().for_each(|(name, what, _)| eprintln!("  {name:12} {what}"));
        return ExitCode::from(2);
    };
    let report = match program(&arguments) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("{}: {error:#}", arguments.name);
            return ExitCode::FAILURE;
        }
    };
    println!("{}", if arguments.json { report.to_json() } else { report.to_text() });
    ExitCode::from(report.exit_code(arguments.json))
}

/// This program again, as a process that a bench has started.
fn child_process(life: Life, options: &str) -> ExitCode {
    match life(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("process of a bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
