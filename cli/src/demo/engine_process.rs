//! The engine process of the demo.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nic_engine::Builtin;
use nic_engine::daemon::{Daemon, DriveSettings};
use nic_engine::engine::EngineConfig;
use nic_ports::ring::{RingConfig, RingPort};
use nic_ports::udp::{UdpConfig, UdpPort};
use nic_shm::ControlSocket;

use super::child::Link;
use super::message::{EngineOrder, EngineReply, PortOrder};

/// The whole life of the process.
pub fn run() -> Result<()> {
    let link = Link::of_child()?;
    let Some((order, descriptors)) = link.receive::<EngineOrder>(None)? else { return Ok(()) };
    let started = start(&order, descriptors);
    match started {
        Ok((daemon, applications)) => {
            link.send(&EngineReply::Ready, &[])?;
            let lifeline = link.as_fd().try_clone_to_owned()?;
            Ok(daemon.serve(None, applications, &lifeline)?)
        }
        Err(error) => link.send(&EngineReply::Failed { reason: format!("{error:#}") }, &[]),
    }
}

fn start(
    order: &EngineOrder,
    mut descriptors: Vec<OwnedFd>,
) -> Result<(Daemon, Vec<ControlSocket>)> {
    let settings =
        DriveSettings { cores: vec![order.core], spin: Some(Duration::from_micros(order.spin_us)) };
    let config = EngineConfig::default();
    let daemon = match order.port {
        PortOrder::Udp => {
            let port = UdpPort::bind(UdpConfig::new(([127, 0, 0, 1], 0).into()))?;
            Daemon::start::<_, Builtin>(vec![port], &config, &settings)?
        }
        PortOrder::Ring { .. } => {
            let socket = descriptors.pop().context("the ring's socket is missing")?;
            let port = ring_port(order.port, socket)?;
            Daemon::start::<_, Builtin>(vec![port], &config, &settings)?
        }
    };
    let applications = descriptors.into_iter().map(ControlSocket::from_fd).collect();
    Ok((daemon, applications))
}

/// One side of a ring. Waits for the other side.
pub fn ring_port(order: PortOrder, socket: OwnedFd) -> Result<RingPort> {
    let PortOrder::Ring { local, peer } = order else { bail!("this port is no ring") };
    let socket = ControlSocket::from_fd(socket);
    Ok(RingPort::connect(&socket, RingConfig::default(), local, peer)?)
}
