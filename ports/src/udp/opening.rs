//! Opening a UDP socket as its configuration asks, and what came of it: for every port whose
//! packets pass through one.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nic_wire::packet::MAX_PACKET_BYTES;

use super::probe::{Missing, Offloads, probe};
use super::socket::{self, Socket};
use super::{UdpConfig, UdpError};
use crate::Capabilities;

/// How long an address may be in use by a socket that nobody has any more: it takes some tens of
/// milliseconds.
const PATIENCE_MS: u32 = 300;

/// An open socket and what the kernel can do for it.
pub(crate) struct Opened {
    pub(crate) socket: Socket,
    offloads: Offloads,
}

impl Opened {
    /// Opens a socket, finds out what works and switches it on.
    pub(crate) fn open(config: &UdpConfig) -> Result<Self, UdpError> {
        let socket = open_patiently(config)?;
        let off = |offload| Some(Cow::from(format!("{offload} off: by configuration")));
        let mut offloads = if config.segmentation || config.coalescing {
            probe(&socket.local)
        } else {
            Offloads { segmentation: None, coalescing: None }
        };
        if !config.segmentation {
            offloads.segmentation = off("gso");
        }
        if !config.coalescing {
            offloads.coalescing = off("gro");
        } else if offloads.coalescing.is_none() {
            offloads.coalescing = coalesce(socket.descriptor.as_fd());
        }
        Ok(Opened { socket, offloads })
    }

    /// Whether the kernel may hand over runs of packets in one piece.
    pub(crate) fn coalesces(&self) -> bool {
        self.offloads.coalescing.is_none()
    }

    /// What a port of this name can do with it.
    pub(crate) fn capabilities(&self, name: &'static str, config: &UdpConfig) -> Capabilities {
        let (segmentation, coalescing) = (self.offloads.segmentation.is_none(), self.coalesces());
        let mut capabilities = Capabilities {
            name,
            mode: mode(segmentation, coalescing).into(),
            packet_bytes_max: MAX_PACKET_BYTES,
            segmentation,
            coalescing,
            zero_copy: false,
            in_memory: false,
            frames: config.pool.frames,
            window_bytes: window_bytes(self.socket.receive_buffer_bytes),
            reasons: Vec::with_capacity(4),
        };
        let Offloads { segmentation, coalescing } = &self.offloads;
        for reason in [segmentation, coalescing].into_iter().flatten() {
            capabilities.note(reason.clone());
        }
        capabilities
    }
}

/// Opens the socket. The kernel lets go of a killed process's ring (port `uring`), and of the
/// socket in it, only after the process has gone: a successor at the same address waits for that.
fn open_patiently(config: &UdpConfig) -> Result<Socket, UdpError> {
    for _ in 0..PATIENCE_MS {
        match Socket::open(config.address, config.socket_buffer_bytes) {
            Err(UdpError::AddressInUse { .. }) => std::thread::sleep(Duration::from_millis(1)),
            outcome => return outcome,
        }
    }
    Socket::open(config.address, config.socket_buffer_bytes)
}

/// Notes that single packets leave where a run of them did not: runs are not tried any more.
#[cold]
pub(crate) fn stop_segmentation(capabilities: &mut Capabilities) {
    capabilities.segmentation = false;
    capabilities.mode = mode(false, capabilities.coalescing).into();
    capabilities.note(Cow::Borrowed(
        "gso off: a segmented send failed on the way to a peer whose single packets leave; switch \
         on transmit checksum offload of that device (`ethtool -K DEV tx on`)",
    ));
}

/// Has the kernel coalesce. Why it cannot, if so.
fn coalesce(socket: BorrowedFd<'_>) -> Missing {
    let error = socket::coalesce(socket).err();
    error.map(|error| Cow::from(format!("gro off: the socket refuses UDP_GRO ({error})")))
}

const fn mode(segmentation: bool, coalescing: bool) -> &'static str {
    match (segmentation, coalescing) {
        (true, true) => "gso+gro",
        (true, false) => "gso",
        (false, true) => "gro",
        (false, false) => "plain",
    }
}

/// How many bytes of packets surely fit a receive buffer.
///
/// The kernel counts the memory that packets occupy, not their bytes: a datagram of 1400 B counts
/// as about 2300, one of 2048 B as about 4400, so that the default buffer of 212 992 holds 92 or
/// 48. While the socket is being read, up to a quarter of what was taken out is given back late.
/// A third covers both. (Runs that arrive coalesced are counted more kindly.)
fn window_bytes(receive_buffer_bytes: usize) -> u32 {
    u32::try_from(receive_buffer_bytes / 3).unwrap_or(u32::MAX)
}
