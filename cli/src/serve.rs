//! `nic serve`: an engine process in the foreground.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use nic_engine::daemon::{Config, run as run_daemon};
use tracing_subscriber::EnvFilter;

/// Options of `nic serve`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Configuration file (TOML); without one, one engine on loopback UDP.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where applications connect [default: $NIC_SOCKET, $XDG_RUNTIME_DIR/nic.sock or
    /// /run/nic-engine/nic.sock].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Allow addresses other than loopback although peers are not authenticated.
    #[arg(long)]
    insecure_network: bool,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// An unusable configuration, an address or socket in use.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let filter = EnvFilter::try_from_env("NIC_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .init();
    let mut config = match &arguments.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    config.socket = arguments.socket.clone().or(config.socket);
    config.insecure_network |= arguments.insecure_network;
    check_folder(&config.socket_path())?;
    run_daemon(&config)?;
    Ok(ExitCode::SUCCESS)
}

/// A folder that is missing is told with the command that makes it.
fn check_folder(socket: &Path) -> Result<()> {
    let folder = socket.parent().filter(|folder| *folder != Path::new(""));
    let Some(folder) = folder else { return Ok(()) };
    let shown = folder.display();
    ensure!(
        folder.is_dir(),
        "the control socket {} is to lie in {shown}, which is no folder; make it with \
         `sudo install -d -o \"$USER\" {shown}`, or give another path with --socket",
        socket.display()
    );
    Ok(())
}
