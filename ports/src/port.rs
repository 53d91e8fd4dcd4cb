//! The trait that every port implements.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nic_transport::{FrameId, Frames};

use crate::{Burst, Capabilities, PortCounters, Received};

/// What a transmit frame is for. The pool keeps a part of itself for replies and a smaller one
/// for control packets, so that requests, of which there can be any number, never starve them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Packets of ops that this engine issues.
    Request,
    /// Packets that answer the ops of others: a reply must never wait for a frame.
    Reply,
    /// Lone acks and handshakes: short-lived, few.
    Control,
}

/// Why a port can carry nothing any more: its only peer or its device is gone. What others do to a
/// port with many peers is never a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortFault {
    /// The peer process has ended, or its connection was closed. Open a new port.
    #[error("the peer of this port is gone; connect again when it is back")]
    PeerGone,
    /// The device was removed. Open a new port when it is back.
    #[error("the network device of this port is gone; open the port again when it is back")]
    DeviceGone,
    /// The peer wrote cursors that no correct peer can write. Close the port and look at the peer.
    #[error(
        "the peer of this port broke the ring's rules (its cursor says {found} entries where at \
         most {expected_max} can be); the port is closed, restart that peer"
    )]
    PeerViolated {
        /// How many entries its cursor claims.
        found: u32,
        /// How many there can be.
        expected_max: u32,
    },
    /// The port was driven by two threads, which its mode forbids. Keep a port on the thread that
    /// receives or transmits first, and open a new one.
    #[error(
        "another thread than its first drives this port, and the kernel serves only that one; \
         open a new port on the thread that is to drive it"
    )]
    OtherThread,
    /// The kernel takes nothing from this port any more. Open a new one, or another kind.
    #[error(
        "the kernel refuses what this port asks (error number {errno}); open a new port, or \
         choose port udp"
    )]
    Refused {
        /// What the kernel answered.
        errno: i32,
    },
}

/// Sends and receives packets in bursts.
///
/// One thread drives a port. No call blocks, allocates or takes a lock; [`Port::receive`] and
/// [`Port::transmit`] make at most one system call each when all goes well (a partial send or a
/// refused packet costs one more, to learn the reason). Nothing fails by panicking on what the
/// network or a peer does: what cannot be carried is dropped and counted.
///
/// A transmit frame is owned by references, see [`Frames`]: [`Port::allocate`] gives the caller
/// one, [`Port::submit`] adds the port's own, which ends when the packet has left.
pub trait Port: Frames {
    /// What this port can do, how it does it and why not better.
    fn capabilities(&self) -> &Capabilities;

    /// The address at which peers reach this port.
    fn local_address(&self) -> SocketAddr;

    /// A free transmit frame, owned by the caller with one reference; its bytes are whatever was
    /// last in it. `None` when `share` is used up, which is normal and counted.
    fn allocate(&mut self, share: Share) -> Option<FrameId>;

    /// How many frames [`Port::allocate`] would give for `share` now, at least: frames that a peer
    /// or device has finished with meanwhile are counted from the next [`Port::transmit`] on.
    fn available(&self, share: Share) -> usize;

    /// Queues the first `length` bytes of `frame` to be sent to `to` and takes a reference until
    /// they have left. The same frame may be submitted several times (to several peers).
    ///
    /// A packet that can never leave is refused, counted and takes no reference: `length` zero or
    /// above [`Capabilities::packet_bytes_max`], a destination of another address family, port 0,
    /// or, for a port with one peer, another address than that peer's.
    fn submit(&mut self, frame: FrameId, length: usize, to: SocketAddr);

    /// Sends what is queued and takes back frames that have left. What the network cannot take
    /// now stays queued for the next call.
    fn transmit(&mut self);

    /// Appends packets that have arrived to `burst`, at most as many as it has room for, and
    /// returns how many. They stay valid until [`Port::release_burst`].
    fn receive(&mut self, burst: &mut Burst) -> usize;

    /// The bytes of a packet in a burst of this port that has not been released.
    fn view<'a>(&'a self, received: &Received) -> &'a [u8];

    /// Takes the buffers of a burst back and empties it; at the end of each turn. While bursts
    /// are held, a port may run out of buffers and receive nothing.
    fn release_burst(&mut self, burst: &mut Burst);

    /// A descriptor that polls readable when there is something to receive, if the port has one.
    fn wait_descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// How long whoever drives this port may sleep before he looks again, because nothing wakes
    /// him when packets arrive: some microseconds for ports that are polled. `None`: he is woken,
    /// or nothing arrives by itself.
    fn sleep_max(&self) -> Option<Duration> {
        None
    }

    /// To be called before sleeping on [`Port::wait_descriptor`]: asks to be woken, then looks
    /// again. `false`: there is work, do not sleep. After `true`, [`Port::end_wait`] must follow.
    fn prepare_wait(&mut self) -> bool {
        true
    }

    /// Ends what [`Port::prepare_wait`] began, whether the sleep was woken or timed out.
    fn end_wait(&mut self) {}

    /// Why this port can carry nothing any more, if so.
    fn fault(&self) -> Option<PortFault> {
        None
    }

    /// What the port has done so far.
    fn counters(&self) -> PortCounters;
}
