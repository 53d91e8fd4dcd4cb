//! `nic bench run`: the side that issues ops, through a running engine.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use nic_figures::{PlacementProbe, cores};
use nic_host::{Endpoint, Nic, Wait};
use serde_json::json;

use super::crew::{Crew, Engine};
use super::load;
use super::report::{self, Circumstances};
use super::site::Tickets;

/// Options of `nic bench run`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The line that `nic bench target` printed on the other host.
    #[arg(long, value_name = "TICKETS")]
    ticket: String,
    /// Where the local engine listens [default: as for `nic serve`].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    load: load::Arguments,
}

/// Drives the load and tells what came of it.
///
/// # Errors
/// A load that cannot be, a ticket of something else, no engine.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let available = cores::available()?.len();
    let half = u32::try_from(available / 2).unwrap_or(u32::MAX);
    let load = arguments.load.check(half)?;
    let tickets: Tickets = arguments.ticket.parse()?;
    tickets.check(load.op)?;
    // The engine on this host has a core of its own, and with two so has this application.
    let wait = match arguments.load.wait {
        Some(waiting) => waiting.into(),
        None if load.threads as usize + 1 < available => Wait::Spin,
        None => Wait::Adaptive,
    };
    load.check_watched(wait)?;
    let mut probe = PlacementProbe::choose();
    let observer = Nic::connect(arguments.endpoint())?;
    let mut notes = vec![
        "The engine's counts are those of its whole process: other applications that used it \
         meanwhile are in them."
            .to_owned(),
    ];
    if tickets.memory.engine.ip().is_loopback() {
        notes.push(
            "The target is on this machine: both sides share its cores. For figures of two hosts \
             run `nic bench target` on the other one."
                .to_owned(),
        );
    }
    let circumstances = Circumstances {
        port: None,
        port_description: observer.port(),
        initiator: "process",
        setup: vec![("target_engine", json!(tickets.memory.engine.to_string()))],
        wait,
        notes,
    };
    let endpoints = (0..load.threads).map(|_| arguments.endpoint()).collect();
    let mut crew = Crew { load: &load, tickets: &tickets, wait, core: None, probe: &mut probe };
    let outcome = crew.drive(Engine::Process { observer, endpoints })?;
    report::tell(&load, &circumstances, &outcome, &arguments.load)
}

impl Arguments {
    fn endpoint(&self) -> Endpoint {
        self.socket.clone().map_or(Endpoint::Default, Endpoint::Path)
    }
}
