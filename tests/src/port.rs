//! The port of the tests' engines: the simulator's, and on demand packets go astray.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

use nic_ports::sim::SimPort;
use nic_ports::{Burst, Capabilities, Port, PortCounters, PortFault, Received, Share};
use nic_transport::{FrameId, Frames};

/// Sends packets for one address to another, as a load balancer might between the engines of a
/// process. Shared by the port and the test.
#[derive(Clone, Debug, Default)]
pub struct Misdirection(Rc<RefCell<Option<Detour>>>, Rc<Cell<u16>>);

#[derive(Clone, Copy, Debug)]
struct Detour {
    from: SocketAddr,
    to: SocketAddr,
    packets: u32,
}

impl Misdirection {
    /// The next `packets` packets for `from` go to `to`.
    pub fn set(&self, from: SocketAddr, to: SocketAddr, packets: u32) {
        *self.0.borrow_mut() = Some(Detour { from, to, packets });
    }

    /// What is received from now on was sent to this UDP port, as on a queue that several engines
    /// share; 0: to the port's own.
    pub fn receive_for(&self, udp_port: u16) {
        self.1.set(udp_port);
    }

    /// How many of them are still to come.
    pub fn left(&self) -> u32 {
        self.0.borrow().map_or(0, |detour| detour.packets)
    }

    fn lead(&self, to: SocketAddr) -> SocketAddr {
        match &mut *self.0.borrow_mut() {
            Some(detour) if detour.from == to && detour.packets > 0 => {
                detour.packets -= 1;
                detour.to
            }
            _ => to,
        }
    }
}

/// A simulated port whose packets can be misdirected.
pub struct TestPort {
    inner: SimPort,
    misdirection: Misdirection,
}

impl TestPort {
    pub(crate) fn new(inner: SimPort, misdirection: Misdirection) -> Self {
        TestPort { inner, misdirection }
    }
}

impl Frames for TestPort {
    fn bytes(&self, frame: FrameId) -> &[u8] {
        self.inner.bytes(frame)
    }

    fn bytes_mut(&mut self, frame: FrameId) -> &mut [u8] {
        self.inner.bytes_mut(frame)
    }

    fn retain(&mut self, frame: FrameId) {
        self.inner.retain(frame);
    }

    fn release(&mut self, frame: FrameId) {
        self.inner.release(frame);
    }

    fn is_queued(&self, frame: FrameId) -> bool {
        self.inner.is_queued(frame)
    }
}

impl Port for TestPort {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn local_address(&self) -> SocketAddr {
        self.inner.local_address()
    }

    fn allocate(&mut self, share: Share) -> Option<FrameId> {
        self.inner.allocate(share)
    }

    fn available(&self, share: Share) -> usize {
        self.inner.available(share)
    }

    fn submit(&mut self, frame: FrameId, length: usize, to: SocketAddr) {
        self.inner.submit(frame, length, self.misdirection.lead(to));
    }

    fn transmit(&mut self) {
        self.inner.transmit();
    }

    fn receive(&mut self, burst: &mut Burst) -> usize {
        let received = self.inner.receive(burst);
        let to_port = self.misdirection.1.get();
        if to_port != 0 {
            let views: Vec<Received> = burst.views().to_vec();
            burst.clear();
            for view in views {
                assert!(burst.push(Received { to_port, ..view }), "as many as there were");
            }
        }
        received
    }

    fn view<'a>(&'a self, received: &Received) -> &'a [u8] {
        self.inner.view(received)
    }

    fn release_burst(&mut self, burst: &mut Burst) {
        self.inner.release_burst(burst);
    }

    fn wait_descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner.wait_descriptor()
    }

    fn sleep_max(&self) -> Option<Duration> {
        self.inner.sleep_max()
    }

    fn prepare_wait(&mut self) -> bool {
        self.inner.prepare_wait()
    }

    fn end_wait(&mut self) {
        self.inner.end_wait();
    }

    fn fault(&self) -> Option<PortFault> {
        self.inner.fault()
    }

    fn counters(&self) -> PortCounters {
        self.inner.counters()
    }
}
