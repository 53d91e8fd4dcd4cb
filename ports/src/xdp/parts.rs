//! An opened port, apart: what a privileged launcher makes and an engine without privileges takes.
//!
//! Everything that needs a capability happens before: the sockets, the locked memory, the program
//! and its attachment. What is left to the engine is open to everybody who has the descriptors:
//! mapping rings and memory, moving packets, reading routes and neighbours (in the same network
//! namespace), and sending empty datagrams through an ordinary socket.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use nic_shm::{ControlSocket, Incoming, SharedMemory};
use serde::{Deserialize, Serialize};

use super::umem::Shape;
use super::{XdpError, XdpMode};
use crate::PoolConfig;

/// How a message begins, and which version of the description follows.
const MAGIC: [u8; 4] = *b"xdp1";
/// Bytes of a message at most.
const MESSAGE_BYTES: usize = 8192;

/// What stands beside the descriptors: plain data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XdpDescription {
    /// The device's name.
    pub device: String,
    /// Its index.
    pub device_index: u32,
    /// The index of the device that has the address: the same, or the VLAN's.
    pub network_index: u32,
    /// The queue whose packets the socket receives.
    pub queue: u32,
    /// The engine's address.
    pub address: SocketAddr,
    /// The VLAN whose tag packets carry.
    pub vlan: Option<u16>,
    /// The mode in which the socket was opened, never [`XdpMode::Auto`].
    pub mode: XdpMode,
    /// Transmit frames: all, those kept for replies, those kept for control packets.
    pub pool: [u32; 3],
    /// Receive chunks.
    pub chunks: u32,
    /// Why faster modes are off.
    pub reasons: Vec<Cow<'static, str>>,
}

impl XdpDescription {
    pub(super) fn pool(&self) -> PoolConfig {
        let [frames, reply_frames, control_frames] = self.pool;
        PoolConfig { frames, reply_frames, control_frames }
    }

    pub(super) fn shape(&self) -> Shape {
        Shape { frames: self.pool[0], chunks: self.chunks }
    }
}

/// An opened port, apart. [`super::XdpPort::from_parts`] puts it together.
#[derive(Debug)]
pub struct XdpParts {
    pub(super) description: XdpDescription,
    /// The AF_XDP socket, bound.
    pub(super) socket: OwnedFd,
    /// Frames and chunks, registered with the socket.
    pub(super) memory: SharedMemory,
    /// While it is open, the steering program is attached.
    pub(super) link: OwnedFd,
    /// The UDP socket at the port's address.
    pub(super) claim: OwnedFd,
}

impl XdpParts {
    /// What stands beside the descriptors.
    pub fn description(&self) -> &XdpDescription {
        &self.description
    }

    /// Passes the parts to another process; afterwards this one should drop them.
    ///
    /// # Errors
    /// See [`XdpError::Send`].
    pub fn send(&self, socket: &ControlSocket) -> Result<(), XdpError> {
        let message = postcard::to_extend(&self.description, MAGIC.to_vec())
            .map_err(|error| XdpError::NotParts { found: error.to_string() })?;
        let descriptors =
            [self.socket.as_fd(), self.memory.fd(), self.link.as_fd(), self.claim.as_fd()];
        Ok(socket.send(&message, &descriptors)?)
    }

    /// Takes the parts from a launcher, which is trusted. Blocks if the socket does.
    ///
    /// # Errors
    /// See [`XdpError`]: nothing came, or something else.
    pub fn receive(socket: &ControlSocket) -> Result<Self, XdpError> {
        let not_parts = |found: &str| XdpError::NotParts { found: found.to_owned() };
        let mut message = vec![0; MESSAGE_BYTES];
        let (bytes, descriptors) = match socket.receive(&mut message)? {
            Incoming::Message { len, descriptors } => (len, descriptors),
            Incoming::Nothing => return Err(not_parts("nothing has come")),
            Incoming::EndOfFile => return Err(not_parts("the launcher has closed")),
        };
        let body = message[..bytes].strip_prefix(&MAGIC).ok_or(not_parts("another message"))?;
        let description: XdpDescription =
            postcard::from_bytes(body).map_err(|error| not_parts(&error.to_string()))?;
        let Ok([socket, memory, link, claim]) = <[OwnedFd; 4]>::try_from(descriptors) else {
            return Err(not_parts("another number of descriptors"));
        };
        if !description.chunks.is_power_of_two() {
            return Err(not_parts("its chunks are no power of two"));
        }
        let memory = SharedMemory::open(memory, description.shape().bytes())?;
        Ok(XdpParts { description, socket, memory, link, claim })
    }
}
