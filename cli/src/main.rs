//! The `nic` command: see what the project does, run an engine, look at it, mend the machine.
//!
//! | command | what |
//! |---|---|
//! | `nic demo` | looks keys up in another process's table, four ways, and shows what each costs |
//! | `nic serve` | runs an engine process, as the `nic-engine` binary does |
//! | `nic status` | what a running engine is doing |
//! | `nic doctor` | what this machine lacks, and the command that mends it |
#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("nic needs Linux 5.14 or newer");

mod demo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A software NIC that runs programs next to memory.
#[derive(Debug, Parser)]
#[command(name = "nic", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look keys up in another process's memory, in one round trip, and compare with other ways.
    Demo(demo::Arguments),
    /// A process of the demo: an engine. Started by it alone.
    #[command(hide = true, name = demo::ENGINE_COMMAND)]
    DemoEngine,
    /// A process of the demo: the application that owns the table. Started by it alone.
    #[command(hide = true, name = demo::TARGET_COMMAND)]
    DemoTarget,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::DemoEngine => demo::engine_process().map(|()| ExitCode::SUCCESS),
        Command::DemoTarget => demo::target_process().map(|()| ExitCode::SUCCESS),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("nic: {error:#}");
            ExitCode::FAILURE
        }
    }
}
