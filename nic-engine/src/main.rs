//! The `nic-engine` daemon: `nic-engine [--config FILE] [--socket PATH] [--insecure-network]`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use nic_engine::Builtin;
use nic_engine::daemon::{self, Arguments, Exit};

/// A poll-mode software NIC that runs operations next to memory.
#[derive(Debug, Parser)]
#[command(version, after_help = Exit::table())]
struct Command {
    #[command(flatten)]
    arguments: Arguments,
}

fn main() -> ExitCode {
    match daemon::serve::<Builtin>(&Command::parse().arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nic-engine: {error}");
            error.exit().into()
        }
    }
}
