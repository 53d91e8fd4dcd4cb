//! How packets travel between two engines that this program starts itself.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::str::FromStr;

use anyhow::{Context, Result};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use nic_engine::Builtin;
use nic_engine::engine::EngineConfig;
use nic_engine::ports::{Opened, PortKind, PortSettings, ReadyPort, open_all};
use nic_host::Nic;
use nic_ports::ring::{RingConfig, RingPort};
use nic_shm::ControlSocket;
use serde::{Deserialize, Serialize};

/// The name of [`PairPort::Ring`].
const RING: &str = "ring";

/// How packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairPort {
    /// Shared memory between the two engines.
    Ring,
    /// A port of each engine's own, on the loopback.
    Kind(PortKind),
}

impl PairPort {
    /// Its name in commands and output.
    pub fn name(self) -> &'static str {
        match self {
            PairPort::Ring => RING,
            PairPort::Kind(kind) => kind.name(),
        }
    }

    /// For command lines.
    pub fn parser() -> impl TypedValueParser<Value = PairPort> {
        let kinds = PortKind::ALL.into_iter().map(PortKind::name);
        PossibleValuesParser::new(kinds.chain([RING]))
            .try_map(|name| name.parse::<PairPort>()?.without_device())
    }

    /// This port, if two engines can have it that know of no device.
    fn without_device(self) -> Result<Self, String> {
        match self {
            PairPort::Kind(PortKind::Xdp | PortKind::Dpdk) => Err(format!(
                "port {self} drives a device, and each engine needs one of its own: start `nic \
                 serve --config FILE` at each with its [port] table (docs/ports.md), then `nic \
                 bench target` beside one and `nic bench run --ticket` beside the other"
            )),
            port => Ok(port),
        }
    }
}

impl FromStr for PairPort {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            RING => Ok(PairPort::Ring),
            name => name.parse().map(PairPort::Kind),
        }
    }
}

impl fmt::Display for PairPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The port that an engine is to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortOrder {
    /// One of this kind, on the loopback.
    Kind(PortKind),
    /// One side of a ring; the addresses are names only.
    Ring {
        /// This side's.
        local: SocketAddr,
        /// The other side's.
        peer: SocketAddr,
    },
}

/// One end of the way between two engines: the port, and a ring's socket.
#[derive(Debug)]
pub struct End {
    /// What is to be opened.
    pub order: PortOrder,
    /// What a ring needs besides.
    pub ring: Option<OwnedFd>,
}

/// Both.
#[derive(Debug)]
pub struct Ends {
    /// Of the engine whose application issues ops.
    pub initiator: End,
    /// Of the engine beside the memory.
    pub target: End,
}

impl Ends {
    /// `number` keeps the names of several rings apart.
    pub fn new(port: PairPort, number: u16) -> Result<Self> {
        if let PairPort::Kind(kind) = port {
            let end = || End { order: PortOrder::Kind(kind), ring: None };
            return Ok(Ends { initiator: end(), target: end() });
        }
        let (one, other) = ControlSocket::pair().context("the system gives no socket")?;
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let (initiator, target) = (address(2 * number), address(2 * number + 1));
        let end = |local, peer, socket: &ControlSocket| -> Result<End> {
            let ring = Some(socket.as_fd().try_clone_to_owned()?);
            Ok(End { order: PortOrder::Ring { local, peer }, ring })
        };
        Ok(Ends {
            initiator: end(initiator, target, &one)?,
            target: end(target, initiator, &other)?,
        })
    }
}

impl End {
    /// An engine inside this process. With a ring it waits for the other side.
    pub fn inline(self) -> Result<Nic> {
        let ready = match self.order {
            PortOrder::Kind(kind) => {
                open(kind)?.ports.pop().context("a port was opened and is not there")?
            }
            PortOrder::Ring { local, peer } => {
                ReadyPort::new::<_, Builtin>(ring(self.ring, local, peer)?)
            }
        };
        Ok(Nic::inline_ready(ready, EngineConfig::default())?)
    }
}

/// Opens a port of a kind.
pub fn open(kind: PortKind) -> Result<Opened> {
    let settings = PortSettings { kind, ..PortSettings::default() };
    Ok(open_all::<Builtin>(&settings, 1)?)
}

/// Opens one side of a ring. Waits for the other side.
pub fn ring(socket: Option<OwnedFd>, local: SocketAddr, peer: SocketAddr) -> Result<RingPort> {
    let socket = ControlSocket::from_fd(socket.context("the ring's socket is missing")?);
    Ok(RingPort::connect(&socket, RingConfig::default(), local, peer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_port_has_its_name_and_so_has_the_ring() {
        for kind in PortKind::ALL {
            assert_eq!(kind.name().parse(), Ok(PairPort::Kind(kind)));
        }
        assert_eq!("ring".parse(), Ok(PairPort::Ring));
        assert!("rign".parse::<PairPort>().unwrap_err().contains("rign"));
    }

    #[test]
    fn ports_that_need_a_device_say_how_they_are_measured() {
        for (name, is_possible) in
            [("udp", true), ("uring", true), ("ring", true), ("xdp", false), ("dpdk", false)]
        {
            let port = name.parse::<PairPort>().unwrap().without_device();
            assert_eq!(port.is_ok(), is_possible, "{name}");
            assert!(port.err().is_none_or(|said| said.contains("nic bench target")));
        }
    }
}
