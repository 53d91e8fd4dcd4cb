//! `nic config`: what an engine process can be told.

use std::process::ExitCode;

use anyhow::Result;
use nic_engine::daemon::Config;

/// Options of `nic config`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print every option with its meaning and its default, as a configuration file.
    #[arg(long, required = true)]
    print: bool,
}

/// Prints the configuration.
///
/// # Errors
/// None that can be met.
pub fn run(_: &Arguments) -> Result<ExitCode> {
    print!("{}", Config::described()?);
    Ok(ExitCode::SUCCESS)
}
