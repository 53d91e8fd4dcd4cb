//! A port at work: one queue of a device.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use nic_transport::{FrameId, Frames};

use super::DpdkConfig;
use super::answers::{Answers, Resolver};
use super::device::Device;
use super::frames::FrameTable;
use super::incoming::{Accepted, Incoming};
use super::member;
use super::neighbours::Neighbours;
use super::outgoing::{DriverHabits, Outgoing};
use super::watch::{Watch, Watched};
use crate::forward::{forward_frames, pooled_port};
use crate::link::{Destinations, Endpoint};
use crate::{Burst, Capabilities, MacAddress, Port, PortCounters, Received, Share};

/// How long an idle engine may sleep: nothing wakes it.
const SLEEP_MAX: Duration = Duration::from_micros(5);

/// What a port is made of.
pub(super) struct Parts<'a> {
    pub(super) device: Arc<Device>,
    pub(super) queue: u16,
    pub(super) queues: u16,
    pub(super) frames: FrameTable,
    pub(super) mac: MacAddress,
    pub(super) neighbours: Arc<Neighbours>,
    pub(super) habits: DriverHabits,
    pub(super) capabilities: Capabilities,
    pub(super) config: &'a DpdkConfig,
}

/// A queue of a device of DPDK.
pub struct DpdkPort {
    local: SocketAddr,
    mac: MacAddress,
    device_port: u16,
    queue: u16,
    frames: FrameTable,
    destinations: Destinations,
    neighbours: Arc<Neighbours>,
    answers: Answers,
    outgoing: Outgoing,
    incoming: Incoming,
    watched: Option<Arc<Watched>>,
    /// Whether the thread that drives it is known to DPDK.
    joined: bool,
    capabilities: Capabilities,
    counters: PortCounters,
    /// Dropped last: closes the device, when this is the last port.
    _device: Arc<Device>,
}

// SAFETY: what the pointers within refer to (mbufs, their pool) belongs to this port, or to a
// device that it keeps open, and none of it to a thread. The table, the queue and the bursts are
// reached only through the port.
unsafe impl Send for DpdkPort {}

impl DpdkPort {
    pub(super) fn new(parts: Parts<'_>) -> Self {
        let Parts { device, queue, queues, frames, mac, neighbours, habits, .. } = parts;
        let config = parts.config;
        let ip = config.address.ip();
        let local = SocketAddr::new(ip, config.address.port() + queue);
        let accepted = Accepted {
            address: ip,
            first_port: config.address.port(),
            ports: queues,
            vlan: config.vlan,
        };
        let packets_max = frames.ledger().frames() as usize;
        DpdkPort {
            local,
            mac,
            device_port: device.port,
            queue,
            destinations: Destinations::new(Endpoint { mac, address: local, vlan: config.vlan }),
            neighbours,
            answers: Answers::new(frames.pool(), config.vlan),
            outgoing: Outgoing::new(device.port, queue, packets_max, habits),
            incoming: Incoming::new(device.port, queue, accepted),
            watched: device.watch().map(Watch::watched),
            joined: false,
            capabilities: parts.capabilities,
            counters: PortCounters::default(),
            frames,
            _device: device,
        }
    }

    /// The device's Ethernet address.
    pub fn mac_address(&self) -> MacAddress {
        self.mac
    }

    /// Whether the link was up when it was last looked at, a tenth of a second ago at most.
    /// While it is down, packets are dropped and counted.
    #[inline]
    pub fn link_is_up(&self) -> bool {
        self.watched.as_ref().is_none_or(|watched| watched.is_up())
    }

    /// A link that is down carries nothing, and who was to take the packets may be gone for good.
    #[cold]
    fn give_up(&mut self) {
        self.answers.clear();
        self.outgoing.drop_waiting(&mut self.frames, &mut self.counters);
        self.outgoing.take_back(&mut self.frames, &mut self.counters);
    }

    /// Submits a frame that has not left since it was last submitted: as it is if it goes where it
    /// went, else as a copy, since its headers may be read at any moment.
    #[cold]
    fn submit_again(&mut self, frame: FrameId, length: usize, to: SocketAddr) {
        let DpdkPort { neighbours, answers, .. } = self;
        let mut resolver = Resolver { neighbours, answers };
        let Some(header) = self.destinations.header(to, &mut resolver) else {
            self.counters.transmit_unresolved += 1;
            return;
        };
        if let Some(mbuf) = self.frames.stage_again(frame, header, length) {
            return self.outgoing.push(frame, mbuf, length);
        }
        let Some(copy) = self.frames.duplicate(frame, length) else {
            self.counters.transmit_errors += 1;
            return;
        };
        let mbuf = self.frames.stage(copy, header, length);
        self.frames.release(copy);
        self.outgoing.push(copy, mbuf, length);
    }
}

impl Frames for DpdkPort {
    forward_frames!(frames);
}

impl Port for DpdkPort {
    pooled_port!(frames);

    #[inline]
    fn allocate(&mut self, share: Share) -> Option<FrameId> {
        self.frames.allocate(share)
    }

    #[inline]
    fn submit(&mut self, frame: FrameId, length: usize, to: SocketAddr) {
        let reachable = to.port() != 0 && to.is_ipv4() == self.local.is_ipv4();
        if length == 0 || length > self.capabilities.packet_bytes_max || !reachable {
            self.counters.transmit_refused += 1;
            return;
        }
        if !self.outgoing.has_place() {
            self.transmit();
            if !self.outgoing.has_place() {
                self.counters.transmit_errors += 1;
                return;
            }
        }
        if self.frames.is_queued(frame) {
            return self.submit_again(frame, length, to);
        }
        let DpdkPort { neighbours, answers, .. } = self;
        let mut resolver = Resolver { neighbours, answers };
        let Some(header) = self.destinations.header(to, &mut resolver) else {
            self.counters.transmit_unresolved += 1;
            return;
        };
        let mbuf = self.frames.stage(frame, header, length);
        self.outgoing.push(frame, mbuf, length);
    }

    #[inline]
    fn transmit(&mut self) {
        if !self.link_is_up() {
            return self.give_up();
        }
        if !self.answers.is_empty() {
            self.answers.send(self.device_port, self.queue);
        }
        if !self.outgoing.is_empty() {
            self.outgoing.transmit(&mut self.frames, &mut self.counters);
        }
        if self.outgoing.has_in_flight() {
            self.outgoing.reclaim(&mut self.frames, &mut self.counters);
        }
    }

    #[inline]
    fn receive(&mut self, burst: &mut Burst) -> usize {
        if !self.joined {
            self.joined = true;
            member::join();
        }
        if burst.room() == 0 {
            return 0;
        }
        self.incoming.receive(burst, &self.neighbours, &mut self.answers, &mut self.counters)
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
        None
    }

    fn sleep_max(&self) -> Option<Duration> {
        Some(SLEEP_MAX)
    }

    fn prepare_wait(&mut self) -> bool {
        self.transmit();
        self.outgoing.is_empty() && self.answers.is_empty() && !self.incoming.look()
    }

    fn counters(&self) -> PortCounters {
        let mut counters = self.counters;
        counters.frames_exhausted = self.frames.ledger().exhausted();
        self.answers.count(&mut counters);
        counters
    }
}
