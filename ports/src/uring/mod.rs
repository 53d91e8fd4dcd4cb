//! A UDP socket by io_uring: requests and arrivals pass through memory shared with the kernel.
//!
//! It carries the same packets as port `udp`, with the same offloads. One receiving operation stays
//! with the kernel and fills buffers from a ring (multishot recvmsg); what is sent in a turn is
//! handed over in one call, which takes up arrivals as well. A poll that finds nothing makes no
//! system call at all. For small packets that are waited for by spinning, `udp` is a little faster;
//! this port is for engines that sleep, and for processes that use the kernel for other things.
//!
//! [`UringError`] tells what keeps a process from it, and the command that mends that; [`probe`]
//! finds out without opening a port.

#[allow(unsafe_code)] // the ring of buffers, which the kernel reads and fills
mod buffers;
mod error;
#[allow(unsafe_code)] // hands the kernel the address of a header that persists
mod incoming;
#[allow(unsafe_code)] // hands the kernel addresses of messages and frames
mod outgoing;
#[allow(unsafe_code)] // io_uring_enter and the registration of buffers
mod ring;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nic_transport::{FrameId, Frames};
use nic_wire::packet::MAX_PACKET_BYTES;

pub use self::error::UringError;
use self::incoming::{Incoming, RECEIVE};
use self::outgoing::{MESSAGES_MAX, Outgoing};
use self::ring::Ring;
use crate::forward::{forward_frames, pooled_port};
use crate::queue::{Queued, TransmitQueue};
use crate::udp::opening::{Opened, stop_segmentation};
use crate::udp::probe::is_refusal;
use crate::udp::{UdpConfig, UdpError};
use crate::{
    Burst, Capabilities, FramePool, PoolConfig, Port, PortCounters, PortFault, Received, Share,
};

/// What a port over io_uring is opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UringConfig {
    /// Where to bind; port 0 takes any free one.
    pub address: SocketAddr,
    /// The pool of transmit frames.
    pub pool: PoolConfig,
    /// What to ask for as socket buffers, in bytes. The kernel gives at most `net.core.rmem_max`
    /// and `wmem_max`.
    pub socket_buffer_bytes: usize,
    /// Whether to use segmentation (GSO) where it works.
    pub segmentation: bool,
    /// Whether to use coalescing (GRO) where it works.
    pub coalescing: bool,
}

impl UringConfig {
    /// The usual: 4096 frames, buffers of 4 MiB, segmentation and coalescing where they work.
    pub fn new(address: SocketAddr) -> Self {
        let UdpConfig { address, pool, socket_buffer_bytes, segmentation, coalescing } =
            UdpConfig::new(address);
        UringConfig { address, pool, socket_buffer_bytes, segmentation, coalescing }
    }

    /// The socket's part, which is all but the name.
    fn socket(&self) -> UdpConfig {
        let UringConfig { address, pool, socket_buffer_bytes, segmentation, coalescing } = *self;
        UdpConfig { address, pool, socket_buffer_bytes, segmentation, coalescing }
    }
}

/// Whether this process can open such a port, found out by making a ring.
///
/// # Errors
/// What is missing, with the command that mends it.
pub fn probe() -> Result<(), UringError> {
    let opened = Opened::open(&UdpConfig {
        segmentation: false,
        coalescing: false,
        ..UdpConfig::new(([127, 0, 0, 1], 0).into())
    })?;
    let incoming = Incoming::new(false);
    Ring::new(opened.socket.descriptor.as_fd(), incoming.buffers(), 8, 8)?;
    Ok(())
}

/// What is left to be done after runs of packets were refused.
#[derive(Clone, Copy, Debug, Default)]
struct Trial {
    /// Packets at the head of the queue that are to go one by one.
    packets: usize,
    /// Whether the kernel said that it cannot segment, rather than that it cannot reach.
    refused: bool,
}

/// A port over a UDP socket, by io_uring. It may be moved to another thread until that thread
/// receives or transmits for the first time; from then on it belongs to it.
pub struct UringPort {
    // Dropped first: then the kernel looks at nothing of what follows any more.
    ring: Ring,
    incoming: Incoming,
    outgoing: Outgoing,
    queue: TransmitQueue,
    pool: FramePool,
    trial: Trial,
    /// Whether the network could take no more in this call.
    blocked: bool,
    fault: Option<PortFault>,
    local: SocketAddr,
    capabilities: Capabilities,
    counters: PortCounters,
    /// The ring has it registered; this is to have a name for it.
    _socket: OwnedFd,
}

impl UringPort {
    /// Opens a port and finds out what the kernel can do for it.
    ///
    /// # Errors
    /// See [`UringError`]: the process may not use io_uring, the kernel is too old, the address
    /// is taken, does not exist or is not allowed, or the pool's size is impossible.
    pub fn bind(config: UringConfig) -> Result<Self, UringError> {
        let socket_config = config.socket();
        let pool = FramePool::new(config.pool).map_err(UdpError::from)?;
        let opened = Opened::open(&socket_config)?;
        let incoming = Incoming::new(opened.coalesces());
        let messages = u32::from(MESSAGES_MAX);
        // Each buffer and each message has one completion at most, the receiving operation an end.
        let completions_max = u32::from(incoming.buffers().count()) + messages + 1;
        let descriptor = opened.socket.descriptor.as_fd();
        let ring = Ring::new(descriptor, incoming.buffers(), messages + 1, completions_max)?;
        Ok(UringPort {
            ring,
            incoming,
            outgoing: Outgoing::new(opened.socket.local),
            queue: TransmitQueue::new(pool.frames() as usize),
            pool,
            trial: Trial::default(),
            blocked: false,
            fault: None,
            local: opened.socket.local,
            capabilities: opened.capabilities("uring", &socket_config),
            counters: PortCounters::default(),
            _socket: opened.socket.descriptor,
        })
    }

    /// Enters the kernel once, and reads what has completed. True: packets came.
    #[inline]
    fn enter(&mut self) -> bool {
        if self.fault.is_some() {
            return false;
        }
        if let Err(error) = self.ring.enter() {
            self.fail(&error);
            return false;
        }
        self.collect()
    }

    /// Reads what has completed. True: packets came.
    #[inline]
    fn collect(&mut self) -> bool {
        let UringPort { ring, incoming, outgoing, pool, counters, capabilities, trial, .. } = self;
        let mut packets_came = false;
        for entry in ring.completions() {
            if entry.user_data() == RECEIVE {
                packets_came |= incoming.complete(&entry, counters);
            } else if let Some(left) = outgoing.complete(entry.user_data(), entry.result()) {
                counters.transmitted_packets += left.frames.len() as u64;
                counters.transmitted_bytes += left.bytes;
                left.frames.iter().for_each(|frame| pool.end_transmission(*frame));
                if left.trial && trial.refused && capabilities.segmentation {
                    stop_segmentation(capabilities);
                }
            }
        }
        counters.receive_calls += u64::from(packets_came);
        if self.outgoing.has_failures() {
            self.settle_failures();
        }
        packets_came
    }

    /// Decides what becomes of messages that did not leave, the last of them first, so that what
    /// goes back to the queue stays in order.
    #[cold]
    fn settle_failures(&mut self) {
        let mut put_back = 0;
        let mut run_failed = false;
        while let Some((failure, packets)) = self.outgoing.last_failure() {
            let is_blocked = matches!(failure.errno, libc::EAGAIN | libc::ENOBUFS | libc::EINTR);
            let is_run = failure.packets > 1;
            if is_blocked {
                // The device's queue or the socket's buffer is full: later.
                self.blocked = true;
            } else if is_run {
                self.counters.segmentation_failures += 1;
                run_failed = true;
                let error = io::Error::from_raw_os_error(failure.errno);
                self.trial.refused |= is_refusal(&error);
            }
            for packet in packets {
                if (is_blocked || is_run) && self.queue.put_back(packet) {
                    put_back += 1;
                } else {
                    // Unreachable, filtered or too long for the path: as good as lost there.
                    self.counters.transmit_errors += 1;
                    self.pool.end_transmission(packet.frame);
                }
            }
        }
        self.counters.transmit_blocked += u64::from(self.blocked);
        if run_failed {
            self.trial.packets = put_back;
        }
    }

    /// Gives everything up: the kernel takes nothing from this port any more.
    #[cold]
    fn fail(&mut self, error: &io::Error) {
        self.fault = Some(match error.raw_os_error() {
            Some(libc::EEXIST) => PortFault::OtherThread,
            errno => PortFault::Refused { errno: errno.unwrap_or_default() },
        });
        while let Some(packets) = self.outgoing.abandon() {
            for packet in packets {
                self.counters.transmit_errors += 1;
                self.pool.end_transmission(packet.frame);
            }
        }
        self.drop_queue();
    }

    #[cold]
    fn drop_queue(&mut self) {
        while let Some(queued) = self.queue.pop() {
            self.counters.transmit_errors += 1;
            self.pool.end_transmission(queued.frame);
        }
    }

    /// Looks for arrivals, in shared memory and, if the kernel waits with some, by a call.
    #[inline]
    fn fetch(&mut self) -> bool {
        if self.collect() {
            return true;
        }
        if !self.incoming.arm(&mut self.ring) {
            self.counters.receive_starved += 1;
            return false;
        }
        let packets_came = (self.ring.has_work() || self.ring.has_pushed()) && self.enter();
        self.counters.empty_polls += u64::from(!packets_came);
        packets_came
    }
}

impl Frames for UringPort {
    forward_frames!(pool);
}

impl Port for UringPort {
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
        if self.queue.is_empty() {
            if self.outgoing.is_under_way() {
                self.collect();
            }
            return;
        }
        if self.fault.is_some() {
            return self.drop_queue();
        }
        self.blocked = false;
        loop {
            let UringPort { queue, pool, ring, trial, .. } = self;
            let segmentation = self.capabilities.segmentation;
            let pushed = self.outgoing.push(queue, pool, ring, segmentation, &mut trial.packets);
            // In the same call, as it costs nothing here.
            self.incoming.arm(ring);
            self.counters.transmit_calls += 1;
            self.enter();
            // Only a run that was refused is worth another call: to learn the reason.
            if !pushed || self.trial.packets == 0 || self.blocked || self.queue.is_empty() {
                break;
            }
        }
        if self.trial.packets == 0 {
            self.trial.refused = false;
        }
    }

    #[inline]
    fn receive(&mut self, burst: &mut Burst) -> usize {
        if burst.room() == 0 || !self.incoming.has_undelivered() && !self.fetch() {
            return 0;
        }
        self.incoming.deliver(burst, &mut self.counters)
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
        Some(self.ring.bell())
    }

    fn prepare_wait(&mut self) -> bool {
        self.transmit();
        if self.fault.is_some() {
            return true;
        }
        if !self.queue.is_empty() || self.incoming.has_undelivered() {
            return false;
        }
        // From here on the kernel rings. What came before is found by the call.
        self.ring.listen();
        self.incoming.arm(&mut self.ring);
        self.enter();
        // What the kernel has not taken, for want of memory, nobody would come back for.
        let is_complete = self.incoming.is_armed() && !self.ring.has_pushed();
        let has_work = self.incoming.has_undelivered() || !is_complete;
        if has_work {
            self.ring.stop_listening();
        }
        !has_work
    }

    fn end_wait(&mut self) {
        self.ring.stop_listening();
    }

    fn fault(&self) -> Option<PortFault> {
        self.fault
    }

    fn counters(&self) -> PortCounters {
        PortCounters { frames_exhausted: self.pool.exhausted(), ..self.counters }
    }
}

#[cfg(test)]
#[allow(unsafe_code)] // pushes an operation that is none of the port's
mod tests;
