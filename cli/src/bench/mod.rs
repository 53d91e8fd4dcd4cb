//! `nic bench`: any op, as many as one likes, against the memory of another host or process.
//!
//! | command | what |
//! |---|---|
//! | `nic bench` | starts two engines and a target itself, by which nothing is left, and drives ops |
//! | `nic bench target` | offers memory beside a running engine, prints a ticket, sleeps |
//! | `nic bench run` | drives ops at a target's memory through a running engine |

mod alone;
mod crew;
mod exposed;
mod fault;
mod histogram;
mod lane;
mod layout;
mod load;
mod ops;
mod pace;
mod pattern;
mod report;
mod run;
mod site;
mod structures;
mod tally;
mod target;
mod target_process;
mod worker;

pub use fault::Fault;
pub use target_process::run as target_process;

use std::process::ExitCode;

use anyhow::Result;

/// The hidden command of the bench's target application.
pub const TARGET_COMMAND: &str = "__bench-target";

/// Options of `nic bench`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = ops::table(),
    override_usage = "nic bench [OPTIONS]                        on this machine, nothing needs to run\n       \
                      nic bench target [OPTIONS]                 on the host with the memory\n       \
                      nic bench run --ticket TICKET [OPTIONS]    on the host that issues ops",
)]
pub struct Arguments {
    #[command(subcommand)]
    side: Option<Side>,
    #[command(flatten)]
    alone: alone::Arguments,
}

/// One side of a running pair.
#[derive(Debug, clap::Subcommand)]
enum Side {
    /// Offer memory beside the local engine, print a ticket for it, and sleep until end of file on
    /// standard input (Ctrl-D), SIGINT or SIGTERM.
    Target(target::Arguments),
    /// Drive ops at a target's memory through the local engine.
    #[command(after_help = ops::table())]
    Run(run::Arguments),
}

/// Runs the bench, or a side of it.
///
/// # Errors
/// A load that cannot be, no engine, or a system on which it cannot run.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.side {
        None => alone::run(&arguments.alone),
        Some(Side::Target(arguments)) => target::run(arguments),
        Some(Side::Run(arguments)) => run::run(arguments),
    }
}
