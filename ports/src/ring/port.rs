//! One side of a ring at work.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use nic_shm::{ConsumerCursor, ProducerCursor, RacyMem, RingViolation, WakeReceiver, WakeSender};
use nic_transport::{FrameId, Frames};
use nic_wire::packet::{DEFAULT_PACKET_BYTES, MAX_PACKET_BYTES};

use super::join::{OwnSide, PeerSide};
use super::layout::{ENTRY_BYTES, Geometry};
use super::words::{self, SideWord};
use super::{RingConfig, RingError};
use crate::forward::{forward_frames, pooled_port};
use crate::lending::Lending;
use crate::pool::FrameLayout;
use crate::queue::{Queued, TransmitQueue};
use crate::{
    Burst, Capabilities, FRAME_STRIDE, FramePool, Port, PortCounters, PortFault, Received, Share,
};

/// Receive buffers, one packet each.
const RECEIVE_BUFFERS: usize = 256;

/// How many packets ahead of the one being copied memory is asked for.
const LOOK_AHEAD: u32 = 2;

/// So many packets are told of at once, whatever follows (start).
const PACKETS_TOGETHER: usize = 4;

/// One side of a ring port.
pub struct RingPort {
    local: SocketAddr,
    peer: SocketAddr,
    pool: FramePool,
    queue: TransmitQueue,
    sending: ProducerCursor<SideWord>,
    /// Our entries, which the peer reads.
    entries: RacyMem,
    /// The frames behind the entries that the peer has not consumed, oldest first.
    in_flight: VecDeque<FrameId>,
    receiving: ConsumerCursor<SideWord>,
    peer_entries: RacyMem,
    peer_frames: RacyMem,
    peer_geometry: Geometry,
    buffers: Vec<u8>,
    lending: Lending,
    /// Rung by the peer, and the end that it has a copy of.
    bell: (WakeSender, WakeReceiver),
    peer_bell: WakeSender,
    /// Whether the sleeping word is set.
    asleep: bool,
    fault: Option<PortFault>,
    capabilities: Capabilities,
    counters: PortCounters,
}

impl RingPort {
    pub(super) fn join(
        config: RingConfig,
        own: OwnSide,
        other: PeerSide,
        [local, peer]: [SocketAddr; 2],
    ) -> Result<Self, RingError> {
        let memory = own.memory.memory();
        let frames = own.geometry.frames_of(&memory)?;
        // SAFETY: the memory was made in `OwnSide::create`, sealed so that no other process can
        // write it; within this one only the pool is given the part that holds the frames.
        let pool = unsafe { FramePool::in_shared_memory(config.pool, frames, FrameLayout::PLAIN)? };
        let capacity = own.geometry.entries;
        let sending = words::sending(&memory, &other.memory)?;
        let receiving = words::receiving(&memory, &other.memory)?;
        Ok(RingPort {
            local,
            peer,
            queue: TransmitQueue::new(capacity as usize),
            sending: ProducerCursor::new(sending, capacity, 0),
            entries: own.geometry.entries_of(&memory)?,
            in_flight: VecDeque::with_capacity(capacity as usize),
            receiving: ConsumerCursor::new(receiving, other.geometry.entries, 0),
            peer_entries: other.geometry.entries_of(&other.memory)?,
            peer_frames: other.geometry.frames_of(&other.memory)?,
            peer_geometry: other.geometry,
            buffers: vec![0; RECEIVE_BUFFERS * MAX_PACKET_BYTES],
            lending: Lending::new(RECEIVE_BUFFERS),
            bell: own.bell,
            peer_bell: other.bell,
            asleep: false,
            fault: None,
            capabilities: Capabilities {
                name: "ring",
                mode: Cow::Borrowed("shared memory"),
                packet_bytes_max: MAX_PACKET_BYTES,
                segmentation: false,
                coalescing: false,
                zero_copy: true,
                in_memory: true,
                frames: pool.frames(),
                // Nothing is lost in between: what waits, waits in the peer's own frames.
                window_bytes: other.geometry.frames * DEFAULT_PACKET_BYTES as u32,
                reasons: Vec::new(),
            },
            counters: PortCounters::default(),
            pool,
        })
    }

    /// To be called when the peer is known to be dead: its socket gave end-of-file, or its
    /// process handle says so. All frames that it held come back; nothing moves any more.
    pub fn peer_gone(&mut self) {
        self.fail(PortFault::PeerGone);
    }

    #[cold]
    fn fail(&mut self, fault: PortFault) {
        self.fault.get_or_insert(fault);
        while let Some(frame) = self.in_flight.pop_front() {
            self.pool.end_transmission(frame);
        }
        self.drop_queue();
    }

    #[cold]
    fn violated(&mut self, violation: RingViolation) {
        self.counters.violations += 1;
        self.fail(PortFault::PeerViolated {
            found: violation.found.wrapping_sub(violation.least),
            expected_max: violation.most.wrapping_sub(violation.least),
        });
    }

    #[cold]
    fn drop_queue(&mut self) {
        while let Some(queued) = self.queue.pop() {
            self.counters.transmit_errors += 1;
            self.pool.end_transmission(queued.frame);
        }
    }

    /// Takes back the frames that the peer has consumed.
    #[inline]
    fn reclaim(&mut self) {
        if self.in_flight.is_empty() {
            return;
        }
        match self.sending.free(u32::MAX) {
            Ok(free) => {
                let unconsumed = (self.sending.capacity() - free) as usize;
                while self.in_flight.len() > unconsumed {
                    let Some(frame) = self.in_flight.pop_front() else { return };
                    self.pool.end_transmission(frame);
                }
            }
            Err(violation) => self.violated(violation),
        }
    }

    /// Puts queued packets into the ring while it has room.
    #[inline]
    fn stage(&mut self) {
        while let Some(queued) = self.queue.waiting().first().copied() {
            let index = match self.sending.next_index() {
                Ok(Some(index)) => index,
                Ok(None) => {
                    self.counters.transmit_blocked += 1;
                    return;
                }
                Err(violation) => return self.violated(violation),
            };
            let place = u64::from(index & (self.sending.capacity() - 1)) * ENTRY_BYTES;
            let entry = u64::from(queued.frame.0) | u64::from(queued.length) << 32;
            self.entries
                .write(place, &entry.to_le_bytes())
                .expect("a masked index lies within the entries, which are ours");
            self.sending.advance();
            self.in_flight.push_back(queued.frame);
            self.queue.pop();
            self.counters.transmitted_packets += 1;
            self.counters.transmitted_bytes += u64::from(queued.length);
        }
    }

    /// Copies the packet behind the peer's entry `index` into the next buffer. `None`: no correct
    /// peer writes such an entry.
    #[inline]
    fn copy(&mut self, index: u32) -> Option<Received> {
        let place = u64::from(index & (self.peer_geometry.entries - 1)) * ENTRY_BYTES;
        let (frame, length) = parted(self.peer_entries.read_array(place).ok()?);
        if frame >= self.peer_geometry.frames || length == 0 || length > MAX_PACKET_BYTES {
            return None;
        }
        let buffer = self.lending.next();
        let start = buffer * MAX_PACKET_BYTES;
        let into = &mut self.buffers[start..start + length];
        self.peer_frames.read(u64::from(frame) * FRAME_STRIDE as u64, into).ok()?;
        self.lending.take(1);
        Some(Received {
            buffer: buffer as u32,
            offset: 0,
            length: length as u32,
            from: self.peer,
            to_port: 0,
        })
    }

    /// Asks for the packet behind an entry that may not be there yet; then it is an old one, which
    /// does no harm.
    #[inline]
    fn prefetch(&self, index: u32) {
        let place = u64::from(index & (self.peer_geometry.entries - 1)) * ENTRY_BYTES;
        if let Ok(entry) = self.peer_entries.read_array(place) {
            let (frame, length) = parted(entry);
            self.peer_frames.prefetch(u64::from(frame) * FRAME_STRIDE as u64, length as u64);
        }
    }

    /// Takes up to `packets_max` entries and appends their packets to the burst.
    #[inline]
    fn take(&mut self, packets_max: usize, burst: &mut Burst) {
        // Entries are counted, not packets: bad ones must not keep us here.
        for _ in 0..packets_max {
            match self.receiving.next_index() {
                Ok(Some(index)) => {
                    self.prefetch(index.wrapping_add(LOOK_AHEAD));
                    let received = self.copy(index);
                    self.receiving.advance();
                    let Some(received) = received else {
                        self.counters.violations += 1;
                        continue;
                    };
                    burst.push(received);
                    self.counters.received_packets += 1;
                    self.counters.received_bytes += u64::from(received.length);
                }
                Ok(None) => return,
                Err(violation) => return self.violated(violation),
            }
        }
    }
}

/// The frame and the length that an entry names, which may be anything.
#[inline]
fn parted(entry: [u8; ENTRY_BYTES as usize]) -> (u32, usize) {
    let entry = u64::from_le_bytes(entry);
    (entry as u32, (entry >> 32) as usize)
}

impl Frames for RingPort {
    forward_frames!(pool);
}

impl Port for RingPort {
    pooled_port!(pool);

    #[inline]
    fn allocate(&mut self, share: Share) -> Option<FrameId> {
        if self.pool.available(share) == 0 {
            self.reclaim();
        }
        let frame = self.pool.allocate(share);
        self.pool.prefetch_next();
        frame
    }

    #[inline]
    fn submit(&mut self, frame: FrameId, length: usize, to: SocketAddr) {
        if length == 0 || length > MAX_PACKET_BYTES || to != self.peer {
            self.counters.transmit_refused += 1;
            return;
        }
        let queued = Queued { frame, length: length as u32, to };
        self.pool.begin_transmission(frame);
        if self.queue.push(queued) {
            // The other side begins with these while more are made.
            if self.queue.waiting().len() == PACKETS_TOGETHER {
                self.transmit();
            }
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
        if self.fault.is_some() {
            return self.drop_queue();
        }
        // Both of our counts lie in one line: told together, they cost one transfer of it.
        self.receiving.release();
        self.reclaim();
        if self.queue.is_empty() {
            return;
        }
        self.stage();
        if self.sending.unpublished() == 0 {
            return;
        }
        self.counters.transmit_calls += 1;
        if self.sending.publish() {
            self.counters.wakes += 1;
            self.peer_bell.ring();
        }
    }

    #[inline]
    fn receive(&mut self, burst: &mut Burst) -> usize {
        if self.fault.is_some() || burst.room() == 0 {
            return 0;
        }
        // What the last burst took is private by now, even if no transmit has told so since.
        self.receiving.release();
        let packets_max = burst.room().min(self.lending.free());
        if packets_max == 0 {
            self.counters.receive_starved += 1;
            return 0;
        }
        let length_before = burst.len();
        self.take(packets_max, burst);
        self.lending.lent(burst, length_before);
        let received = burst.len() - length_before;
        if received == 0 {
            self.counters.empty_polls += 1;
        } else {
            self.counters.receive_calls += 1;
        }
        received
    }

    #[inline]
    fn view<'a>(&'a self, received: &Received) -> &'a [u8] {
        let buffer = received.buffer as usize;
        assert!(buffer < self.lending.next(), "a packet whose burst was released");
        let start = buffer * MAX_PACKET_BYTES + received.offset as usize;
        &self.buffers[start..start + received.length as usize]
    }

    #[inline]
    fn release_burst(&mut self, burst: &mut Burst) {
        if self.lending.returned(burst) {
            self.lending.reclaim();
        }
    }

    fn wait_descriptor(&self) -> Option<BorrowedFd<'_>> {
        // Nothing arrives any more at a port that has failed, and its bell may ring for ever.
        self.fault.is_none().then_some(self.bell.1.as_fd())
    }

    fn prepare_wait(&mut self) -> bool {
        self.transmit();
        if self.fault.is_some() {
            return true;
        }
        // The peer rings when it sends, not when it makes room.
        if !self.queue.is_empty() || !self.receiving.prepare_sleep() {
            return false;
        }
        self.asleep = true;
        true
    }

    fn end_wait(&mut self) {
        if self.asleep {
            self.asleep = false;
            self.receiving.awake();
            // Only a peer that closes the bell on purpose makes it fail: our own copy keeps it open.
            if self.bell.1.drain().is_err() {
                self.counters.receive_errors += 1;
                self.peer_gone();
            }
        }
    }

    fn fault(&self) -> Option<PortFault> {
        self.fault
    }

    fn counters(&self) -> PortCounters {
        PortCounters { frames_exhausted: self.pool.exhausted(), ..self.counters }
    }
}
