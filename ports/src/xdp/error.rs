//! Why an AF_XDP port cannot be opened.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nic_shm::{MemoryError, ReceiveError, SendError};

use super::XdpMode;
use crate::PoolError;

/// Why an AF_XDP port cannot be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// The configuration asks for something that cannot be. Correct it.
    #[error("xdp port: {what} is {found}; expected {expected}")]
    Configuration {
        /// Which part of the configuration.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// There is no such device in this network namespace.
    #[error("there is no network device {device:?} here; `ip link` lists those that exist")]
    NoDevice {
        /// The device asked for.
        device: String,
    },
    /// The device does not carry Ethernet frames.
    #[error("{device} carries no Ethernet frames; use the udp port on it")]
    NotEthernet {
        /// The device asked for.
        device: String,
    },
    /// The device is switched off.
    #[error("{device} is down; `ip link set dev {device} up`")]
    Down {
        /// The device asked for.
        device: String,
    },
    /// The device has not the address.
    #[error(
        "{device} has not the address {address}; `ip address add {address}/LENGTH dev {device}`"
    )]
    NotOnDevice {
        /// The address asked for.
        address: IpAddr,
        /// The device asked for, or its VLAN's.
        device: String,
    },
    /// The VLAN has no device of its own, whose addresses and neighbours the kernel would keep.
    #[error(
        "{device} has no device for VLAN {vlan}; `ip link add link {device} name {device}.{vlan} \
         type vlan id {vlan}`, switch it on and give it the port's address"
    )]
    NoVlanDevice {
        /// The device asked for.
        device: String,
        /// The VLAN asked for.
        vlan: u16,
    },
    /// A socket has the UDP port. Choose another one.
    #[error(
        "UDP address {address} is in use by another socket; stop its owner (`ss -lunp` names it) \
         or choose another port"
    )]
    AddressInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The process may not do this. Give it the capability, or have a launcher open the port.
    #[error(
        "xdp port: {step} is not allowed; it needs {capabilities} (in a systemd unit \
         AmbientCapabilities=), or a privileged launcher that opens the port for the engine"
    )]
    Privilege {
        /// What was tried.
        step: &'static str,
        /// The capabilities that it needs.
        capabilities: &'static str,
    },
    /// The process may not lock so much memory.
    #[error(
        "{bytes} bytes of packet memory cannot be locked; allow it (`ulimit -l {}`, in a systemd \
         unit LimitMEMLOCK={bytes}), give CAP_IPC_LOCK, or ask for fewer frames",
        bytes.div_ceil(1024)
    )]
    LockedMemory {
        /// The length of the memory in bytes.
        bytes: u64,
    },
    /// The kernel has no AF_XDP.
    #[error(
        "this kernel has no AF_XDP sockets (5.9 or later with CONFIG_XDP_SOCKETS has all that is \
         needed); use the udp port"
    )]
    NoKernelSupport,
    /// The kernel refuses the program that steers packets. Please report it.
    #[error("the kernel refuses the steering program: {source}; its verifier says: {log}")]
    Program {
        /// What the kernel answered.
        source: io::Error,
        /// What its verifier says.
        log: String,
    },
    /// Another program steers the device's packets.
    #[error(
        "{device} already runs an XDP program (`ip link show dev {device}` names it); stop its \
         owner, or, if it has none, `ip link set dev {device} xdp off`"
    )]
    ProgramInPlace {
        /// The device asked for.
        device: String,
    },
    /// Another AF_XDP socket has the queue.
    #[error(
        "queue {queue} of {device} belongs to another AF_XDP socket; stop its owner (`ss --xdp` \
         names it) or choose another queue"
    )]
    QueueInUse {
        /// The device asked for.
        device: String,
        /// The queue asked for.
        queue: u32,
    },
    /// The device has no such queue.
    #[error(
        "{device} has no queue {queue} for sockets; `ethtool -l {device}` shows how many it has, \
         `ethtool -L {device} combined N` changes it"
    )]
    NoSuchQueue {
        /// The device asked for.
        device: String,
        /// The queue asked for.
        queue: u32,
    },
    /// The mode asked for cannot be had. Choose another, or [`XdpMode::Auto`].
    #[error("xdp port on {device}: mode {mode} cannot be had: {reason}")]
    Mode {
        /// The device asked for.
        device: String,
        /// The mode asked for.
        mode: XdpMode,
        /// Why not, and what would change that.
        reason: String,
    },
    /// The pool of transmit frames cannot be made.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The memory of packets cannot be made or mapped.
    #[error("xdp port: {0}")]
    Memory(#[from] MemoryError),
    /// An opened port cannot be passed on.
    #[error("an opened xdp port cannot be passed: {0}")]
    Send(#[from] SendError),
    /// An opened port cannot be received.
    #[error("an opened xdp port cannot be received: {0}")]
    Receive(#[from] ReceiveError),
    /// What was received is no opened port of this version. Start launcher and engine from the
    /// same version.
    #[error("the launcher sent no opened xdp port of this version ({found})")]
    NotParts {
        /// What is wrong with it.
        found: String,
    },
    /// The kernel refused a step that should always work.
    #[error("cannot open an xdp port: {step} failed: {source}")]
    System {
        /// What was tried.
        step: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl XdpError {
    /// For steps that need no explanation.
    pub(super) fn system<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> XdpError {
        move |source| XdpError::System { step, source: source.into() }
    }
}
