//! The `nic-engine` daemon: `nic-engine [--config FILE] [--socket PATH] [--insecure-network]`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use nic_engine::daemon::{Config, run};

/// A poll-mode software NIC that runs operations next to memory.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (TOML).
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where applications connect.
    #[arg(long)]
    socket: Option<PathBuf>,
    /// Allow addresses other than loopback although peers are not authenticated.
    #[arg(long)]
    insecure_network: bool,
}

fn main() -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("NIC_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let mut config = match &arguments.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    config.socket = arguments.socket.or(config.socket);
    config.insecure_network |= arguments.insecure_network;
    run(&config)?;
    Ok(())
}
