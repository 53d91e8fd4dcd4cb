//! A port of a simulated network.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use nic_transport::{FrameId, Frames};
use nic_wire::packet::{DEFAULT_PACKET_BYTES, MAX_PACKET_BYTES};
use nic_wire::{Span, Time};

use super::SimError;
use super::state::State;
use crate::forward::{forward_frames, pooled_port};
use crate::lending::Lending;
use crate::queue::{Queued, TransmitQueue};
use crate::{Burst, Capabilities, FramePool, Port, PortCounters, Received, Share};

/// Receive buffers of a port, one packet each.
const RECEIVE_BUFFERS: usize = 256;

/// One port of a [`super::SimNetwork`].
pub struct SimPort {
    state: Rc<RefCell<State>>,
    local: SocketAddr,
    pool: FramePool,
    queue: TransmitQueue,
    /// Frames whose packets have left and that the port keeps a while longer.
    held: VecDeque<(FrameId, Time)>,
    buffers: Vec<u8>,
    lending: Lending,
    capabilities: Capabilities,
    counters: PortCounters,
}

impl SimPort {
    pub(super) fn attach(state: &Rc<RefCell<State>>, local: SocketAddr) -> Result<Self, SimError> {
        let config = state.borrow().config;
        let pool = FramePool::new(config.pool)?;
        state.borrow_mut().attach(local)?;
        let frames = pool.frames() as usize;
        Ok(SimPort {
            state: Rc::clone(state),
            local,
            queue: TransmitQueue::new(frames),
            held: VecDeque::with_capacity(2 * frames),
            buffers: vec![0; RECEIVE_BUFFERS * MAX_PACKET_BYTES],
            lending: Lending::new(RECEIVE_BUFFERS),
            capabilities: Capabilities {
                name: "sim",
                mode: Cow::Borrowed("simulated"),
                packet_bytes_max: config.packet_bytes_max.min(MAX_PACKET_BYTES),
                segmentation: false,
                coalescing: false,
                zero_copy: config.transmit_hold > Span::ZERO,
                in_memory: false,
                frames: pool.frames(),
                window_bytes: config.inbox_packets.saturating_mul(DEFAULT_PACKET_BYTES as u32),
                reasons: Vec::new(),
            },
            counters: PortCounters::default(),
            pool,
        })
    }

    /// Takes back the frames whose hold is over.
    fn reclaim(&mut self, now: Time) {
        while let Some(&(frame, until)) = self.held.front() {
            if until > now {
                return;
            }
            self.held.pop_front();
            self.pool.end_transmission(frame);
        }
    }
}

impl Frames for SimPort {
    forward_frames!(pool);
}

impl Port for SimPort {
    pooled_port!(pool);

    fn allocate(&mut self, share: Share) -> Option<FrameId> {
        self.pool.allocate(share)
    }

    fn submit(&mut self, frame: FrameId, length: usize, to: SocketAddr) {
        let reachable = to.port() != 0 && to.is_ipv4() == self.local.is_ipv4();
        if length == 0 || length > self.capabilities.packet_bytes_max || !reachable {
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

    fn transmit(&mut self) {
        let state = Rc::clone(&self.state);
        let mut state = state.borrow_mut();
        self.reclaim(state.now);
        if self.queue.is_empty() {
            return;
        }
        if state.is_paused(self.local.ip()) {
            self.counters.transmit_blocked += 1;
            return;
        }
        self.counters.transmit_calls += 1;
        let hold = state.config.transmit_hold;
        while let Some(queued) = self.queue.pop() {
            let bytes = &self.pool.bytes(queued.frame)[..queued.length as usize];
            state.send(self.local, queued.to, bytes);
            self.counters.transmitted_packets += 1;
            self.counters.transmitted_bytes += u64::from(queued.length);
            if hold > Span::ZERO && self.held.len() < self.held.capacity() {
                let until = state.now + hold;
                self.held.push_back((queued.frame, until));
                state.schedule_frame_return(until);
            } else {
                self.pool.end_transmission(queued.frame);
            }
        }
    }

    fn receive(&mut self, burst: &mut Burst) -> usize {
        let state = Rc::clone(&self.state);
        let mut state = state.borrow_mut();
        let length_before = burst.len();
        if state.is_paused(self.local.ip()) {
            self.counters.empty_polls += 1;
            return 0;
        }
        while burst.room() > 0 {
            let Some(number) = state.next_waiting(&self.local) else { break };
            if self.lending.free() == 0 {
                self.counters.receive_starved += 1;
                break;
            }
            if let Some((parcel, bytes)) = state.store.get(number) {
                let buffer = self.lending.next();
                let start = buffer * MAX_PACKET_BYTES;
                self.buffers[start..start + parcel.length].copy_from_slice(bytes);
                self.lending.take(1);
                burst.push(Received {
                    buffer: buffer as u32,
                    offset: 0,
                    length: parcel.length as u32,
                    from: parcel.from,
                    to_port: 0,
                });
                self.counters.received_packets += 1;
                self.counters.received_bytes += parcel.length as u64;
            }
            state.remove_waiting(&self.local);
        }
        self.lending.lent(burst, length_before);
        let received = burst.len() - length_before;
        if received == 0 {
            self.counters.empty_polls += 1;
        } else {
            self.counters.receive_calls += 1;
        }
        received
    }

    fn view<'a>(&'a self, received: &Received) -> &'a [u8] {
        let buffer = received.buffer as usize;
        assert!(buffer < self.lending.next(), "a packet whose burst was released");
        let start = buffer * MAX_PACKET_BYTES + received.offset as usize;
        &self.buffers[start..start + received.length as usize]
    }

    fn release_burst(&mut self, burst: &mut Burst) {
        if self.lending.returned(burst) {
            self.lending.reclaim();
        }
    }

    fn wait_descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn prepare_wait(&mut self) -> bool {
        let state = self.state.borrow();
        self.queue.is_empty() && state.next_waiting(&self.local).is_none()
    }

    fn counters(&self) -> PortCounters {
        PortCounters { frames_exhausted: self.pool.exhausted(), ..self.counters }
    }
}

impl Drop for SimPort {
    fn drop(&mut self) {
        self.state.borrow_mut().detach(self.local);
    }
}
