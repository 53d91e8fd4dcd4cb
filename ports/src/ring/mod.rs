//! Two processes of one host, joined by shared memory.
//!
//! Each side makes one memory that the other can only read: its transmit frames, the ring of what
//! it sent, how far it has received, and whether it sleeps. Nothing is writable by both, so a
//! peer can mislead only itself. Sending moves eight bytes per packet; receiving copies each
//! packet once into private memory before anything looks at it, because the peer could rewrite
//! what is being parsed. While both sides spin there is no system call; a sleeper is woken by one
//! byte to its bell.
//!
//! ```
//! use nic_ports::ring::{RingConfig, RingPort};
//! use nic_ports::{Burst, Port, Share};
//! use nic_transport::Frames;
//!
//! let addresses = ["127.0.0.1:1".parse()?, "127.0.0.1:2".parse()?];
//! let (mut left, mut right) = RingPort::pair(RingConfig::default(), addresses)?;
//! let frame = left.allocate(Share::Request).expect("a new pool has free frames");
//! left.bytes_mut(frame)[..5].copy_from_slice(b"hello");
//! left.submit(frame, 5, right.local_address());
//! left.transmit();
//! left.release(frame);
//!
//! let mut burst = Burst::new(32);
//! assert_eq!(right.receive(&mut burst), 1);
//! assert_eq!(right.view(&burst.views()[0]), b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod join;
mod layout;
#[allow(unsafe_code)] // the frame pool lies in shared memory
mod port;
mod words;

use std::net::SocketAddr;
use std::time::Duration;

use nic_shm::ControlSocket;

pub use self::error::RingError;
use self::join::{OwnSide, PeerSide};
pub use self::port::RingPort;
use crate::PoolConfig;

/// What one side of a ring port is made with. The two sides may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// The pool of transmit frames.
    pub pool: PoolConfig,
    /// How long to wait for the peer's offer.
    pub patience: Duration,
}

impl Default for RingConfig {
    /// 1024 frames, five seconds.
    fn default() -> Self {
        RingConfig { pool: PoolConfig::with_frames(1024), patience: Duration::from_secs(5) }
    }
}

impl RingPort {
    /// Joins this process to the one at the other end of `socket`, which does the same. `local`
    /// and `peer` are names by which flows know the two sides; nothing is bound to them.
    ///
    /// Blocks for up to [`RingConfig::patience`]: for control threads. The socket is not used
    /// afterwards; its end-of-file tells of the peer's death, upon which the caller says
    /// [`RingPort::peer_gone`].
    ///
    /// # Errors
    /// See [`RingError`]: no memory, no answer, or an answer that is not fit to be mapped.
    pub fn connect(
        socket: &ControlSocket,
        config: RingConfig,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<Self, RingError> {
        let own = OwnSide::create(&config.pool)?;
        own.send(socket)?;
        let other = PeerSide::receive(socket, config.patience)?;
        RingPort::join(config, own, other, [local, peer])
    }

    /// Both sides within one process, for tests and measurements. Each may go to a thread.
    ///
    /// # Errors
    /// See [`RingError`].
    pub fn pair(config: RingConfig, addresses: [SocketAddr; 2]) -> Result<(Self, Self), RingError> {
        let [left, right] = addresses;
        let (first, second) = (OwnSide::create(&config.pool)?, OwnSide::create(&config.pool)?);
        let (first_lent, second_lent) = (first.lend()?, second.lend()?);
        Ok((
            RingPort::join(config, first, second_lent, [left, right])?,
            RingPort::join(config, second, first_lent, [right, left])?,
        ))
    }
}

#[cfg(test)]
mod tests;
