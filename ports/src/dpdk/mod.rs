//! DPDK: the device itself, driven without the kernel.
//!
//! Frames are mbufs from EAL's memory: the packet is written where the device reads it, and what
//! arrives is looked at where the device wrote it. A frame stays the port's for ever; a
//! transmission is one more reference on its mbuf, and has ended when the driver has given it
//! back. Around packets stand Ethernet, IP and UDP headers of the port's own, so that the peer may
//! be any port of this crate, or a kernel's socket.
//!
//! Without a kernel nobody says who is where: the port asks (ARP, neighbour discovery), answers
//! who asks, and answers pings. A packet to a neighbour that is not known yet is dropped and
//! counted while the question is on its way; flows send it again.
//!
//! The only clock is the device's control thread, which ticks ten times a second: it follows the
//! link and lets what is known of neighbours grow old. While the link is down, packets are dropped
//! and counted, and frames that the driver still holds are taken back by copying them.
//!
//! net_virtio_user lets its peer, the vhost side, write all of EAL's memory: both trust each
//! other as parts of one program do. All other devices copy, or are hardware.
//!
//! ```no_run
//! use nic_ports::Port;
//! use nic_ports::dpdk::{DpdkConfig, DpdkDevice, Eal};
//!
//! let eal = Eal::start(["--in-memory", "--no-pci"])?;
//! let device = "net_memif0,role=client,id=0";
//! let config = DpdkConfig::new(device, "10.0.0.1:4791".parse()?, 24);
//! for port in DpdkDevice::open(&eal, &config, 1)? {
//!     println!("{}", port.capabilities());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answers;
mod capabilities;
mod config;
mod device;
mod eal;
mod error;
mod frames;
mod incoming;
mod member;
mod neighbours;
mod outgoing;
mod port;
mod probe;
mod sockets;
mod watch;

pub use self::config::DpdkConfig;
pub use self::device::DpdkDevice;
pub use self::eal::Eal;
pub use self::error::DpdkError;
pub use self::port::DpdkPort;
pub use self::probe::{DpdkProbe, probe};
