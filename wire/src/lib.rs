//! Formats: what stands on the network and in session memory, byte for byte.
//!
//! This crate knows layouts and nothing else: no sockets, no clock, no memory of others. All
//! integers are little-endian. Fixed layouts are zerocopy structs whose sizes are asserted at
//! compile time and whose bytes are held by golden tests; variable ones are read through a
//! checked view and written from a plain value.
//!
//! | module | what |
//! |---|---|
//! | [`packet`] | the header of every packet: numbers, acks, credits, times, checksum |
//! | [`handshake`] | the bodies of the packets that open and close a flow |
//! | [`frame`] | op frames inside a data packet: requests, replies, padding |
//! | [`session`] | command, completion and receive slots, and the layout of session memory |
//! | [`control`] | messages between an application and its engine's control plane |
//! | [`ticket`] | the printable handle of an exported region |
//!
//! ```
//! use nic_wire::frame::{Frame, Frames, Reply, write_reply};
//! use nic_wire::{Fate, OpId, Status};
//!
//! let mut bytes = [0u8; 64];
//! let reply = Reply { op: OpId::new(7, 1), status: Status::Ok, fate: Fate::Executed, offset: 0,
//!     total: 5, service_ns: 120 };
//! let length = write_reply(&mut bytes, &reply, 5, |data| data.copy_from_slice(b"hello")).unwrap();
//! let mut frames = Frames::new(&bytes[..length]);
//! let Some(Ok(Frame::Reply(read, data))) = frames.next() else { panic!() };
//! assert_eq!((read.op.slot(), data), (7, &b"hello"[..]));
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod control;
pub mod frame;
pub mod handshake;
pub mod packet;
pub mod session;
pub mod ticket;

mod identity;
mod status;
mod time;

pub use identity::{ConnectionId, KernelId, OpId, Rkey};
pub use status::{Fate, Status, UnknownFate, UnknownStatus};
pub use time::{Span, Time};

/// The packet format that this build speaks; negotiated by the handshake.
pub const WIRE_VERSION: u8 = 2;
