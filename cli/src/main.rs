//! The `nic` command: see what the project does, run an engine, look at it, mend the machine.
//!
//! | command | what |
//! |---|---|
//! | `nic demo` | looks keys up in another process's table, four ways, and shows what each costs |
//! | `nic bench` | drives any op, as many as one likes, between two hosts or on this one |
//! | `nic serve` | runs an engine process, as the `nic-engine` binary does |
//! | `nic status` | what a running engine is doing |
//! | `nic ops` | flows, sessions and old ops of a running engine: what is stuck |
//! | `nic top` | the same and rates, kept up to date |
//! | `nic metrics` | what is counted, also after the engine's death |
//! | `nic config` | what an engine process can be told, with the defaults |
//! | `nic doctor` | what this machine lacks, and the command that mends it |
#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("nic needs Linux 5.14 or newer");

mod bench;
mod config;
mod demo;
mod doctor;
mod engine_counters;
mod exit;
mod metrics;
mod ops;
mod pair;
mod plain_table;
mod random;
mod serve;
mod status;
mod top;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nic_engine::daemon::Exit;

/// A software NIC that runs programs next to memory.
#[derive(Debug, Parser)]
#[command(name = "nic", version, arg_required_else_help = true, after_help = Exit::table())]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look keys up in another process's memory, in one round trip, and compare with other ways.
    Demo(demo::Arguments),
    /// Drive any op at a target's memory, and print rates, a latency histogram and counts.
    Bench(Box<bench::Arguments>),
    /// Run an engine process.
    #[command(after_help = Exit::table())]
    Serve(nic_engine::daemon::Arguments),
    /// Explain what an engine process can be told.
    Config(config::Arguments),
    /// Show what a running engine process is doing.
    Status(status::Arguments),
    /// Show the flows, sessions and old ops of a running engine process: what is stuck.
    Ops(ops::Arguments),
    /// Watch an engine process: what it does, how fast, and with whom.
    Top(top::Arguments),
    /// Print the counters of an engine process, also after its death, or what is counted.
    Metrics(metrics::Arguments),
    /// Look at this machine: what it has, what it lacks, and the command that mends it.
    Doctor(doctor::Arguments),
    /// A process of the demo or of the bench: an engine. Started by them alone.
    #[command(hide = true, name = pair::ENGINE_COMMAND)]
    Engine,
    /// A process of the bench: the application that owns the memory. Started by it alone.
    #[command(hide = true, name = bench::TARGET_COMMAND)]
    BenchTarget,
    /// A process of the demo: the application that owns the table. Started by it alone.
    #[command(hide = true, name = demo::TARGET_COMMAND)]
    DemoTarget,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Serve(arguments) => serve::run(arguments),
        Command::Config(arguments) => config::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Ops(arguments) => ops::run(arguments),
        Command::Top(arguments) => top::run(arguments),
        Command::Metrics(arguments) => metrics::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Engine => pair::engine_process().map(|()| ExitCode::SUCCESS),
        Command::BenchTarget => bench::target_process().map(|()| ExitCode::SUCCESS),
        Command::DemoTarget => demo::target_process().map(|()| ExitCode::SUCCESS),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("nic: {}", message(&error));
            exit::of(&error).into()
        }
    }
}

/// An error and its causes, without those that the text before them has told already.
fn message(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let cause = anyhow::anyhow!("no such file");
        let error = cause.context("cannot read x: no such file").context("no configuration");
        assert_eq!(message(&error), "no configuration: cannot read x: no such file");
    }
}
