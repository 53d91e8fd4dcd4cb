//! A data packet full of small request frames.

use nic_wire::frame::{self, Frame, Frames, RequestFlags, request_bytes, write_pad};
use nic_wire::packet::{HEADER_BYTES, Packet, PacketHeader, PacketKind};
use nic_wire::{ConnectionId, KernelId, OpId, Rkey};

/// Length of a lookup's arguments in bytes.
const ARGUMENT_BYTES: usize = 32;

/// How many request frames a packet of this length holds.
pub fn request_count(packet_bytes: usize) -> usize {
    (packet_bytes - HEADER_BYTES) / request_bytes(ARGUMENT_BYTES, 0)
}

/// Fills a packet: header, as many requests as fit, padding. The ops are numbered from `first_op`.
#[inline]
pub fn emit_requests(packet: &mut [u8], first_op: u32) {
    let header = PacketHeader::new(PacketKind::Data, ConnectionId::from_raw(7));
    header.write(packet);
    let arguments = [0x5a; ARGUMENT_BYTES];
    let mut rest = &mut packet[HEADER_BYTES..];
    let mut sequence = first_op;
    loop {
        let request = frame::Request {
            op: OpId::from_raw(sequence),
            kernel: KernelId::SCAN_AND_READ,
            stream: 0,
            sequence,
            flags: RequestFlags::empty(),
            rkey: Rkey::new(1, 2, 3),
            budget_us: 1_000_000,
            reply_capacity: 1024,
            payload_length: 0,
            payload_offset: 0,
        };
        let Some(used) = frame::write_request(rest, &request, &arguments, 0, |_| {}) else { break };
        rest = &mut rest[used..];
        sequence += 1;
    }
    write_pad(rest);
}

/// Parses a packet and all its frames. Returns how many there are, and a sum over their fields, so
/// that none of them can be left unread.
#[inline]
pub fn parse_requests(packet: &[u8]) -> (usize, u64) {
    let Ok(packet) = Packet::parse(packet) else { return (0, 0) };
    let (mut count, mut sum) = (0, packet.header.connection_id.get());
    for frame in Frames::new(packet.body) {
        let Ok(Frame::Request(request, arguments, _)) = frame else { return (0, 0) };
        count += 1;
        sum += u64::from(request.op.raw())
            + u64::from(request.kernel.0)
            + u64::from(request.sequence)
            + request.rkey.secret.get()
            + u64::from(request.budget_us)
            + u64::from(request.reply_capacity)
            + u64::from(arguments[0]);
    }
    (count, sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_packet_is_read_as_it_was_written() {
        let mut packet = [0; 1400];
        emit_requests(&mut packet, 7);
        let (count, sum) = parse_requests(&packet);
        assert_eq!(count, request_count(1400));
        assert!(count > 10 && sum > 0);
    }
}
