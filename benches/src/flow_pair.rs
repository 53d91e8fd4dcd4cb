//! Two ends of a flow, with no port between them.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use nic_ports::{FramePool, PoolConfig, Share};
use nic_transport::{
    AckDue, CONTROL_BYTES_MAX, Config, Endpoint, FlowEvent, FlowHandle, FrameId, Frames, Handled,
    Protection,
};
use nic_wire::packet::HEADER_BYTES;
use nic_wire::{Span, Time};

/// A flow from an initiator to a target. Packets go straight from a frame into the other endpoint.
pub struct FlowPair<P: Protection> {
    ends: [End; 2],
    protection: P,
    now: Time,
}

struct End {
    endpoint: Endpoint,
    address: SocketAddr,
    flow: Option<FlowHandle>,
    pool: Pool,
}

impl<P: Protection> FlowPair<P> {
    /// Opens a flow.
    ///
    /// # Errors
    /// The handshake fails, which only a defect can bring about.
    pub fn open(mut protection: P) -> Result<Self> {
        let end = |port| -> Result<End> {
            Ok(End {
                endpoint: Endpoint::new(Config::default(), 0, u64::from(port), 1)?,
                address: ([127, 0, 0, 1], port).into(),
                flow: None,
                pool: Pool(FramePool::new(PoolConfig::default())?),
            })
        };
        let mut ends = [end(4000)?, end(4001)?];
        let (now, mut packet) = (Time::from_ns(1_000_000), [0; CONTROL_BYTES_MAX]);
        let target = ends[1].address;
        ends[0].flow = Some(ends[0].endpoint.connect(now, target, None)?);
        // INIT, RETRY, INIT with the cookie, ACCEPT, and the acks that follow.
        for turn in 0..16 {
            let [from, to] = if turn % 2 == 0 { [0, 1] } else { [1, 0] };
            let sent = ends[from].endpoint.poll_control(now, &mut packet, &mut protection);
            let Some((length, _)) = sent else { continue };
            let address = ends[from].address;
            let End { endpoint, pool, .. } = &mut ends[to];
            endpoint.handle(now, address, &packet[..length], &mut protection, pool);
        }
        for end in &mut ends {
            match end.endpoint.poll_event() {
                Some(FlowEvent::Opened { flow, .. }) => end.flow = Some(flow),
                other => bail!("the flow did not open: {other:?}"),
            }
        }
        Ok(FlowPair { ends, protection, now })
    }

    /// Sends `count` packets of `length` bytes one way, accepts each, and takes one ack for all of
    /// them back.
    ///
    /// # Errors
    /// A packet is not let through: the window is smaller than the burst, or there is a defect.
    pub fn burst(&mut self, count: usize, length: usize) -> Result<()> {
        self.now += Span::from_us(10);
        let FlowPair { ends: [initiator, target], protection, now } = self;
        let (Some(out), Some(back)) = (initiator.flow, target.flow) else { bail!("no flow") };
        for _ in 0..count {
            let pool = &mut initiator.pool;
            let frame = pool.0.allocate(Share::Request).context("the pool has a free frame")?;
            let flow = initiator.endpoint.flow_mut(out).context("the flow is open")?;
            if !flow.may_send(length) {
                bail!("the window does not take {count} packets of {length} bytes");
            }
            flow.send(*now, frame, length, pool, protection);
            let packet = &pool.bytes(frame)[..length];
            let from = initiator.address;
            let handled = target.endpoint.handle(*now, from, packet, protection, &mut target.pool);
            let Handled::Data { flow, number, .. } = handled else { bail!("{handled:?}") };
            let flow = target.endpoint.flow_mut(flow).context("the flow is open")?;
            flow.accept(*now, number);
            pool.release(frame);
        }
        let mut ack = [0; HEADER_BYTES];
        let flow = target.endpoint.flow_mut(back).context("the flow is open")?;
        if flow.ack_due(*now) == AckDue::No {
            bail!("no ack is owed for {count} packets");
        }
        let written = flow.write_ack(*now, &mut ack, protection);
        let from = target.address;
        let pool = &mut initiator.pool;
        let handled = initiator.endpoint.handle(*now, from, &ack[..written], protection, pool);
        match handled {
            Handled::Ack { .. } => Ok(()),
            other => bail!("{other:?}"),
        }
    }
}

/// A port's pool without the port.
struct Pool(FramePool);

impl Frames for Pool {
    #[inline]
    fn bytes(&self, frame: FrameId) -> &[u8] {
        self.0.bytes(frame)
    }

    #[inline]
    fn bytes_mut(&mut self, frame: FrameId) -> &mut [u8] {
        self.0.bytes_mut(frame)
    }

    #[inline]
    fn retain(&mut self, frame: FrameId) {
        self.0.retain(frame);
    }

    #[inline]
    fn release(&mut self, frame: FrameId) {
        self.0.release(frame);
    }

    #[inline]
    fn is_queued(&self, frame: FrameId) -> bool {
        self.0.is_queued(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nic_transport::NotAuthentic;

    struct Nothing;

    impl Protection for Nothing {
        fn seal(&mut self, _: &mut [u8]) {}

        fn open(&mut self, packet: &[u8]) -> Result<std::ops::Range<usize>, NotAuthentic> {
            Ok(HEADER_BYTES..packet.len())
        }
    }

    #[test]
    fn frames_come_back_with_the_acks() {
        let mut pair = FlowPair::open(Nothing).unwrap();
        let free = pair.ends[0].pool.0.free();
        for _ in 0..1_000 {
            pair.burst(16, 1400).unwrap();
        }
        assert_eq!(pair.ends[0].pool.0.free(), free);
    }
}
