//! `nic ops`: what is live in a running engine process, to find what is stuck.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use nic_host::{Endpoint, Nic};
use serde::Deserialize;

use crate::plain_table::{Columns, duration};

/// Options of `nic ops`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the engine listens [default: as for `nic serve`].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Show ops that are at least this old, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 100)]
    older_than: u64,
    /// Print everything that the engine tells, as JSON.
    #[arg(long)]
    json: bool,
}

/// What an engine process tells of what is live in it; the part that people are shown.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Ops {
    /// One for each engine.
    pub engines: Vec<EngineOps>,
    /// Who is connected.
    #[serde(default)]
    pub applications: Vec<Application>,
}

/// What is live in one engine.
#[derive(Clone, Debug, Deserialize)]
pub struct EngineOps {
    /// Its number.
    pub engine: u64,
    /// Where it receives packets.
    pub address: String,
    /// Nothing if it did not answer.
    pub live: Option<Live>,
}

/// See `nic_engine::engine::Live`.
#[derive(Clone, Debug, Deserialize)]
pub struct Live {
    /// Its flows.
    pub flows: Vec<Flow>,
    /// Its sessions.
    pub sessions: Vec<Session>,
    ops_out: Oldest<OpOut>,
    ops_in: Oldest<OpIn>,
}

/// See `nic_engine::engine::Oldest`.
#[derive(Clone, Debug, Deserialize)]
struct Oldest<T> {
    ops: Vec<T>,
    left_out: u64,
}

/// See `nic_engine::engine::LiveFlow`.
#[derive(Clone, Debug, Deserialize)]
pub struct Flow {
    peer: String,
    initiates: bool,
    is_open: bool,
    age_ns: u64,
    heard_ns: u64,
    unacked_packets: u64,
    round_trip_ns: Option<u64>,
    retransmissions: u64,
    ops: u64,
    ops_max: u64,
}

/// See `nic_engine::engine::LiveSession`.
#[derive(Clone, Debug, Deserialize)]
pub struct Session {
    session: u64,
    client: u64,
    ops: u64,
    depth: u64,
    violated: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct OpOut {
    age_ns: u64,
    session: Option<u64>,
    token: u64,
    kernel: String,
    state: String,
    peer: String,
    reply_bytes: u64,
    deadline_in_ns: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
struct OpIn {
    age_ns: u64,
    peer: String,
    kernel: String,
    state: String,
    payload_left: u64,
    session: Option<u64>,
}

/// One application of the engine process.
#[derive(Clone, Debug, Deserialize)]
pub struct Application {
    name: String,
    pid: u32,
    engine: u64,
    client: u64,
}

/// Asks an engine process and prints what it says.
///
/// # Errors
/// No engine answers.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let endpoint = arguments.socket.clone().map_or(Endpoint::Default, Endpoint::Path);
    let told = Nic::connect(endpoint)?.ops(Duration::from_millis(arguments.older_than))?;
    match arguments.json {
        true => println!("{told}"),
        false => print!("{}", text(&parse(&told)?, arguments.older_than)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads what an engine process tells.
///
/// # Errors
/// It is of another release.
pub fn parse(told: &str) -> Result<Ops> {
    serde_json::from_str(told)
        .context("what the engine tells cannot be read; use a `nic` of the engine's release")
}

fn text(ops: &Ops, older_than_ms: u64) -> String {
    let mut text = String::new();
    for engine in &ops.engines {
        text.push_str(&format!("engine {}: {}\n", engine.engine, engine.address));
        let Some(live) = &engine.live else {
            text.push_str("  it did not answer\n");
            continue;
        };
        text.push_str(&section("flows", 0, flows(&live.flows)));
        let application = |client| ops.application(engine.engine, client);
        text.push_str(&section("sessions", 0, sessions(&live.sessions, &application)));
        let age = format!("at least {older_than_ms} ms old");
        let of_session = |number| {
            let session = live.sessions.iter().find(|session| session.session == number);
            session.map_or_else(String::new, |session| application(session.client))
        };
        let out = ops_out(&live.ops_out.ops, &of_session);
        text.push_str(&section(&format!("ops out, {age}"), live.ops_out.left_out, out));
        let ops_in = ops_in(&live.ops_in.ops, &of_session);
        text.push_str(&section(&format!("ops in hand, {age}"), live.ops_in.left_out, ops_in));
    }
    text
}

fn section(title: &str, left_out: u64, columns: Columns) -> String {
    let more = match left_out {
        0 => String::new(),
        younger => format!("    and {younger} younger ones\n"),
    };
    match columns.is_empty() {
        true => format!("  {title}: none\n"),
        false => format!("  {title}:\n{}{more}", columns.indented("    ")),
    }
}

/// Flows as a table.
pub fn flows(flows: &[Flow]) -> Columns {
    let mut columns = Columns::new(&[
        "peer", "role", "state", "age", "heard", "rtt", "unacked", "resent", "ops", "of",
    ]);
    for flow in flows {
        columns.push([
            flow.peer.clone(),
            if flow.initiates { "initiator" } else { "target" }.to_owned(),
            if flow.is_open { "open" } else { "opening" }.to_owned(),
            duration(flow.age_ns),
            duration(flow.heard_ns),
            flow.round_trip_ns.map_or("-".to_owned(), duration),
            flow.unacked_packets.to_string(),
            flow.retransmissions.to_string(),
            flow.ops.to_string(),
            flow.ops_max.to_string(),
        ]);
    }
    columns
}

/// Sessions as a table.
pub fn sessions(sessions: &[Session], application: &dyn Fn(u64) -> String) -> Columns {
    let mut columns = Columns::new(&["session", "application", "ops", "of", "state"]);
    for session in sessions {
        columns.push([
            session.session.to_string(),
            application(session.client),
            session.ops.to_string(),
            session.depth.to_string(),
            if session.violated { "broke the rules of its rings" } else { "good" }.to_owned(),
        ]);
    }
    columns
}

fn ops_out(ops: &[OpOut], of_session: &dyn Fn(u64) -> String) -> Columns {
    let mut columns = Columns::new(&[
        "age",
        "left",
        "state",
        "kernel",
        "peer",
        "session",
        "application",
        "token",
        "reply bytes",
    ]);
    for op in ops {
        columns.push([
            duration(op.age_ns),
            op.deadline_in_ns.map_or("-".to_owned(), duration),
            op.state.clone(),
            op.kernel.clone(),
            op.peer.clone(),
            op.session.map_or("-".to_owned(), |session| session.to_string()),
            op.session.map_or("-".to_owned(), of_session),
            format!("{:#x}", op.token),
            op.reply_bytes.to_string(),
        ]);
    }
    columns
}

fn ops_in(ops: &[OpIn], of_session: &dyn Fn(u64) -> String) -> Columns {
    let mut columns =
        Columns::new(&["age", "state", "kernel", "peer", "payload missing", "served by"]);
    for op in ops {
        columns.push([
            duration(op.age_ns),
            op.state.clone(),
            op.kernel.clone(),
            op.peer.clone(),
            op.payload_left.to_string(),
            op.session.map_or("-".to_owned(), of_session),
        ]);
    }
    columns
}

impl Live {
    /// How many ops are out and in hand that are as old as was asked for.
    pub fn old(&self) -> (u64, u64) {
        let count = |kept: usize, left_out| kept as u64 + left_out;
        let (out, in_hand) = (&self.ops_out, &self.ops_in);
        (count(out.ops.len(), out.left_out), count(in_hand.ops.len(), in_hand.left_out))
    }
}

impl Ops {
    /// Who is meant by an engine's number for an application.
    pub fn application(&self, engine: u64, client: u64) -> String {
        let is_it = |one: &&Application| (one.engine, one.client) == (engine, client);
        match self.applications.iter().find(is_it) {
            Some(one) => format!("{} ({})", one.name, one.pid),
            None => "gone".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_shown_what_is_stuck() {
        let told = r#"{"applications":[{"name":"store","pid":8,"engine":0,"client":3}],
            "engines":[{"engine":0,"address":"127.0.0.1:9","live":{
              "flows":[{"peer":"127.0.0.1:5","initiates":true,"is_open":true,"age_ns":61000000000,
                "heard_ns":1500,"unacked_packets":4,"round_trip_ns":5300,"retransmissions":2,
                "ops":7,"ops_max":1024}],
              "sessions":[{"session":1,"client":3,"ops":7,"depth":256,"violated":false}],
              "ops_out":{"left_out":5,"ops":[{"age_ns":250000000,"session":1,"token":255,
                "kernel":"READ","state":"out","peer":"127.0.0.1:5","reply_bytes":0,
                "deadline_in_ns":750000000}]},
              "ops_in":{"left_out":0,"ops":[]}}}]}"#;
        let shown = text(&parse(told).unwrap(), 100);
        for part in [
            "127.0.0.1:5  initiator  open   61.0 s",
            "5.30 us  4",
            "store (8)",
            "ops out, at least 100 ms old:",
            "250 ms  750 ms  out    READ",
            "0xff",
            "and 5 younger ones",
            "ops in hand, at least 100 ms old: none",
        ] {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
    }
}
