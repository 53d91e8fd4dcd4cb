//! AF_XDP: link frames between a device's queue and user space, past the kernel's network stack.
//!
//! A program in the kernel steers UDP datagrams for the engines' address and ports to their
//! sockets, by the queue on which they arrive; everything else goes on to the kernel, which keeps
//! ARP, neighbour discovery, routes, ping and all other traffic. Packets lie in one memory that
//! port and kernel share (the UMEM); the port writes Ethernet, IP and UDP headers before each
//! packet and copies no payload.
//!
//! The program is attached by a descriptor: however the process ends, it is detached.
//!
//! Three modes, of which [`XdpMode::Auto`] takes the first that works:
//!
//! | mode | where the program runs | packets |
//! |---|---|---|
//! | zero copy | in the driver | move between device and UMEM by DMA |
//! | native | in the driver | are copied once by the kernel |
//! | generic | behind any driver | are copied once, after the kernel has made a buffer for each |
//!
//! ```no_run
//! use nic_ports::Port;
//! use nic_ports::xdp::{XdpConfig, XdpPort};
//!
//! let port = XdpPort::open(&XdpConfig::new("eth0", "192.0.2.7:4791".parse()?))?;
//! println!("{}", port.capabilities());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod assembler;
#[allow(unsafe_code)] // bpf(2), which no library of ours has
mod bpf;
#[allow(unsafe_code)] // one socket option that rustix has no name for
mod claim;
mod error;
#[allow(unsafe_code)] // ioctl(2) with an interface request
mod ethtool;
mod neighbours;
mod open;
mod parts;
#[allow(unsafe_code)] // the frame pool and the receive chunks lie in shared memory
mod port;
mod program;
#[allow(unsafe_code)] // rings that the kernel reads and writes meanwhile
mod rings;
#[allow(unsafe_code)] // one socket option that rustix has no name for
mod socket;
#[allow(unsafe_code)] // slices of memory that the kernel fills
mod umem;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use nic_shm::Pages;
use serde::{Deserialize, Serialize};

pub use self::error::XdpError;
use self::neighbours::{Watched, WatchedPort, Watcher};
pub use self::parts::{XdpDescription, XdpParts};
use self::port::Half;
pub use self::port::XdpPort;
use crate::PoolConfig;

/// Where the program runs and who copies packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum XdpMode {
    /// The fastest of the others that works; why not a faster one stands in the capabilities.
    Auto,
    /// In the driver, no copies.
    ZeroCopy,
    /// In the driver, one copy.
    Native,
    /// Behind the driver, one copy; works on every device.
    Generic,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            XdpMode::Auto => "auto",
            XdpMode::ZeroCopy => "zero-copy",
            XdpMode::Native => "native",
            XdpMode::Generic => "generic",
        })
    }
}

/// What an AF_XDP port is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpConfig {
    /// The device's name.
    pub device: String,
    /// The queue whose packets the port receives; of several ports, the first one's.
    pub queue: u32,
    /// The port's address: one of the device's, or of its VLAN's, and a UDP port that is not 0.
    pub address: SocketAddr,
    /// How many consecutive UDP ports, from the address's on, belong to this process. A datagram
    /// for any of them is received by the port on whose queue it arrives.
    pub ports: u16,
    /// The VLAN whose tag packets carry, from 1 to 4094.
    pub vlan: Option<u16>,
    /// Which mode to use.
    pub mode: XdpMode,
    /// The pool of transmit frames, 4 KiB each.
    pub pool: PoolConfig,
    /// How many received packets may wait or be held, a power of two; 4 KiB each.
    pub receive_chunks: u32,
    /// The pages of the memory.
    pub pages: Pages,
}

impl XdpConfig {
    /// The usual: queue 0, one UDP port, no VLAN, the fastest mode, 4096 frames, 2048 receive
    /// chunks, huge pages if there are some: 24 MiB of locked memory.
    pub fn new(device: &str, address: SocketAddr) -> Self {
        XdpConfig {
            device: device.to_owned(),
            queue: 0,
            address,
            ports: 1,
            vlan: None,
            mode: XdpMode::Auto,
            pool: PoolConfig::default(),
            receive_chunks: 2048,
            pages: Pages::TryHuge,
        }
    }
}

impl XdpPort {
    /// Opens a port. Needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, and CAP_IPC_LOCK or a limit of
    /// locked memory that lets it have its own. May take some seconds, if a predecessor that was
    /// killed has not been tidied up behind.
    ///
    /// Starts a thread that watches routes and neighbours while there are ports. It inherits the
    /// caller's cores, so open ports before pinning their threads.
    ///
    /// # Errors
    /// See [`XdpError`]: a privilege that is missing, a device, an address or a mode that cannot
    /// be had, or another owner.
    pub fn open(config: &XdpConfig) -> Result<Self, XdpError> {
        let mut parts = open::open_parts(config, 1)?;
        let only = parts.pop().expect("one part was asked for");
        XdpPort::from_parts(only)
    }

    /// Says whether a port could be opened, without touching the device or taking the address:
    /// privileges, memory, kernel, device and address are looked at, modes are not.
    ///
    /// # Errors
    /// As for [`XdpPort::open`].
    pub fn probe(config: &XdpConfig) -> Result<(), XdpError> {
        open::probe(config)
    }

    /// Opens ports for `count` engines on consecutive queues of one device. Port `i` has queue
    /// `config.queue + i` and the UDP port `config.address.port() + i`; a datagram that arrives on
    /// another's queue is received there, so that engines must forward by connection.
    ///
    /// # Errors
    /// As for [`XdpPort::open`].
    pub fn open_all(config: &XdpConfig, count: u16) -> Result<Vec<Self>, XdpError> {
        XdpPort::from_all_parts(XdpPort::prepare(config, count)?)
    }

    /// The privileged half of [`XdpPort::open_all`], for a launcher that passes the parts on.
    ///
    /// # Errors
    /// As for [`XdpPort::open`].
    pub fn prepare(config: &XdpConfig, count: u16) -> Result<Vec<XdpParts>, XdpError> {
        let ports = config.ports.max(count);
        open::open_parts(&XdpConfig { ports, ..config.clone() }, count.into())
    }

    /// The unprivileged half of [`XdpPort::open`]: a port from parts that this process or a
    /// launcher has prepared, in the same network namespace.
    ///
    /// # Errors
    /// See [`XdpError`].
    pub fn from_parts(parts: XdpParts) -> Result<Self, XdpError> {
        let mut ports = XdpPort::from_all_parts(vec![parts])?;
        Ok(ports.pop().expect("a port for each part"))
    }

    /// The same for several ports of one device, which share what watches the network.
    ///
    /// # Errors
    /// See [`XdpError`].
    pub fn from_all_parts(parts: Vec<XdpParts>) -> Result<Vec<Self>, XdpError> {
        let Some(first) = parts.first() else { return Ok(Vec::new()) };
        let watched = Watched {
            device: first.description.device_index,
            network: first.description.network_index,
            address: first.description.address.ip(),
        };
        let (halves, watched_ports): (Vec<_>, Vec<_>) = parts.into_iter().map(part).unzip();
        let books = Watcher::start(watched, watched_ports)
            .map_err(XdpError::system("watching routes and neighbours"))?;
        halves.into_iter().zip(books).map(|(half, book)| XdpPort::join(half, book)).collect()
    }
}

/// Parts what the port works with from what its watcher does.
fn part(parts: XdpParts) -> (Half, WatchedPort) {
    let XdpParts { description, socket, memory, link, claim } = parts;
    let socket = Arc::new(socket);
    let watched = WatchedPort { claim, socket: Arc::downgrade(&socket) };
    (Half { description, socket, memory, link }, watched)
}
