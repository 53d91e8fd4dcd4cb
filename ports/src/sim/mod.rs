//! The only simulator: virtual clock, hosts, links and queues, all decided by one seed.
//!
//! A [`SimNetwork`] joins any number of [`SimPort`]s. Nothing moves by itself: whoever drives the
//! engines asks for the [next event](SimNetwork::next_event) and [advances](SimNetwork::advance_to)
//! the clock. What chance does to a packet is set per link ([`LinkConfig`]); a script may decide
//! instead, packet by packet, so that a test can try every loss there is.
//!
//! A host is an IP address; ports of one host differ in their UDP port. The same seed and the same
//! calls give the same run.
//!
//! ```
//! use nic_ports::sim::{SimConfig, SimNetwork, Verdict};
//! use nic_ports::{Burst, Port, Share};
//! use nic_transport::Frames;
//!
//! let network = SimNetwork::new(1, SimConfig::default());
//! let mut left = network.port("10.0.0.1:1000".parse()?)?;
//! let mut right = network.port("10.0.0.2:1000".parse()?)?;
//! network.set_script(|packet| if packet.number == 0 { Verdict::Drop } else { Verdict::Chance });
//!
//! for text in [b"lost", b"here"] {
//!     let frame = left.allocate(Share::Request).expect("a new pool has free frames");
//!     left.bytes_mut(frame)[..4].copy_from_slice(text);
//!     left.submit(frame, 4, right.local_address());
//!     left.release(frame);
//! }
//! left.transmit();
//!
//! let mut burst = Burst::new(8);
//! assert_eq!(right.receive(&mut burst), 0, "packets take their time");
//! network.advance_to(network.next_event().expect("one packet is under way"));
//! assert_eq!(right.receive(&mut burst), 1);
//! assert_eq!(right.view(&burst.views()[0]), b"here");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod link;
mod network;
mod port;
mod script;
mod state;
mod store;

use std::net::SocketAddr;

use nic_wire::Span;
use nic_wire::packet::MAX_PACKET_BYTES;

pub use self::link::LinkConfig;
pub use self::network::SimNetwork;
pub use self::port::SimPort;
pub use self::script::{SimPacket, Verdict};
pub use self::state::SimCounters;
use crate::{PoolConfig, PoolError};

/// The size and manners of a simulated network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimConfig {
    /// Every link, until [`SimNetwork::set_link`] makes one different.
    pub link: LinkConfig,
    /// The transmit frames of each port.
    pub pool: PoolConfig,
    /// Packets that may be under way at once; more are dropped and counted.
    pub packets_max: u32,
    /// Packets that may wait unreceived at a port, like a socket's buffer; more are dropped.
    pub inbox_packets: u32,
    /// The longest packet in bytes, as a link's MTU would have it.
    pub packet_bytes_max: usize,
    /// How long a frame stays with the port after its packet has left, as with devices that read
    /// frames by DMA.
    pub transmit_hold: Span,
}

impl Default for SimConfig {
    fn default() -> Self {
        SimConfig {
            link: LinkConfig::default(),
            pool: PoolConfig::with_frames(1024),
            packets_max: 16_384,
            inbox_packets: 4096,
            packet_bytes_max: MAX_PACKET_BYTES,
            transmit_hold: Span::ZERO,
        }
    }
}

/// Why a port cannot join a simulated network. Correct the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimError {
    /// Another port has the address: drop that one first.
    #[error("{address} already belongs to another port of this network; drop that one first")]
    AddressInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Nobody could send to such an address.
    #[error("{address} is no address that a port can have; give it an IP address and a port")]
    NoAddress {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The pool of transmit frames cannot be made.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

#[cfg(test)]
mod tests;
