//! An opened port at work.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nic_shm::SharedMemory;
use nic_transport::{FrameId, Frames};
use nic_wire::packet::{DEFAULT_PACKET_BYTES, MAX_PACKET_BYTES};
use rustix::io::Errno;
use rustix::net::sockopt::xdp_mmap_offsets;
use rustix::net::xdp::{
    XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING,
};
use rustix::net::{RecvFlags, SendFlags};

use super::neighbours::Book;
use super::parts::XdpDescription;
use super::rings::{ConsumerRing, Descriptor, ProducerRing};
use super::umem::{CHUNK_BYTES, Chunks, LAYOUT};
use super::{XdpError, XdpMode, socket};
use crate::forward::{forward_frames, pooled_port};
use crate::link::{Destinations, Endpoint, Foreign, parse, payload_bytes_max};
use crate::{
    Burst, Capabilities, FramePool, MacAddress, Port, PortCounters, PortFault, Received, Share,
};

/// How many packets ahead of the one being looked at memory is asked for.
const LOOK_AHEAD: u32 = 2;

/// What a port is made of; the rest of its parts goes to the watcher.
pub(super) struct Half {
    pub(super) description: XdpDescription,
    pub(super) socket: Arc<OwnedFd>,
    pub(super) memory: SharedMemory,
    pub(super) link: OwnedFd,
}

/// A port over an AF_XDP socket.
pub struct XdpPort {
    /// Looked at by the watcher, for the moment that it takes.
    socket: Arc<OwnedFd>,
    local: SocketAddr,
    vlan: Option<u16>,
    pool: FramePool,
    transmit: ProducerRing<Descriptor>,
    completion: ConsumerRing<u64>,
    /// Descriptors whose completion has not come.
    in_flight: u32,
    /// Bytes of packets that were put into the ring since it was published.
    staged_bytes: u64,
    receive: ConsumerRing<Descriptor>,
    fill: ProducerRing<u64>,
    chunks: Chunks,
    destinations: Destinations,
    book: Book,
    /// Whether the device was switched off when the kernel was last asked to send.
    is_down: bool,
    fault: Option<PortFault>,
    /// While it is open, the program that steers packets here is attached.
    _link: OwnedFd,
    capabilities: Capabilities,
    counters: PortCounters,
}

impl XdpPort {
    pub(super) fn join(half: Half, book: Book) -> Result<Self, XdpError> {
        let Half { description, socket, memory, link } = half;
        let mapping = |error: io::Error| XdpError::System { step: "mapping rings", source: error };
        let shape = description.shape();
        let offsets = xdp_mmap_offsets(&*socket).map_err(|error| mapping(error.into()))?;
        let (fd, entries) = (socket.as_fd(), socket::transmit_entries(shape));
        let transmit = ProducerRing::map(fd, XDP_PGOFF_TX_RING, offsets.tx, entries);
        let completion = ConsumerRing::map(fd, XDP_UMEM_PGOFF_COMPLETION_RING, offsets.cr, entries);
        let receive = ConsumerRing::map(fd, XDP_PGOFF_RX_RING, offsets.rx, shape.chunks);
        let fill = ProducerRing::map(fd, XDP_UMEM_PGOFF_FILL_RING, offsets.fr, shape.chunks);
        let mut fill = fill.map_err(mapping)?;
        let memory = memory.memory();
        // SAFETY: of this memory the pool uses the part before the chunks and `Chunks` the rest;
        // the launcher has none of it mapped any more or never touches it, and the kernel writes
        // only chunks that stand in the fill ring.
        let (pool, chunks) = unsafe {
            (
                FramePool::in_shared_memory(description.pool(), memory.clone(), LAYOUT)?,
                Chunks::new(memory, shape),
            )
        };
        for address in chunks.addresses() {
            fill.push(address);
        }
        fill.publish();
        let mac = book.table().source.unwrap_or(MacAddress([0; 6]));
        let endpoint = Endpoint { mac, address: description.address, vlan: description.vlan };
        Ok(XdpPort {
            local: description.address,
            vlan: description.vlan,
            capabilities: capabilities(&description, book.table().mtu),
            pool,
            transmit: transmit.map_err(mapping)?,
            completion: completion.map_err(mapping)?,
            in_flight: 0,
            staged_bytes: 0,
            receive: receive.map_err(mapping)?,
            fill,
            chunks,
            destinations: Destinations::new(endpoint),
            book,
            is_down: false,
            fault: None,
            _link: link,
            counters: PortCounters::default(),
            socket,
        })
    }

    /// Writes the headers before a packet and puts it into the ring, where the kernel does not see
    /// it yet.
    #[inline]
    fn stage(&mut self, frame: FrameId, length: usize, to: SocketAddr) {
        let Some(header) = self.destinations.header(to, &mut self.book) else {
            self.counters.transmit_unresolved += 1;
            return;
        };
        let (headroom, packet) = self.pool.headroom_and_packet(frame, length);
        let header_bytes = header.write(headroom, packet);
        let descriptor = Descriptor {
            address: self.pool.place(frame) - header_bytes as u64,
            length: (header_bytes + length) as u32,
            options: 0,
        };
        if !self.transmit.push(descriptor) {
            self.counters.transmit_errors += 1;
            return;
        }
        self.pool.begin_transmission(frame);
        self.in_flight += 1;
        self.staged_bytes += length as u64;
    }

    /// The headers in the frame are those of an earlier submission that has not left: this one
    /// leaves from another frame.
    #[cold]
    fn stage_copy(&mut self, frame: FrameId, length: usize, to: SocketAddr) {
        let Some(copy) = self.allocate(self.pool.share(frame)) else {
            self.counters.transmit_errors += 1;
            return;
        };
        self.pool.copy(frame, copy, length);
        self.counters.transmit_copies += 1;
        self.stage(copy, length, to);
        self.pool.release(copy);
    }

    /// Takes back the frames that have left.
    #[inline]
    fn reap(&mut self) {
        if self.in_flight == 0 {
            return;
        }
        let completed = self.completion.available();
        for _ in 0..completed {
            let Some(address) = self.completion.take() else { break };
            let frame = FrameId((address / CHUNK_BYTES) as u32);
            if frame.0 >= self.pool.frames() || !self.pool.is_queued(frame) {
                self.counters.violations += 1;
                continue;
            }
            self.pool.end_transmission(frame);
            self.in_flight -= 1;
        }
        if completed != 0 {
            self.completion.release();
        }
    }

    /// Asks the kernel to send, as long as it wants to be asked and gets on. One call does it but
    /// for bursts that are longer than its patience, and packets that it drops.
    #[inline]
    fn kick(&mut self) {
        // Every packet may cost a call, if the device refuses each.
        let mut calls_left = self.transmit.unconsumed();
        while calls_left > 0 && self.transmit.needs_wakeup() {
            calls_left -= 1;
            let waiting = self.transmit.unconsumed();
            if waiting == 0 {
                return;
            }
            let answer = rustix::net::send(&*self.socket, &[], SendFlags::DONTWAIT);
            if answer.is_ok() {
                self.is_down = false;
                return;
            }
            let error = answer.err().unwrap_or(Errno::AGAIN);
            if !self.after_failure(error, waiting) {
                return;
            }
            self.counters.transmit_calls += 1;
        }
    }

    /// Decides what an error on sending means. True: go on.
    #[cold]
    fn after_failure(&mut self, error: Errno, waiting_before: u32) -> bool {
        let progress = self.transmit.unconsumed() != waiting_before;
        match error {
            // The device is switched off, or being set up anew; the packets wait for it. Should it
            // be gone, the watcher will say so.
            Errno::NETDOWN | Errno::NXIO => {
                self.is_down = true;
                self.counters.transmit_blocked += 1;
                false
            }
            // It took a packet and the device did not: no carrier, or a full queue.
            Errno::BUSY if progress => {
                self.counters.transmit_errors += 1;
                true
            }
            Errno::AGAIN | Errno::INTR if progress => true,
            _ => {
                self.counters.transmit_blocked += 1;
                false
            }
        }
    }

    #[cold]
    fn lose_device(&mut self) {
        self.fault.get_or_insert(PortFault::DeviceGone);
        // Nothing will complete what is in the ring.
        for frame in (0..self.pool.frames()).map(FrameId) {
            while self.pool.is_queued(frame) {
                self.counters.transmit_errors += 1;
                self.pool.end_transmission(frame);
            }
        }
        self.in_flight = 0;
    }

    /// Looks at what the watcher has found out.
    #[cold]
    fn hear(&mut self) {
        let table = self.book.table();
        let Some(mac) = table.source else { return self.lose_device() };
        self.capabilities.packet_bytes_max = packet_bytes_max(table.mtu, &self.local);
        self.destinations.move_to(mac);
    }

    /// Finds the packet in a frame that has arrived. `None`, counted: there is none for an engine.
    #[inline]
    fn judge(&mut self, descriptor: Descriptor) -> Option<Received> {
        let Some((chunk, offset)) = self.chunks.find(descriptor.address) else {
            self.counters.violations += 1;
            return None;
        };
        let Some(frame) = self.chunks.arrived(chunk, offset, descriptor.length) else {
            self.counters.violations += 1;
            return None;
        };
        let parsed = parse(frame, self.vlan);
        if let Ok(datagram) = &parsed
            && (1..=MAX_PACKET_BYTES).contains(&datagram.length)
        {
            self.chunks.lend(chunk);
            return Some(Received {
                buffer: chunk,
                offset: offset + datagram.offset as u32,
                length: datagram.length as u32,
                from: datagram.from,
                to_port: datagram.to.port(),
            });
        }
        match parsed {
            Err(Foreign::Truncated) => self.counters.receive_truncated += 1,
            _ => self.counters.receive_foreign += 1,
        }
        self.fill.push(descriptor.address & !(CHUNK_BYTES - 1));
        None
    }

    /// A poll found nothing.
    #[inline]
    fn find_nothing(&mut self) {
        if self.chunks.all_lent() {
            self.counters.receive_starved += 1;
            return;
        }
        self.counters.empty_polls += 1;
        if self.fill.needs_wakeup() {
            // The driver has stopped for want of chunks, and asks to be told of new ones.
            let _ = rustix::net::recv(&*self.socket, &mut [0; 0][..], RecvFlags::DONTWAIT);
        }
    }
}

fn packet_bytes_max(mtu: usize, local: &SocketAddr) -> usize {
    payload_bytes_max(mtu, local.is_ipv4()).min(MAX_PACKET_BYTES)
}

fn capabilities(description: &XdpDescription, mtu: usize) -> Capabilities {
    let mode = match description.mode {
        XdpMode::ZeroCopy => "native, zero copy",
        XdpMode::Native => "native, copy",
        XdpMode::Auto | XdpMode::Generic => "generic, copy",
    };
    let XdpDescription { device, queue, .. } = description;
    Capabilities {
        name: "xdp",
        mode: Cow::from(format!("{mode}, {device} queue {queue}")),
        packet_bytes_max: packet_bytes_max(mtu, &description.address),
        segmentation: false,
        coalescing: false,
        zero_copy: description.mode == XdpMode::ZeroCopy,
        in_memory: false,
        frames: description.pool().frames,
        window_bytes: description.chunks * DEFAULT_PACKET_BYTES as u32,
        reasons: description.reasons.clone(),
    }
}

impl Frames for XdpPort {
    forward_frames!(pool);
}

impl Port for XdpPort {
    pooled_port!(pool);

    #[inline]
    fn allocate(&mut self, share: Share) -> Option<FrameId> {
        if self.pool.available(share) == 0 {
            self.reap();
        }
        self.pool.allocate(share)
    }

    #[inline]
    fn submit(&mut self, frame: FrameId, length: usize, to: SocketAddr) {
        let reachable = to.port() != 0 && to.is_ipv4() == self.local.is_ipv4();
        if length == 0 || length > self.capabilities.packet_bytes_max || !reachable {
            self.counters.transmit_refused += 1;
            return;
        }
        if self.fault.is_some() {
            self.counters.transmit_errors += 1;
            return;
        }
        if self.pool.is_queued(frame) {
            return self.stage_copy(frame, length, to);
        }
        self.stage(frame, length, to);
    }

    #[inline]
    fn transmit(&mut self) {
        if self.book.turn() {
            self.hear();
        }
        self.reap();
        let new = self.transmit.publish();
        if new != 0 {
            self.counters.transmitted_packets += u64::from(new);
            self.counters.transmitted_bytes += std::mem::take(&mut self.staged_bytes);
            self.counters.transmit_calls += 1;
        }
        if self.transmit.unconsumed() != 0 && self.fault.is_none() {
            self.kick();
        }
    }

    #[inline]
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let room = burst.room();
        if room == 0 {
            return 0;
        }
        let available = self.receive.available().min(room as u32);
        if available == 0 {
            self.find_nothing();
            return 0;
        }
        let length_before = burst.len();
        for _ in 0..available {
            if let Some(ahead) = self.receive.peek(LOOK_AHEAD) {
                self.chunks.prefetch(ahead.address);
            }
            let Some(descriptor) = self.receive.take() else { break };
            let Some(received) = self.judge(descriptor) else { continue };
            burst.push(received);
            self.counters.received_bytes += u64::from(received.length);
        }
        self.receive.release();
        let received = burst.len() - length_before;
        self.counters.received_packets += received as u64;
        self.counters.receive_calls += 1;
        if received < available as usize {
            self.fill.publish();
        }
        received
    }

    #[inline]
    fn view<'a>(&'a self, received: &Received) -> &'a [u8] {
        self.chunks.view(received.buffer, received.offset, received.length)
    }

    #[inline]
    fn release_burst(&mut self, burst: &mut Burst) {
        if burst.is_empty() {
            return;
        }
        for received in burst.views() {
            match self.chunks.take_back(received.buffer) {
                Some(address) => {
                    self.fill.push(address);
                }
                None => debug_assert!(false, "a burst of another port was released"),
            }
        }
        self.fill.publish();
        burst.clear();
    }

    fn wait_descriptor(&self) -> Option<BorrowedFd<'_>> {
        // Of a device that is gone the socket may be readable for ever.
        self.fault.is_none().then_some(self.socket.as_fd())
    }

    fn prepare_wait(&mut self) -> bool {
        self.transmit();
        // The descriptor is readable while the receive ring has anything, and sleeping on it tells
        // a driver of new chunks. Nobody would come back for packets that the device did not take,
        // unless it is switched off: then there is no use in trying before its owner's next turn.
        let unsent = self.transmit.unconsumed() != 0 && !self.is_down && self.fault.is_none();
        self.receive.available() == 0 && !unsent
    }

    fn fault(&self) -> Option<PortFault> {
        self.fault
    }

    fn counters(&self) -> PortCounters {
        PortCounters {
            frames_exhausted: self.pool.exhausted(),
            receive_overruns: self.book.overruns(),
            ..self.counters
        }
    }
}
