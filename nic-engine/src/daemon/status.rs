//! What a daemon tells of itself: JSON of any length, in a memory that is passed.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use nic_shm::{Pages, SharedMemory};
use nic_wire::Status;
use nic_wire::control::ControlReply;
use serde_json::{Map, Value, json};

use super::connection::Connection;
use super::engine_thread::EngineLink;
use super::hardening::Hardening;
use crate::engine::{Counters, Live, Refusal};
use crate::plane::Outgoing;

/// One engine.
pub(super) fn of_engine(
    number: usize,
    link: &EngineLink,
    address: SocketAddr,
    port: &str,
) -> Value {
    let counters = link.counters.read();
    let named = Counters::LIST.iter().zip(counters.values());
    let counts: Map<_, _> =
        named.map(|(metric, value)| (metric.name.to_string(), value.into())).collect();
    json!({ "engine": number, "address": address.to_string(), "port": port, "counters": counts })
}

/// What is live in one engine; nothing of one that does not answer.
pub(super) fn of_live(number: usize, address: SocketAddr, live: Option<&Live>) -> Value {
    let live = live.and_then(|live| serde_json::to_value(live).ok());
    json!({ "engine": number, "address": address.to_string(), "live": live })
}

/// One application; `None` until it has said hello.
pub(super) fn of_application(connection: &Connection) -> Option<Value> {
    let client = connection.client?;
    let pid = connection.socket.peer_credentials().map(|peer| peer.pid).unwrap_or(0);
    let usage = connection.usage();
    Some(json!({
        "name": connection.name,
        "pid": pid,
        "user": connection.user.as_ref().ok(),
        "engine": connection.engine,
        "client": client.0,
        "sessions": usage.sessions,
        "regions": usage.regions,
        "bytes": usage.bytes,
    }))
}

/// The whole, as it is sent. `warnings`: what its operator should know, sentences.
/// `hardening`: what the process has given up, if it is a daemon's.
pub(super) fn outgoing(
    engines: Vec<Value>,
    applications: Vec<Value>,
    warnings: Vec<String>,
    hardening: Option<Hardening>,
) -> Outgoing {
    let status = json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "engines": engines,
        "applications": applications,
        "warnings": warnings,
        "hardening": hardening,
    });
    passed(&status.to_string()).unwrap_or_else(|error| {
        Outgoing::refused(&Refusal::new(Status::Busy, format!("the status has no room: {error}")))
    })
}

fn passed(text: &str) -> Result<Outgoing, Box<dyn std::error::Error>> {
    let bytes = text.len() as u64;
    let shared = SharedMemory::create_owner_writable("nic-status", bytes, Pages::Small)?;
    shared.memory().write(0, text.as_bytes())?;
    let descriptors = vec![shared.as_fd().try_clone_to_owned()?];
    Ok(Outgoing { reply: ControlReply::Status { bytes }, descriptors })
}
