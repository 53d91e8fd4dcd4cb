//! Why DPDK or one of its devices cannot be used.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::PoolError;

/// Why DPDK or one of its devices cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum DpdkError {
    /// There was no libdpdk when this program was built. Install it and build again.
    #[error(
        "this build found no libdpdk: apt-get install libdpdk-dev (version 22.11 or later), then \
         rebuild with the feature `dpdk`"
    )]
    NoLibrary,
    /// EAL starts once in a process, whatever came of it. Start a new process to change arguments.
    #[error(
        "EAL was started in this process before, and it starts only once; open all devices with \
         the handle of that start, or restart the process to change its arguments"
    )]
    AlreadyStarted,
    /// An argument for EAL or a device's name cannot be handed to C.
    #[error("{found:?} has a zero byte in it; EAL's arguments and names of devices have none")]
    Argument {
        /// What was found.
        found: String,
    },
    /// EAL did not start. What it said names the reason.
    #[error(
        "EAL did not start with {arguments:?}: {source}; it said: {said}; with huge pages \
         (`sysctl vm.nr_hugepages=512`) it wants `--in-memory`, without them `--no-shconf \
         --no-huge -m 256`, and without physical devices `--no-pci`"
    )]
    Start {
        /// What it was started with.
        arguments: Vec<String>,
        /// What it answered.
        source: io::Error,
        /// The last lines that it logged.
        said: String,
    },
    /// There is no such device and none can be made.
    #[error(
        "no device {device}: {source}; it said: {said}; `dpdk-devbind.py --status` lists what \
         there is (a device of the kernel's must be bound to vfio-pci, but for mlx5, which \
         keeps its own driver), and a virtual one is named with its arguments, such as \
         net_vhost0,iface=/run/nic.sock"
    )]
    NoDevice {
        /// The device asked for.
        device: String,
        /// What DPDK answered.
        source: io::Error,
        /// The last lines that it logged.
        said: String,
    },
    /// The device has fewer queues than engines. Run fewer engines or give it more.
    #[error(
        "{device} has {found} queues and {expected} engines want one each; run fewer engines, or \
         give it more (virtual devices: queues=N among their arguments; others: `ethtool -L`)"
    )]
    Queues {
        /// The device.
        device: String,
        /// Queues that it has.
        found: u16,
        /// Queues that were asked for.
        expected: u16,
    },
    /// An address that no port can have.
    #[error(
        "{address} with {engines} engines cannot be the address of a port: it takes an IP address \
         of one host and as many UDP ports from the first on, which is not 0"
    )]
    Address {
        /// What was found.
        address: SocketAddr,
        /// How many UDP ports it takes.
        engines: u16,
    },
    /// A prefix longer than the address.
    #[error("a prefix of {found} bits for {address}: it has at most {expected_max}")]
    Prefix {
        /// The address.
        address: IpAddr,
        /// What was found.
        found: u8,
        /// The most there can be.
        expected_max: u8,
    },
    /// A gateway of another family, or a neighbour that is not on the link.
    #[error(
        "{found} cannot be on the link of {address}/{prefix}, where gateways and neighbours are; \
         correct the prefix or the address"
    )]
    OffLink {
        /// The gateway or neighbour.
        found: IpAddr,
        /// The port's address.
        address: IpAddr,
        /// Bits of the network.
        prefix: u8,
    },
    /// A VLAN that does not exist.
    #[error("VLAN {found}: they are numbered from 1 to 4094")]
    Vlan {
        /// What was found.
        found: u16,
    },
    /// The device cannot have this MTU.
    #[error("{device} refuses an MTU of {asked}: {source}; leave it out to take the device's own")]
    Mtu {
        /// The device.
        device: String,
        /// What was asked for.
        asked: u16,
        /// What it answered.
        source: io::Error,
    },
    /// The pool of transmit frames cannot be made.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// EAL has too little memory.
    #[error(
        "EAL has no memory for {frames} frames of {device} ({source}); give it more (`sysctl \
         vm.nr_hugepages`, or -m with --no-huge), or ask for fewer frames"
    )]
    Memory {
        /// The device.
        device: String,
        /// How many frames there were to be.
        frames: u32,
        /// What DPDK answered.
        source: io::Error,
    },
    /// The device refused a step that should always work.
    #[error("cannot open {device}: {step} failed: {source}; it said: {said}")]
    Device {
        /// The device.
        device: String,
        /// What was tried.
        step: &'static str,
        /// What DPDK answered.
        source: io::Error,
        /// The last lines that it logged.
        said: String,
    },
    /// A thread of the port's own cannot be started.
    #[error("a thread for DPDK cannot be started: {0}")]
    Thread(io::Error),
}
