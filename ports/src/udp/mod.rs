//! One unconnected UDP socket per engine: the default port, needs no privilege.
//!
//! Runs of packets of equal length to one peer leave as one message, which the kernel or the
//! device cuts (UDP_SEGMENT, GSO), and arrive as one, which the port cuts (UDP_GRO). That divides
//! the kernel's cost per packet by the length of the run: on the loopback 1400 B packets move
//! several times faster than one by one. A packet that travels alone takes the plainest calls.

mod error;
mod incoming;
pub(crate) mod message;
pub(crate) mod name;
pub(crate) mod opening;
#[allow(unsafe_code)] // sendto, sendmsg and sendmmsg from frames
mod outgoing;
pub(crate) mod probe;
#[allow(unsafe_code)] // its test asks the C library's macros
pub(crate) mod segments;
#[allow(unsafe_code)] // recvfrom and recvmmsg into buffers and headers that persist
mod slots;
#[allow(unsafe_code)] // setsockopt for options that rustix has no name for
pub(crate) mod socket;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nic_transport::{FrameId, Frames};
use nic_wire::packet::MAX_PACKET_BYTES;

pub use self::error::UdpError;
use self::incoming::Incoming;
use self::opening::{Opened, stop_segmentation};
use self::outgoing::Outgoing;
use self::probe::is_refusal;
use crate::forward::{forward_frames, pooled_port};
use crate::queue::{Queued, TransmitQueue};
use crate::{Burst, Capabilities, FramePool, PoolConfig, Port, PortCounters, Received, Share};

/// What a UDP port is opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpConfig {
    /// Where to bind; port 0 takes any free one.
    pub address: SocketAddr,
    /// The pool of transmit frames.
    pub pool: PoolConfig,
    /// What to ask for as socket buffers, in bytes. The kernel gives at most `net.core.rmem_max`
    /// and `wmem_max`.
    pub socket_buffer_bytes: usize,
    /// Whether to use segmentation (GSO) where it works. Off, each packet is a message of its
    /// own: for links that drop or delay whole runs, such as `netem`.
    pub segmentation: bool,
    /// Whether to use coalescing (GRO) where it works.
    pub coalescing: bool,
}

impl UdpConfig {
    /// The usual: 4096 frames, buffers of 4 MiB, segmentation and coalescing where they work.
    pub fn new(address: SocketAddr) -> Self {
        UdpConfig {
            address,
            pool: PoolConfig::default(),
            socket_buffer_bytes: 4 << 20,
            segmentation: true,
            coalescing: true,
        }
    }
}

/// A port over a UDP socket.
pub struct UdpPort {
    socket: OwnedFd,
    local: SocketAddr,
    pool: FramePool,
    queue: TransmitQueue,
    outgoing: Outgoing,
    incoming: Incoming,
    capabilities: Capabilities,
    counters: PortCounters,
}

impl UdpPort {
    /// Opens a port and finds out what the kernel can do for it.
    ///
    /// # Errors
    /// See [`UdpError`]: the address is taken, does not exist or is not allowed, or the pool's
    /// size is impossible.
    pub fn bind(config: UdpConfig) -> Result<Self, UdpError> {
        let pool = FramePool::new(config.pool)?;
        let opened = Opened::open(&config)?;
        Ok(UdpPort {
            local: opened.socket.local,
            queue: TransmitQueue::new(pool.frames() as usize),
            outgoing: Outgoing::new(&opened.socket.local),
            incoming: Incoming::new(opened.coalesces()),
            capabilities: opened.capabilities("udp", &config),
            counters: PortCounters::default(),
            socket: opened.socket.descriptor,
            pool,
        })
    }

    /// Counts the oldest `packets` as sent and gives their frames back.
    #[inline]
    fn finish(&mut self, packets: usize) {
        for _ in 0..packets {
            let Some(queued) = self.queue.pop() else { return };
            self.counters.transmitted_packets += 1;
            self.counters.transmitted_bytes += u64::from(queued.length);
            self.pool.end_transmission(queued.frame);
        }
    }

    /// Gives up on the oldest `packets`.
    #[cold]
    fn drop_packets(&mut self, packets: usize) {
        for _ in 0..packets {
            let Some(queued) = self.queue.pop() else { return };
            self.counters.transmit_errors += 1;
            self.pool.end_transmission(queued.frame);
        }
    }

    /// Decides what an error means for the oldest message, which has `packets`. True: go on.
    #[cold]
    fn after_failure(&mut self, error: &io::Error, packets: usize) -> bool {
        match error.raw_os_error() {
            // The device's queue or the socket's buffer is full: later.
            Some(libc::EAGAIN | libc::ENOBUFS) => {
                self.counters.transmit_blocked += 1;
                false
            }
            Some(libc::EINTR) => true,
            _ if packets > 1 => self.send_singly(error, packets),
            // Unreachable, filtered or too long for the path: as good as lost in the network.
            _ => {
                self.drop_packets(packets);
                true
            }
        }
    }

    /// Sends the packets of a refused run one by one. If they leave, it was the segmentation that
    /// failed, and unless it was only too long for the path, it stays off. True: go on.
    fn send_singly(&mut self, error: &io::Error, packets: usize) -> bool {
        self.counters.segmentation_failures += 1;
        for _ in 0..packets {
            let oldest = &self.queue.waiting()[..1];
            match self.outgoing.send(self.socket.as_fd(), &self.pool, oldest, false) {
                Ok(sent) => {
                    self.counters.transmit_calls += 1;
                    self.finish(sent);
                    if is_refusal(error) && self.capabilities.segmentation {
                        stop_segmentation(&mut self.capabilities);
                    }
                }
                Err((single, _)) => {
                    if !self.after_failure(&single, 1) {
                        return false;
                    }
                }
            }
        }
        true
    }
}

impl Frames for UdpPort {
    forward_frames!(pool);
}

impl Port for UdpPort {
    pooled_port!(pool);

    #[inline]
    fn allocate(&mut self, share: Share) -> Option<FrameId> {
        self.pool.allocate(share)
    }

    #[inline]
    fn submit(&mut self, frame: FrameId, length: usize, to: SocketAddr) {
        let reachable = to.port() != 0 && to.is_ipv4() == self.local.is_ipv4();
        if length == 0 || length > MAX_PACKET_BYTES || !reachable {
            self.counters.transmit_refused += 1;
            return;
        }
        let queued = Queued { frame, length: length as u32, to };
        self.pool.begin_transmission(frame);
        if self.queue.push(queued) {
            return;
        }
        self.transmit();
        if !self.queue.push(queued) {
            self.counters.transmit_errors += 1;
            self.pool.end_transmission(frame);
        }
    }

    #[inline]
    fn transmit(&mut self) {
        while !self.queue.is_empty() {
            let segmentation = self.capabilities.segmentation;
            let waiting = self.queue.waiting();
            match self.outgoing.send(self.socket.as_fd(), &self.pool, waiting, segmentation) {
                Ok(packets) => {
                    self.counters.transmit_calls += 1;
                    self.finish(packets);
                }
                Err((error, packets)) => {
                    if !self.after_failure(&error, packets) {
                        return;
                    }
                }
            }
        }
    }

    #[inline]
    fn receive(&mut self, burst: &mut Burst) -> usize {
        self.incoming.receive(self.socket.as_fd(), burst, &mut self.counters)
    }

    #[inline]
    fn view<'a>(&'a self, received: &Received) -> &'a [u8] {
        self.incoming.view(received)
    }

    #[inline]
    fn release_burst(&mut self, burst: &mut Burst) {
        self.incoming.release(burst);
    }

    fn wait_descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn prepare_wait(&mut self) -> bool {
        self.transmit();
        // A descriptor says nothing of packets that already left the socket, and nobody would
        // come back for those that the socket could not take.
        self.queue.is_empty() && !self.incoming.has_undelivered()
    }

    fn counters(&self) -> PortCounters {
        PortCounters { frames_exhausted: self.pool.exhausted(), ..self.counters }
    }
}

#[cfg(test)]
mod tests;
