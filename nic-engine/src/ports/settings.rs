//! The settings of a port.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

/// The `[port]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields, default)]
pub struct PortSettings {
    /// How packets travel: "udp", the kernel's UDP, needs no privilege; "uring" is the same by
    /// io_uring. `nic doctor` says which of them this machine allows.
    pub kind: PortKind,
    /// What may be taken instead if that cannot be had, in this order. Nothing is, unless it stands
    /// here; what was taken, and why, is logged at the start and told by `nic status`.
    pub fallback: Vec<PortKind>,
    /// Where the first engine receives packets; the others take the following ports, or any if
    /// this is port 0.
    pub address: SocketAddr,
    /// Transmit frames of each engine.
    pub frames: u32,
}

/// Ports that can be chosen by configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortKind {
    /// Kernel UDP; needs no privilege.
    Udp,
    /// Kernel UDP by io_uring.
    Uring,
}

impl PortKind {
    /// All of them.
    pub const ALL: [PortKind; 2] = [PortKind::Udp, PortKind::Uring];

    /// Its name in configurations and logs.
    pub const fn name(self) -> &'static str {
        match self {
            PortKind::Udp => "udp",
            PortKind::Uring => "uring",
        }
    }
}

impl fmt::Display for PortKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for PortKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = PortKind::ALL.map(PortKind::name);
        let found = PortKind::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("there is no port {name:?}; choose one of {known:?}"))
    }
}

impl Default for PortSettings {
    fn default() -> Self {
        PortSettings {
            kind: PortKind::Udp,
            fallback: Vec::new(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            frames: 4096,
        }
    }
}

impl PortSettings {
    /// The address of an engine's own port.
    pub(super) fn address_of(&self, engine: usize) -> SocketAddr {
        let mut address = self.address;
        if address.port() != 0 {
            address.set_port(address.port().wrapping_add(engine as u16));
        }
        address
    }
}
