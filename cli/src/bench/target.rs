//! `nic bench target`: the side whose memory is worked on, beside a running engine.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nic_host::{Endpoint, Nic};
use rustix::stdio;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::exposed::{Exposed, REGION_BYTES, Shape};
use super::load::{self, Waiting};

/// Options of `nic bench target`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the local engine listens [default: as for `nic serve`].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Length of the memory for read, write, cas and faa (64MiB, 4GiB).
    #[arg(long, value_name = "BYTES", value_parser = load::bytes, default_value_t = REGION_BYTES)]
    region_bytes: u64,
    /// Keys in the table for scar [default: 100000, fewer if values are long].
    #[arg(long, value_name = "COUNT")]
    entries: Option<u64>,
    /// Length of the values in the table.
    #[arg(long, value_name = "BYTES", value_parser = load::bytes, default_value_t = 64)]
    value_bytes: u64,
    /// What it does while it waits for calls; the other ops do not need it.
    #[arg(long, value_enum, default_value = "block")]
    wait: Waiting,
    /// Print the tickets and what is offered as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Offers memory until it is told to end.
///
/// # Errors
/// Sizes that cannot be, no engine, or one that is gone.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { region_bytes, entries, value_bytes, .. } = *arguments;
    let shape = Shape::new(region_bytes, entries, value_bytes)?;
    let signals = signals().context("signals cannot be waited for")?;
    let nic = Nic::connect(arguments.socket.clone().map_or(Endpoint::Default, Endpoint::Path))?;
    let exposed = Exposed::make(&nic, &shape, arguments.wait.into(), || Ok(()))?;
    let tickets = exposed.tickets().to_string();
    let line = match arguments.json {
        false => tickets,
        true => json!({
            "program": "bench target",
            "ticket": tickets,
            "pid": std::process::id(),
            "port": nic.port(),
            "region_bytes": shape.region_bytes,
            "entries": shape.entries,
            "value_bytes": shape.value_bytes,
            "pages": exposed.pages(),
        })
        .to_string(),
    };
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("the ticket cannot be printed")?;
    eprintln!(
        "Asleep. On the other host: nic bench run --ticket TICKETS --op read (see nic bench run \
         --help). Whoever has the line may use the memory. Ctrl-C or Ctrl-D ends it."
    );
    let ends = [signals.as_fd(), stdio::stdin()];
    exposed.serve(arguments.wait.into(), &ends, || is_over(&signals))?;
    Ok(ExitCode::SUCCESS)
}

/// A descriptor that has something to read once the process is asked to end.
fn signals() -> std::io::Result<OwnedFd> {
    let (reader, writer) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    Ok(reader.into())
}

/// Whether a signal has come, or standard input has ended; what else comes there is passed over.
fn is_over(signals: &OwnedFd) -> bool {
    let now = Some(std::time::Duration::ZERO);
    let has = |descriptor| nic_shm::wait_any(&[descriptor], now).is_ok_and(|any| !any.is_empty());
    let mut buffer = [0; 256];
    has(signals.as_fd())
        || (has(stdio::stdin())
            && !matches!(rustix::io::read(stdio::stdin(), &mut buffer), Ok(1..)))
}
