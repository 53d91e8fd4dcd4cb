//! What joins the two engines of a test, and daemons at its ends.
//!
//! `NIC_TEST_PORT` chooses among the kinds of [`Wire`] for tests that are about engines and not
//! about a port: `udp` (the default), `xdp`, or `vhost`, which needs the feature `dpdk`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use nic_engine::daemon::{Config, EngineSettings, Seccomp, WaitMode};
use nic_engine::ports::{PortKind, PortSettings, XdpModeSetting};
use tempfile::TempDir;

use crate::children::{Child, Role};
use crate::namespaces::{Hosts, LinkOptions};

/// Chooses the kind of wire.
const VARIABLE: &str = "NIC_TEST_PORT";
/// Where engines receive that have an address to themselves.
const PORT: u16 = 4791;
/// Arguments of EAL for virtio_user, which shares its memory with its peer as few files.
const SHARING_EAL: [&str; 3] = ["--in-memory", "--no-pci", "--single-file-segments"];

/// Kinds of wires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireKind {
    /// UDP sockets on the loopback.
    Udp,
    /// AF_XDP on a virtual link between two namespaces.
    Xdp,
    /// DPDK's net_virtio_user and net_vhost.
    Vhost,
}

impl WireKind {
    /// The one that the environment asks for.
    ///
    /// # Panics
    /// If there is no such kind in this build.
    pub fn of_environment() -> WireKind {
        match std::env::var(VARIABLE).as_deref() {
            Err(_) | Ok("udp") => WireKind::Udp,
            Ok("xdp") => WireKind::Xdp,
            Ok("vhost") if cfg!(feature = "dpdk") => WireKind::Vhost,
            Ok("vhost") => panic!("{VARIABLE}=vhost needs `--features dpdk`"),
            Ok(other) => panic!("found {VARIABLE}={other}, expected udp, xdp or vhost"),
        }
    }

    /// Whether an engine's packets to its own address come back to it. The kernel's do, by its
    /// loopback; a device's do not.
    pub fn reaches_itself(self) -> bool {
        self == WireKind::Udp
    }
}

/// Two ends at which daemons can be started, again and again.
pub struct Wire {
    /// What it is.
    pub kind: WireKind,
    ports: [PortSettings; 2],
    hosts: Option<Hosts>,
    /// Where sockets of devices lie.
    _folder: TempDir,
}

impl Wire {
    /// A new wire.
    ///
    /// # Panics
    /// If the system refuses: all but `Udp` need root.
    pub fn new(kind: WireKind) -> Wire {
        let folder = tempfile::tempdir().expect("there is a place for temporary files");
        let mut hosts = None;
        let ports = match kind {
            // One comes back at the address that it had, one at any.
            WireKind::Udp => [0, free_port()].map(|port| PortSettings {
                address: SocketAddr::from(([127, 0, 0, 1], port)),
                ..PortSettings::default()
            }),
            WireKind::Xdp => {
                let pair = hosts.insert(Hosts::pair(LinkOptions::default()));
                [&pair.left, &pair.right].map(|host| PortSettings {
                    kind: PortKind::Xdp,
                    address: SocketAddr::new(host.address(false), PORT),
                    device: Some(host.device().to_owned()),
                    xdp_mode: XdpModeSetting::Native,
                    ..PortSettings::default()
                })
            }
            WireKind::Vhost => vhost(&folder.path().join("vhost")),
        };
        Wire { kind, ports, hosts, _folder: folder }
    }

    /// The namespaces of its ends, if it has any.
    pub fn hosts(&self) -> Option<&Hosts> {
        self.hosts.as_ref()
    }

    /// A daemon's configuration at one end or the other.
    pub fn config(&self, end: usize, socket: &Path, wait: WaitMode) -> Config {
        daemon_config(self.ports[end].clone(), socket, wait)
    }

    /// Starts a daemon at one end or the other. It need not answer before there is one at the other.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn start(&self, end: usize, program: &str, file: &Path, config: &Config) -> Child {
        let host = self.hosts.as_ref().map(|hosts| [&hosts.left, &hosts.right][end]);
        let command = host.map_or_else(|| Command::new(program), |host| host.command(program));
        start_daemon(command, file, config)
    }
}

/// A daemon's configuration with this port.
pub fn daemon_config(port: PortSettings, socket: &Path, wait: WaitMode) -> Config {
    let mut config = Config {
        socket: Some(socket.to_owned()),
        insecure_network: !port.address.ip().is_loopback(),
        engine: EngineSettings { wait, ..EngineSettings::default() },
        ..Config::default()
    };
    if port.kind == PortKind::Dpdk {
        // DPDK's own threads make calls that no daemon of another port makes.
        config.hardening.seccomp = Seccomp::Off;
    }
    config.port = port;
    config
}

/// Starts a daemon by a command, with a configuration that is written into a file.
///
/// # Panics
/// If the system refuses.
pub fn start_daemon(command: Command, file: &Path, config: &Config) -> Child {
    let text = toml::to_string(config).expect("configurations are plain data");
    std::fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    Child::start_by(command, &Role::Daemon(file.to_owned()))
}

/// The side of virtio_user listens, so that each side finds the other again that was restarted.
fn vhost(socket: &Path) -> [PortSettings; 2] {
    let socket = socket.display();
    let devices = [
        format!("net_vhost0,iface={socket},queues=1,client=1"),
        format!("net_virtio_user0,path={socket},queues=1,server=1"),
    ];
    let mut host = 0;
    devices.map(|device| {
        host += 1;
        PortSettings {
            kind: PortKind::Dpdk,
            address: SocketAddr::from(([10, 78, 0, host], PORT)),
            device: Some(device),
            eal: SHARING_EAL.map(str::to_owned).to_vec(),
            ..PortSettings::default()
        }
    })
}

/// A UDP port that nobody has, below those that the system gives to whoever asks for any.
fn free_port() -> u16 {
    let is_free = |port: &u16| std::net::UdpSocket::bind(("127.0.0.1", *port)).is_ok();
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    (first..first + 1_000).find(is_free).expect("some port is free")
}
