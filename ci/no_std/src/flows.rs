//! Entry points into `nic-transport`.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::ops::Range;

use nic_transport::{
    CONTROL_BYTES_MAX, Config, Endpoint, FlowEvent, FrameId, Frames, Handled, NotAuthentic,
    Protection,
};
use nic_wire::Time;
use nic_wire::packet::{DEFAULT_PACKET_BYTES, HEADER_BYTES};

/// Takes every packet for whole.
struct Unprotected;

impl Protection for Unprotected {
    fn seal(&mut self, _packet: &mut [u8]) {}

    fn open(&mut self, packet: &[u8]) -> Result<Range<usize>, NotAuthentic> {
        packet.get(HEADER_BYTES..).ok_or(NotAuthentic)?;
        Ok(HEADER_BYTES..packet.len())
    }
}

/// Frames that are never given back.
struct Pool(Vec<[u8; DEFAULT_PACKET_BYTES]>);

impl Frames for Pool {
    fn bytes(&self, frame: FrameId) -> &[u8] {
        &self.0[frame.0 as usize]
    }

    fn bytes_mut(&mut self, frame: FrameId) -> &mut [u8] {
        &mut self.0[frame.0 as usize]
    }

    fn retain(&mut self, _frame: FrameId) {}

    fn release(&mut self, _frame: FrameId) {}

    fn is_queued(&self, _frame: FrameId) -> bool {
        false
    }
}

/// Two endpoints open a flow and exchange a packet, with all duties of a turn. Returns how many
/// packets the endpoints have received.
// SAFETY: no other symbol of this name exists; nothing is linked with this library.
#[unsafe(no_mangle)]
pub extern "C" fn nic_no_std_flow(seed: u64) -> u64 {
    let address = |last| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), 4000);
    let endpoint = |seed| Endpoint::new(Config::default(), 0, seed, 1);
    let (Ok(mut initiator), Ok(mut target)) = (endpoint(seed), endpoint(!seed)) else { return 0 };
    if initiator.connect(Time::ZERO, address(2), None).is_err() {
        return 0;
    }
    let mut frames = Pool(alloc::vec![[0; DEFAULT_PACKET_BYTES]; 4]);
    for turn in 0..8 {
        let now = Time::from_ns(turn);
        take_turn(now, address(1), &mut initiator, &mut target, &mut frames);
        take_turn(now, address(2), &mut target, &mut initiator, &mut frames);
    }
    initiator.counters().endpoint.packets_received + target.counters().endpoint.packets_received
}

/// All that one endpoint does in a turn; what it sends reaches the other at once.
fn take_turn(
    now: Time,
    from: SocketAddr,
    sender: &mut Endpoint,
    receiver: &mut Endpoint,
    frames: &mut Pool,
) {
    let mut packet = [0; DEFAULT_PACKET_BYTES];
    while let Some(event) = sender.poll_event() {
        match event {
            FlowEvent::Opened { flow, .. } => {
                let Some(flow) = sender.flow_mut(flow) else { continue };
                if flow.may_send(HEADER_BYTES) {
                    flow.send(now, FrameId(0), HEADER_BYTES, frames, &mut Unprotected);
                    packet[..HEADER_BYTES].copy_from_slice(&frames.0[0][..HEADER_BYTES]);
                    deliver(now, from, &packet[..HEADER_BYTES], receiver, frames);
                }
            }
            FlowEvent::Failed { flow, .. } | FlowEvent::Closed { flow, .. } => {
                sender.remove(flow, frames);
            }
        }
    }
    sender.on_timeout(now);
    while let Some(flow) = sender.poll_work() {
        let Some(flow) = sender.flow_mut(flow) else { continue };
        while let Some((frame, length)) = flow.retransmit(now, frames, &mut Unprotected) {
            packet[..length].copy_from_slice(&frames.bytes(frame)[..length]);
            deliver(now, from, &packet[..length], receiver, frames);
        }
        let length = flow.write_ack(now, &mut packet, &mut Unprotected);
        deliver(now, from, &packet[..length], receiver, frames);
    }
    let mut control = [0; CONTROL_BYTES_MAX];
    while let Some((length, _)) = sender.poll_control(now, &mut control, &mut Unprotected) {
        deliver(now, from, &control[..length], receiver, frames);
    }
}

fn deliver(now: Time, from: SocketAddr, packet: &[u8], receiver: &mut Endpoint, frames: &mut Pool) {
    let handled = receiver.handle(now, from, packet, &mut Unprotected, frames);
    if let Handled::Data { flow, number, .. } = handled
        && let Some(flow) = receiver.flow_mut(flow)
    {
        flow.accept(now, number);
    }
}
