//! Reliable packet flows between engines, without sockets or clocks.
//!
//! An [`Endpoint`] holds the flows of one engine. It is a state machine: received packets and the
//! time are handed in, packets to send and events are taken out; frames live in the port's pool
//! ([`Frames`]), checksums and ciphers are handed in ([`Protection`]). It knows the formats of
//! `nic-wire` and nothing of ops: what a packet carries is the op layer's business.
//!
//! A flow gives its users: each packet's payload handed out until it is accepted, and then never
//! again; retransmission by selective acks, probes and time-outs; windows; credits. It does not
//! give order: packets are handed out as they arrive.
//!
//! ```
//! use core::net::SocketAddr;
//! use nic_transport::{CONTROL_BYTES_MAX, Config, Endpoint, FlowEvent, Handled, Role};
//! use nic_transport::{FrameId, Frames, NotAuthentic, Protection};
//! use nic_wire::Time;
//! use nic_wire::packet::HEADER_BYTES;
//!
//! struct Unprotected;
//! impl Protection for Unprotected {
//!     fn seal(&mut self, _packet: &mut [u8]) {}
//!     fn open(&mut self, packet: &[u8]) -> Result<core::ops::Range<usize>, NotAuthentic> {
//!         Ok(HEADER_BYTES..packet.len())
//!     }
//! }
//! # struct NoFrames;
//! # impl Frames for NoFrames {
//! #     fn bytes(&self, _: FrameId) -> &[u8] { unimplemented!() }
//! #     fn bytes_mut(&mut self, _: FrameId) -> &mut [u8] { unimplemented!() }
//! #     fn retain(&mut self, _: FrameId) {}
//! #     fn release(&mut self, _: FrameId) {}
//! #     fn is_queued(&self, _: FrameId) -> bool { false }
//! # }
//! let addresses = [4000, 4001].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
//! let mut endpoints = [7, 8].map(|seed| Endpoint::new(Config::default(), 0, seed, 1).unwrap());
//! let (now, mut packet) = (Time::ZERO, [0; CONTROL_BYTES_MAX]);
//!
//! let flow = endpoints[0].connect(now, addresses[1], None).unwrap();
//! // INIT, RETRY, INIT with the cookie, ACCEPT.
//! for (sender, receiver) in [(0, 1), (1, 0), (0, 1), (1, 0)] {
//!     let sent = endpoints[sender].poll_control(now, &mut packet, &mut Unprotected);
//!     let (length, to) = sent.unwrap();
//!     assert_eq!(to, addresses[receiver]);
//!     let (from, packet) = (addresses[sender], &packet[..length]);
//!     # let frames = &mut NoFrames;
//!     let handled = endpoints[receiver].handle(now, from, packet, &mut Unprotected, frames);
//!     assert_eq!(handled, Handled::Control);
//! }
//! let [mut initiator, target] = endpoints;
//! assert_eq!(initiator.poll_event(), Some(FlowEvent::Opened { flow, role: Role::Initiator }));
//! assert!(initiator.flow(flow).unwrap().may_send(1400));
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod congestion;
mod counters;
mod endpoint;
mod flow;
mod frames;
mod handshake;
mod peers;
mod protection;
mod secret;
mod slots;
mod timers;

pub use config::{Config, ConfigError, PACKET_BYTES_MIN};
pub use congestion::{AckSample, CongestionControl, FixedWindow};
pub use counters::{Counters, DropReason, Drops, EndpointCounters, FlowCounters};
pub use endpoint::{
    CloseReason, ConnectError, ConnectFailure, Endpoint, FlowEvent, FlowHandle, Handled,
};
pub use flow::{AckDue, Flow, Role};
pub use frames::{FrameId, Frames, Reclaim};
pub use handshake::CONTROL_BYTES_MAX;
pub use protection::{NotAuthentic, Protection};
