//! An engine process that this program has started.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::Result;
use nic_engine::Builtin;
use nic_engine::daemon::{Daemon, DriveSettings};
use nic_engine::engine::EngineConfig;
use nic_shm::ControlSocket;
use serde::{Deserialize, Serialize};

use super::child::Link;
use super::port::{self, PortOrder};

/// The hidden command that runs it.
pub const ENGINE_COMMAND: &str = "__engine";

/// To an engine process. Descriptors: with a ring its socket. Messages follow whose descriptors are
/// a control socket for each of its applications.
#[derive(Debug, Serialize, Deserialize)]
pub struct EngineOrder {
    /// The core to run on.
    pub core: Option<usize>,
    /// Its port.
    pub port: PortOrder,
    /// How long it spins without work before it sleeps, in microseconds.
    pub spin_us: u64,
    /// How many control sockets follow.
    pub applications: usize,
}

/// From an engine process.
#[derive(Debug, Serialize, Deserialize)]
pub enum EngineReply {
    /// It runs.
    Ready,
    /// It does not.
    Failed {
        /// Why.
        reason: String,
    },
}

/// The whole life of the process.
pub fn run() -> Result<()> {
    let link = Link::of_child()?;
    let Some((order, descriptors)) = link.receive::<EngineOrder>(None)? else { return Ok(()) };
    let mut applications = Vec::new();
    while applications.len() < order.applications {
        let Some(((), sockets)) = link.receive(None)? else { return Ok(()) };
        applications.extend(sockets.into_iter().map(ControlSocket::from_fd));
    }
    match start(&order, descriptors.into_iter().next()) {
        Ok(daemon) => {
            if link.send(&EngineReply::Ready, &[]).is_err() {
                // Who started it has ended meanwhile, and has said why.
                return Ok(());
            }
            let lifeline = link.as_fd().try_clone_to_owned()?;
            Ok(daemon.serve(None, applications, &lifeline)?)
        }
        Err(error) => {
            // As above.
            let _ = link.send(&EngineReply::Failed { reason: format!("{error:#}") }, &[]);
            Ok(())
        }
    }
}

fn start(order: &EngineOrder, ring: Option<OwnedFd>) -> Result<Daemon> {
    let settings =
        DriveSettings { cores: vec![order.core], spin: Some(Duration::from_micros(order.spin_us)) };
    let config = EngineConfig::default();
    Ok(match order.port {
        PortOrder::Kind(kind) => Daemon::start_opened(port::open(kind)?, &config, &settings, None)?,
        PortOrder::Ring { local, peer } => {
            let port = port::ring(ring, local, peer)?;
            Daemon::start::<_, Builtin>(vec![port], &config, &settings)?
        }
    })
}
