//! `nic status`: what a running engine process is doing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use nic_figures::table::number;
use nic_host::{Endpoint, Nic};
use serde::Deserialize;

/// Options of `nic status`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the engine listens [default: as for `nic serve`].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print everything that the engine tells, as JSON.
    #[arg(long)]
    json: bool,
}

/// The part of an engine's status that people are shown.
#[derive(Debug, Deserialize)]
struct Status {
    pid: u32,
    version: String,
    engines: Vec<EngineStatus>,
    applications: Vec<Application>,
    /// What its operator should know.
    #[serde(default)]
    warnings: Vec<String>,
    /// Not told by engines inside other programs.
    hardening: Option<Hardening>,
}

/// What the process has given up.
#[derive(Debug, Deserialize)]
struct Hardening {
    seccomp: String,
    capabilities: u64,
    core_dumps: bool,
}

#[derive(Debug, Deserialize)]
struct EngineStatus {
    engine: u64,
    address: String,
    port: String,
    counters: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
struct Application {
    name: String,
    pid: u32,
    /// Not told where the kernel does not say who it is.
    user: Option<u32>,
    engine: u64,
    sessions: u64,
    regions: u64,
    /// Memory of its sessions and regions.
    bytes: u64,
}

/// The counters that say most, and what they are called for people.
const COUNTERS: [(&str, &str); 16] = [
    ("sessions", "sessions open"),
    ("flows", "flows open"),
    ("ops_out", "ops out"),
    ("ops_in", "ops in hand"),
    ("completions", "ops completed"),
    ("executed", "ops executed for others"),
    ("calls", "calls delivered"),
    ("refused", "requests refused"),
    ("failed", "ops failed here"),
    ("expired", "ops expired"),
    ("packets_sent", "packets sent"),
    ("packets_received", "packets received"),
    ("retransmissions", "packets sent again"),
    ("corrupted_packets", "packets corrupted"),
    ("dropped_packets", "packets dropped"),
    ("ring_violations", "sessions that broke rules"),
];

/// Asks an engine and prints what it says.
///
/// # Errors
/// No engine answers.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let endpoint = arguments.socket.clone().map_or(Endpoint::Default, Endpoint::Path);
    let status = Nic::connect(endpoint)?.status()?;
    if arguments.json {
        println!("{status}");
        return Ok(ExitCode::SUCCESS);
    }
    let status: Status = serde_json::from_str(&status)
        .context("the engine's status cannot be read; use a `nic` of the engine's release")?;
    print!("{}", text(&status));
    Ok(ExitCode::SUCCESS)
}

fn text(status: &Status) -> String {
    let mut lines = vec![format!("engine process {}, version {}", status.pid, status.version)];
    for engine in &status.engines {
        lines.push(format!("engine {}: {}, {}", engine.engine, engine.address, engine.port));
    }
    lines.extend(status.hardening.as_ref().map(given_up));
    lines.extend(status.warnings.iter().map(|warning| format!("WARNING: {warning}")));
    // This command itself is connected while it asks.
    let others: Vec<_> =
        status.applications.iter().filter(|one| one.pid != std::process::id()).collect();
    if others.is_empty() {
        lines.push("no applications".to_owned());
    }
    for one in others {
        lines.push(application(one));
    }
    lines.push(counters(&status.engines).to_string());
    lines.push(String::new());
    lines.join("\n")
}

fn given_up(hardening: &Hardening) -> String {
    let calls = match hardening.seccomp.as_str() {
        "kill" => "unexpected system calls kill it",
        "log" => "unexpected system calls are logged",
        _ => "SYSTEM CALLS ARE NOT FILTERED (hardening.seccomp)",
    };
    let capabilities = match hardening.capabilities {
        0 => "no capabilities".to_owned(),
        some => format!("CAPABILITIES {some:#x}"),
    };
    let dumps = if hardening.core_dumps { "CORE DUMPS" } else { "no core dumps" };
    format!("hardening: {calls}, {capabilities}, {dumps}")
}

fn application(one: &Application) -> String {
    let user = one.user.map_or("unknown".to_owned(), |user| user.to_string());
    format!(
        "application {} ({}) of user {user}, on engine {}: sessions {}, regions {}, {} KiB",
        one.name,
        one.pid,
        one.engine,
        one.sessions,
        one.regions,
        number(one.bytes.div_ceil(1024) as f64),
    )
}

fn counters(engines: &[EngineStatus]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    let of_engines = engines.iter().map(|engine| format!("engine {}", engine.engine));
    table.set_header(std::iter::once("since the start".to_owned()).chain(of_engines));
    for (name, meaning) in COUNTERS {
        let value = |engine: &EngineStatus| match engine.counters.get(name) {
            Some(value) => number(*value as f64),
            None => "-".to_owned(),
        };
        let values = engines.iter().map(value);
        table.add_row(std::iter::once(meaning.to_owned()).chain(values));
    }
    for column in 1..=engines.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_shown_is_one_of_the_engine() {
        let list = nic_engine::engine::Counters::LIST;
        for (name, _) in COUNTERS {
            assert!(list.iter().any(|known| known.name == name), "{name}");
        }
    }

    #[test]
    fn people_are_shown_engines_applications_and_counters() {
        let json = r#"{"pid":7,"version":"0.1.0",
            "engines":[{"engine":0,
                "address":"127.0.0.1:9","port":"udp","counters":{"flows":12345}}],
            "applications":[{"name":"store","pid":8,"user":9,"engine":0,
                "sessions":1,"regions":2,"bytes":4097}],
            "warnings":["engine 0 has no core"],
            "hardening":{"seccomp":"off","capabilities":0,"core_dumps":false}}"#;
        let shown = text(&serde_json::from_str(json).unwrap());
        for part in [
            "process 7",
            "127.0.0.1:9",
            "store (8) of user 9",
            "sessions 1, regions 2, 5 KiB",
            "flows open",
            "12 345",
            "WARNING: engine 0 has no core",
            "NOT FILTERED (hardening.seccomp), no capabilities, no core dumps",
        ] {
            assert!(shown.contains(part), "{part} is missing in {shown}");
        }
    }
}
