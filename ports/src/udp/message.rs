//! What the kernel delivers: one packet, or a run of them in one piece, to be cut.

use std::net::SocketAddr;

use nic_wire::packet::{MAX_PACKET_BYTES, first_length};

use crate::{Burst, PortCounters, Received};

/// A message as the kernel described it, read once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    /// `None` for a family that no engine uses.
    pub(crate) from: Option<SocketAddr>,
    pub(crate) bytes: usize,
    /// Whether something was cut off.
    pub(crate) truncated: bool,
}

/// Sorts out messages that hold no packet at all.
#[inline]
pub(crate) fn judge(message: Message, counters: &mut PortCounters) -> Option<Message> {
    if message.truncated {
        counters.receive_truncated += 1;
        return None;
    }
    if message.bytes == 0 {
        counters.receive_foreign += 1;
        return None;
    }
    Some(message)
}

/// Puts the first packet of what is left of a message into a burst that has room, and returns its
/// length. `place` is where it begins: buffer and offset.
#[inline]
pub(crate) fn cut_first(
    rest: &[u8],
    place: (u32, u32),
    from: Option<SocketAddr>,
    burst: &mut Burst,
    counters: &mut PortCounters,
) -> usize {
    // What does not say how long it is goes on whole: the engine will tell why it is none.
    let length = first_length(rest).unwrap_or(rest.len());
    if let (Some(from), true) = (from, length <= MAX_PACKET_BYTES) {
        let (buffer, offset) = place;
        burst.push(Received { buffer, offset, length: length as u32, from, to_port: 0 });
        counters.received_packets += 1;
        counters.received_bytes += length as u64;
    } else {
        counters.receive_foreign += 1;
    }
    length
}
