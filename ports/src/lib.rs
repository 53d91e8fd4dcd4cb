//! Ports: how bursts of packets leave and enter an engine.
//!
//! A [`Port`] lends frames and moves packets; it knows nothing of what is in them. The trait is
//! shaped after poll-mode drivers (DPDK's `rte_ethdev`): allocate, submit, reclaim; receive in
//! bursts with an explicit release; fixed pools whose exhaustion is normal.
//!
//! | port | what it is |
//! |---|---|
//! | [`udp`] | one unconnected UDP socket, with GSO and GRO where they work; needs no privilege |
//! | `xdp` | AF_XDP: whole link frames past the kernel's network stack (feature `xdp`) |
//! | `uring` | such a socket by io_uring: arrivals are seen without a system call |
//! | [`ring`] | two processes of one host, by memory that no two of them can write |
//! | `dpdk` | a device of DPDK, without the kernel; behind the feature of that name |
//! | [`sim`] | the only simulator: virtual clock, hosts, links, queues, faults, all from one seed |
//!
//! [`Faulty`], [`Traced`] and [`Pcap`] are ports around any port. What a port is doing stands in
//! its [`PortCounters`]; what it can do, and why not more, in its [`Capabilities`].
//!
//! ```
//! use nic_ports::udp::{UdpConfig, UdpPort};
//! use nic_ports::{Burst, Port, Share};
//! use nic_transport::Frames;
//!
//! let mut left = UdpPort::bind(UdpConfig::new("127.0.0.1:0".parse()?))?;
//! let mut right = UdpPort::bind(UdpConfig::new("127.0.0.1:0".parse()?))?;
//!
//! let frame = left.allocate(Share::Request).expect("a new pool has free frames");
//! left.bytes_mut(frame)[..5].copy_from_slice(b"hello");
//! left.submit(frame, 5, right.local_address());
//! left.transmit();
//! left.release(frame);
//!
//! let mut burst = Burst::new(32);
//! while right.receive(&mut burst) == 0 {}
//! assert_eq!(right.view(&burst.views()[0]), b"hello");
//! right.release_burst(&mut burst);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!("nic-ports drives Linux sockets and shared memory; build it for a Linux target");

mod burst;
mod capabilities;
mod counters;
mod faulty;
mod forward;
mod lending;
#[cfg(any(feature = "xdp", feature = "dpdk"))]
mod link;
mod pcap;
// Frames are raw memory, possibly shared with another process: the pool hands out slices of it.
#[allow(unsafe_code)]
mod pool;
mod port;
mod queue;
mod random;
mod traced;

// mbufs are the memory of DPDK, and all that is done with them are calls to it.
#[cfg(feature = "dpdk")]
#[allow(unsafe_code)]
pub mod dpdk;
pub mod ring;
pub mod sim;
pub mod udp;
#[cfg(feature = "uring")]
pub mod uring;
#[cfg(feature = "xdp")]
pub mod xdp;

pub use burst::{Burst, Received};
pub use capabilities::Capabilities;
pub use counters::{CounterDescription, PortCounters};
pub use faulty::{FaultCounters, FaultPlan, Faults, Faulty};
#[cfg(any(feature = "xdp", feature = "dpdk"))]
pub use link::MacAddress;
pub use pcap::{CaptureError, Pcap};
pub use pool::{FRAME_STRIDE, FrameLedger, FramePool, PoolConfig, PoolError};
pub use port::{Port, PortFault, Share};
pub use random::{Chance, Random};
pub use traced::Traced;
