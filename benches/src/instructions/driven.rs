//! A port whose owner has another engine driven: one thread runs both ends.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use nic_ports::{Burst, Capabilities, Port, PortCounters, PortFault, Received, Share};
use nic_transport::{FrameId, Frames};

/// Before it looks for packets, the other end has a turn.
pub(super) struct Driven<P, T> {
    pub(super) port: P,
    pub(super) turn: T,
}

impl<P: Frames, T> Frames for Driven<P, T> {
    fn bytes(&self, frame: FrameId) -> &[u8] {
        self.port.bytes(frame)
    }

    fn bytes_mut(&mut self, frame: FrameId) -> &mut [u8] {
        self.port.bytes_mut(frame)
    }

    fn retain(&mut self, frame: FrameId) {
        self.port.retain(frame);
    }

    fn release(&mut self, frame: FrameId) {
        self.port.release(frame);
    }

    fn is_queued(&self, frame: FrameId) -> bool {
        self.port.is_queued(frame)
    }
}

impl<P: Port, T: FnMut()> Port for Driven<P, T> {
    fn capabilities(&self) -> &Capabilities {
        self.port.capabilities()
    }

    fn local_address(&self) -> SocketAddr {
        self.port.local_address()
    }

    fn allocate(&mut self, share: Share) -> Option<FrameId> {
        self.port.allocate(share)
    }

    fn available(&self, share: Share) -> usize {
        self.port.available(share)
    }

    fn submit(&mut self, frame: FrameId, length: usize, to: SocketAddr) {
        self.port.submit(frame, length, to);
    }

    fn transmit(&mut self) {
        self.port.transmit();
    }

    fn receive(&mut self, burst: &mut Burst) -> usize {
        (self.turn)();
        self.port.receive(burst)
    }

    fn view<'a>(&'a self, received: &Received) -> &'a [u8] {
        self.port.view(received)
    }

    fn release_burst(&mut self, burst: &mut Burst) {
        self.port.release_burst(burst);
    }

    fn wait_descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.port.wait_descriptor()
    }

    fn prepare_wait(&mut self) -> bool {
        // Somebody has to drive the other end.
        false
    }

    fn fault(&self) -> Option<PortFault> {
        self.port.fault()
    }

    fn counters(&self) -> PortCounters {
        self.port.counters()
    }
}
