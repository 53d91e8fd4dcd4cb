//! `nic serve`: an engine process in the foreground.

use std::process::ExitCode;

use anyhow::Result;
use nic_engine::Builtin;
use nic_engine::daemon::{self, Arguments};

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// An unusable configuration, an address or socket in use.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    daemon::serve::<Builtin>(arguments)?;
    Ok(ExitCode::SUCCESS)
}
