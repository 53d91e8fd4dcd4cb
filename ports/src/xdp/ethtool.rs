//! Two settings of a device that decide what reaches a port: queues, and VLAN tags taken off.

use std::os::fd::{AsRawFd, BorrowedFd};

const GET_FLAGS: u32 = 0x25;
const GET_CHANNELS: u32 = 0x3c;
const FLAG_RX_VLAN: u32 = 1 << 8;

/// `struct ethtool_channels`; `struct ethtool_value` is the first two words of it.
#[repr(C)]
#[derive(Default)]
struct Request {
    command: u32,
    words: [u32; 8],
}

/// How many queues the device receives on. `None`: it does not say.
pub(super) fn receive_queues(socket: BorrowedFd<'_>, device: &str) -> Option<u32> {
    // Receive-only, transmit-only, other, combined: those in use follow their maxima.
    let [_, _, _, _, receive, _, _, combined] = ask(socket, device, GET_CHANNELS)?;
    Some(receive + combined).filter(|queues| *queues > 0)
}

/// Whether the device takes VLAN tags off before a program sees the frame.
pub(super) fn takes_tags_off(socket: BorrowedFd<'_>, device: &str) -> bool {
    ask(socket, device, GET_FLAGS).is_some_and(|words| words[0] & FLAG_RX_VLAN != 0)
}

fn ask(socket: BorrowedFd<'_>, device: &str, command: u32) -> Option<[u32; 8]> {
    // SAFETY: `ifreq` is plain data; all zeroes is valid.
    let mut question: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero: the name ends.
    let room = question.ifr_name.len() - 1;
    if device.len() > room {
        return None;
    }
    for (to, from) in question.ifr_name.iter_mut().zip(device.bytes()) {
        // Signed or not, as the processor has it.
        *to = from as libc::c_char;
    }
    let mut request = Request { command, ..Request::default() };
    question.ifr_ifru.ifru_data = (&raw mut request).cast();
    // SAFETY: the name ends, and the data are as long as the longer of the two commands writes.
    let answer =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut question) };
    (answer == 0).then_some(request.words)
}
