//! Entry points into `nic-wire`.

use alloc::string::ToString;

use nic_wire::control::{self, ControlReply, ControlRequest, MAX_CONTROL_BYTES};
use nic_wire::frame::{Frame, Frames};
use nic_wire::packet::{DEFAULT_PACKET_BYTES, Packet};
use nic_wire::ticket::Ticket;

/// Parses a packet and its op frames; returns how many frames are sound.
// SAFETY: no other symbol of this name exists; nothing is linked with this library.
#[unsafe(no_mangle)]
pub extern "C" fn nic_no_std_parse(fill: u8) -> usize {
    let packet = [fill; DEFAULT_PACKET_BYTES];
    if Packet::parse(&packet).is_err() {
        return 0;
    }
    let sound = |frame: &Result<_, _>| matches!(frame, Ok(Frame::Request(..) | Frame::Reply(..)));
    Frames::new(&packet).filter(sound).count()
}

/// Reads control messages and tickets and writes them again.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn nic_no_std_control(fill: u8) -> usize {
    let (message, mut written) = ([fill; 64], [0; MAX_CONTROL_BYTES]);
    let request = control::decode::<ControlRequest>(&message);
    let reply = control::decode::<ControlReply>(&message);
    let ticket = core::str::from_utf8(&message).ok().and_then(|text| text.parse::<Ticket>().ok());
    request.map_or(0, |request| control::encode(&request, &mut written).unwrap_or(0))
        + reply.map_or(0, |reply| control::encode(&reply, &mut written).unwrap_or(0))
        + ticket.map_or(0, |ticket| ticket.to_string().len())
}
