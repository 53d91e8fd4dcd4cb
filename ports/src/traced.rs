//! A port that tells what it does, at trace level.

use std::net::SocketAddr;

use nic_transport::{FrameId, Frames};
use tracing::trace;

use crate::forward::{forward_frames, forward_port};
use crate::{Burst, Port, Received, Share};

/// A port around a port that emits a `tracing` event of level TRACE for every packet. Log lines
/// do not belong on the data path: wrap a port in this to look at something, not in production.
pub struct Traced<P> {
    inner: P,
}

impl<P: Port> Traced<P> {
    /// Tells what `inner` does.
    pub fn new(inner: P) -> Self {
        Traced { inner }
    }

    /// The port within.
    pub fn into_inner(self) -> P {
        self.inner
    }
}

impl<P: Port> Frames for Traced<P> {
    forward_frames!(inner);
}

impl<P: Port> Port for Traced<P> {
    forward_port!();

    fn allocate(&mut self, share: Share) -> Option<FrameId> {
        let frame = self.inner.allocate(share);
        match frame {
            Some(frame) => trace!(frame = frame.0, ?share, "frame allocated"),
            None => trace!(?share, "no frame is free"),
        }
        frame
    }

    fn submit(&mut self, frame: FrameId, length: usize, to: SocketAddr) {
        trace!(frame = frame.0, bytes = length, %to, "packet submitted");
        self.inner.submit(frame, length, to);
    }

    fn transmit(&mut self) {
        let before = self.inner.counters();
        self.inner.transmit();
        let after = self.inner.counters();
        let packets = after.transmitted_packets - before.transmitted_packets;
        let errors = after.transmit_errors - before.transmit_errors;
        let blocked = after.transmit_blocked - before.transmit_blocked;
        if packets + errors + blocked > 0 {
            trace!(packets, errors, blocked, "transmitted");
        }
    }

    fn receive(&mut self, burst: &mut Burst) -> usize {
        let before = burst.len();
        let received = self.inner.receive(burst);
        for view in &burst.views()[before..] {
            trace!(buffer = view.buffer, bytes = view.length, from = %view.from, "packet received");
        }
        received
    }

    fn view<'a>(&'a self, received: &Received) -> &'a [u8] {
        self.inner.view(received)
    }

    fn release_burst(&mut self, burst: &mut Burst) {
        if !burst.is_empty() {
            trace!(packets = burst.len(), "burst released");
        }
        self.inner.release_burst(burst);
    }

    fn prepare_wait(&mut self) -> bool {
        let may_sleep = self.inner.prepare_wait();
        trace!(may_sleep, "asked to sleep");
        may_sleep
    }
}
