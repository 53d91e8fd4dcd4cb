//! How two sides find together: each makes its own memory and bell and offers them. A bell's receiving
//! end stays with who sleeps on it: nothing that the other side does to its own end can block either.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nic_shm::{
    ControlSocket, Incoming, PageKind, Pages, RacyMem, SharedMemory, WakeReceiver, WakeSender,
    wait_any,
};

use super::RingError;
use super::layout::{Geometry, VERSION};
use crate::PoolConfig;

/// How an offer begins.
const OFFER: [u8; 4] = *b"ring";

/// One side's own memory and bell.
pub(super) struct OwnSide {
    pub(super) memory: SharedMemory,
    /// Rung by the peer. The sending end is kept as well: a peer that dies is told by its socket,
    /// and leaves no bell that is readable for ever.
    pub(super) bell: (WakeSender, WakeReceiver),
    pub(super) geometry: Geometry,
}

/// The other side's, as checked.
pub(super) struct PeerSide {
    pub(super) memory: RacyMem,
    /// Rung by us.
    pub(super) bell: WakeSender,
    pub(super) geometry: Geometry,
}

impl OwnSide {
    /// Makes a memory that only this process can write, all of it allocated.
    pub(super) fn create(pool: &PoolConfig) -> Result<Self, RingError> {
        let geometry = Geometry::for_pool(pool)?;
        // Never on reserved huge pages: their owner could make the peer's accesses fault.
        let mut memory =
            SharedMemory::create_owner_writable("nic-ring", geometry.bytes(), Pages::Joined)?;
        memory.populate()?;
        geometry.write(&memory.memory())?;
        let bell = WakeSender::pair().map_err(RingError::Bell)?;
        Ok(OwnSide { memory, bell, geometry })
    }

    /// Offers this side through a socket.
    pub(super) fn send(&self, socket: &ControlSocket) -> Result<(), RingError> {
        let mut offer = [0; 8];
        offer[..4].copy_from_slice(&OFFER);
        offer[4..].copy_from_slice(&VERSION.to_le_bytes());
        socket.send(&offer, &[self.memory.fd(), self.bell.0.as_fd()])?;
        Ok(())
    }

    /// The same without a socket, within one process.
    pub(super) fn lend(&self) -> Result<PeerSide, RingError> {
        let duplicate = |descriptor: std::os::fd::BorrowedFd<'_>| {
            descriptor.try_clone_to_owned().map_err(RingError::Bell)
        };
        PeerSide::open(duplicate(self.memory.fd())?, duplicate(self.bell.0.as_fd())?)
    }
}

impl PeerSide {
    /// Waits for the peer's offer and checks it.
    pub(super) fn receive(socket: &ControlSocket, patience: Duration) -> Result<Self, RingError> {
        if wait_any(&[socket.as_fd()], Some(patience))?.is_empty() {
            return Err(RingError::Silent { patience_ms: patience.as_millis() });
        }
        let mut message = [0; 8];
        let (bytes, descriptors) = match socket.receive(&mut message)? {
            Incoming::Message { len, descriptors } => (len, descriptors),
            Incoming::Nothing => {
                return Err(RingError::Silent { patience_ms: patience.as_millis() });
            }
            Incoming::EndOfFile => return Err(RingError::Closed),
        };
        let found = descriptors.len();
        let not_offer = RingError::NotOffer { bytes, descriptors: found };
        if bytes != message.len() || message[..4] != OFFER {
            return Err(not_offer);
        }
        let version = u32::from_le_bytes([message[4], message[5], message[6], message[7]]);
        if version != VERSION {
            return Err(RingError::Version { found: version });
        }
        let Ok([memory, bell]) = <[OwnedFd; 2]>::try_from(descriptors) else {
            return Err(not_offer);
        };
        PeerSide::open(memory, bell)
    }

    fn open(memory: OwnedFd, bell: OwnedFd) -> Result<Self, RingError> {
        let mut memory = SharedMemory::open_read_only(memory, 1)?;
        if memory.page_kind() == PageKind::Huge {
            return Err(RingError::HugePages);
        }
        let geometry = Geometry::read(&memory.memory())?;
        memory.populate()?;
        let bell = WakeSender::from_fd(bell).map_err(RingError::NoBell)?;
        Ok(PeerSide { memory: memory.memory(), bell, geometry })
    }
}
