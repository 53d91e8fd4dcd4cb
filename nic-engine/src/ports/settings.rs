//! The settings of a port.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use documented::DocumentedFields;
use nic_ports::MacAddress;
use serde::{Deserialize, Serialize};

/// The `[port]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DocumentedFields)]
#[serde(deny_unknown_fields, default)]
pub struct PortSettings {
    /// How packets travel: "udp", the kernel's UDP, needs no privilege; "uring" is the same by
    /// io_uring; "xdp" is AF_XDP on a device of the kernel's; "dpdk" drives a device without the
    /// kernel. `nic doctor` says which of them this machine allows.
    pub kind: PortKind,
    /// What may be taken instead if that cannot be had, in this order. Nothing is, unless it stands
    /// here; what was taken, and why, is logged at the start and told by `nic status`.
    pub fallback: Vec<PortKind>,
    /// Where the first engine receives packets; the others take the following ports, or any if
    /// this is port 0, which xdp and dpdk do not allow.
    pub address: SocketAddr,
    /// Transmit frames of each engine.
    pub frames: u32,
    /// xdp, dpdk: the device. For xdp its name, such as "eth0"; for dpdk a PCI address, or a virtual
    /// device with its arguments.
    pub device: Option<String>,
    /// xdp, dpdk: the VLAN whose tag packets carry, from 1 to 4094; not set: none.
    pub vlan: Option<u16>,
    /// xdp: the queue of the first engine; the others take the following ones.
    pub queue: u32,
    /// xdp: "auto" takes the fastest mode that works; "zero-copy", "native" (in the driver) or
    /// "generic" (behind it) take that one or none.
    pub xdp_mode: XdpModeSetting,
    /// dpdk: arguments of its environment (EAL), such as ["--in-memory", "--no-pci"].
    pub eal: Vec<String>,
    /// dpdk: how many leading bits of the address are the network's; not set: 24, or 64 for IPv6.
    pub prefix: Option<u8>,
    /// dpdk: who carries packets to other networks; not set: they cannot be reached.
    pub gateway: Option<IpAddr>,
    /// dpdk: neighbours that need not be asked for, such as "10.0.0.2 02:00:00:00:00:02".
    pub neighbours: Vec<Neighbour>,
    /// dpdk: the longest IP packet in bytes; not set: what the device is set to.
    pub mtu: Option<u16>,
}

/// Ports that can be chosen by configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortKind {
    /// Kernel UDP; needs no privilege.
    Udp,
    /// Kernel UDP by io_uring.
    Uring,
    /// AF_XDP.
    Xdp,
    /// DPDK.
    Dpdk,
}

/// In which mode an AF_XDP port runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpModeSetting {
    /// The fastest that works.
    #[default]
    Auto,
    /// In the driver, no copies.
    ZeroCopy,
    /// In the driver, one copy.
    Native,
    /// Behind the driver, one copy.
    Generic,
}

/// Who has an address on the link: in configurations "IP MAC".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Neighbour {
    /// The address.
    pub ip: IpAddr,
    /// Who has it.
    pub mac: MacAddress,
}

impl TryFrom<String> for Neighbour {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.split_once(char::is_whitespace).and_then(|(ip, mac)| {
            let mac = mac.trim();
            let bytes: Vec<u8> = mac
                .split(':')
                .map(|byte| u8::from_str_radix(byte, 16))
                .collect::<Result<_, _>>()
                .ok()?;
            Some(Neighbour { ip: ip.parse().ok()?, mac: MacAddress(bytes.try_into().ok()?) })
        });
        parts.ok_or_else(|| {
            format!("found {text:?}; a neighbour is \"IP MAC\": \"10.0.0.2 02:00:00:00:00:02\"")
        })
    }
}

impl From<Neighbour> for String {
    fn from(neighbour: Neighbour) -> String {
        format!("{} {}", neighbour.ip, neighbour.mac)
    }
}

impl PortKind {
    /// All of them.
    pub const ALL: [PortKind; 4] = [PortKind::Udp, PortKind::Uring, PortKind::Xdp, PortKind::Dpdk];

    /// Its name in configurations and logs.
    pub const fn name(self) -> &'static str {
        match self {
            PortKind::Udp => "udp",
            PortKind::Uring => "uring",
            PortKind::Xdp => "xdp",
            PortKind::Dpdk => "dpdk",
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
            device: None,
            vlan: None,
            queue: 0,
            xdp_mode: XdpModeSetting::Auto,
            eal: Vec::new(),
            prefix: None,
            gateway: None,
            neighbours: Vec::new(),
            mtu: None,
        }
    }
}

impl PortSettings {
    /// Keys that are set although neither the port's kind nor a fallback looks at them.
    pub fn unused(&self) -> Vec<&'static str> {
        let usual = PortSettings::default();
        let on_device = &[PortKind::Xdp, PortKind::Dpdk][..];
        let (xdp, dpdk) = (&[PortKind::Xdp][..], &[PortKind::Dpdk][..]);
        let keys = [
            ("device", self.device != usual.device, on_device),
            ("vlan", self.vlan != usual.vlan, on_device),
            ("queue", self.queue != usual.queue, xdp),
            ("xdp_mode", self.xdp_mode != usual.xdp_mode, xdp),
            ("eal", self.eal != usual.eal, dpdk),
            ("prefix", self.prefix != usual.prefix, dpdk),
            ("gateway", self.gateway != usual.gateway, dpdk),
            ("neighbours", self.neighbours != usual.neighbours, dpdk),
            ("mtu", self.mtu != usual.mtu, dpdk),
        ];
        let is_used = |by: &[PortKind]| {
            by.contains(&self.kind) || self.fallback.iter().any(|kind| by.contains(kind))
        };
        let unused = keys.into_iter().filter(|(_, is_set, by)| *is_set && !is_used(by));
        unused.map(|(key, _, _)| key).collect()
    }

    /// The address of an engine's own port.
    pub(super) fn address_of(&self, engine: usize) -> SocketAddr {
        let mut address = self.address;
        if address.port() != 0 {
            address.set_port(address.port().wrapping_add(engine as u16));
        }
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_every_kind_are_read() {
        let text = "kind = \"dpdk\"\nfallback = [\"xdp\", \"udp\"]\ndevice = \"net_vhost0\"\n\
            eal = [\"--no-pci\"]\nxdp_mode = \"zero-copy\"\nvlan = 7\n\
            neighbours = [\"10.0.0.2 02:00:00:00:00:0a\"]\n";
        let settings: PortSettings = toml::from_str(text).unwrap();
        assert_eq!((settings.kind, settings.vlan), (PortKind::Dpdk, Some(7)));
        assert_eq!(settings.xdp_mode, XdpModeSetting::ZeroCopy);
        assert_eq!(settings.neighbours[0].mac, MacAddress([2, 0, 0, 0, 0, 10]));
        assert_eq!(
            toml::from_str::<PortSettings>(&toml::to_string(&settings).unwrap()).unwrap(),
            settings
        );
        let bad = toml::from_str::<PortSettings>("neighbours = [\"10.0.0.2\"]").unwrap_err();
        assert!(bad.to_string().contains("02:00:00:00:00:02"), "{bad}");
        assert_eq!(settings.unused(), [""; 0]);
        let alone = PortSettings { fallback: Vec::new(), ..settings.clone() };
        assert_eq!(alone.unused(), ["xdp_mode"]);
        let udp = PortSettings { kind: PortKind::Udp, ..alone };
        assert_eq!(udp.unused(), ["device", "vlan", "xdp_mode", "eal", "neighbours"]);
        let unknown = toml::from_str::<PortSettings>("kind = \"udq\"").unwrap_err().to_string();
        assert!(unknown.contains("udq") && unknown.contains("uring"), "{unknown}");
    }
}
