//! What the kernel can do for UDP, found out by doing it.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use nic_wire::ConnectionId;
use nic_wire::packet::{PacketHeader, PacketKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::incoming::Incoming;
use super::outgoing::Outgoing;
use super::socket::{self, Socket};
use crate::pool::{FramePool, PoolConfig};
use crate::queue::Queued;
use crate::{Burst, PortCounters, Share};

/// Why an offload is off, or `None` if it works.
pub(crate) type Missing = Option<Cow<'static, str>>;

/// What was found out.
pub(crate) struct Offloads {
    pub(crate) segmentation: Missing,
    pub(crate) coalescing: Missing,
}

/// How many packets the probe sends in one piece, and how long each is.
const PACKETS: usize = 2;
const PACKET_BYTES: usize = 64;

/// Sends a segmented message from one loopback socket to another of the same family.
///
/// Where the loopback itself does not work (a new network namespace has it down), segmentation is
/// taken to be there: the port falls back by itself when a send proves otherwise.
pub(crate) fn probe(family: &SocketAddr) -> Offloads {
    let loopback: IpAddr = match family {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let address = SocketAddr::new(loopback, 0);
    let pair = Socket::open(address, 0).and_then(|left| Ok((left, Socket::open(address, 0)?)));
    let Ok((sender, receiver)) = pair else {
        return Offloads { segmentation: None, coalescing: None };
    };
    let coalescing = socket::coalesce(receiver.descriptor.as_fd()).err().map(|error| {
        Cow::from(format!("gro off: the kernel has no UDP_GRO ({error}); Linux 5.0 has it"))
    });
    let segmentation = match exchange(&sender, &receiver) {
        Ok(()) => None,
        Err(error) if is_refusal(&error) => Some(Cow::from(format!(
            "gso off: a segmented send over the loopback failed ({error}); Linux 4.18 has \
             UDP_SEGMENT"
        ))),
        Err(_) => None,
    };
    Offloads { segmentation, coalescing }
}

/// Whether the kernel says that it cannot do segmentation, rather than that it cannot reach.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOPROTOOPT)
    )
}

/// Sends one run of packets and sees that it arrives as that many packets.
fn exchange(sender: &Socket, receiver: &Socket) -> io::Result<()> {
    let mut pool = FramePool::new(PoolConfig::with_frames(8)).map_err(io::Error::other)?;
    let frame = pool.allocate(Share::Reply).ok_or(io::ErrorKind::OutOfMemory)?;
    PacketHeader::new(PacketKind::Data, ConnectionId::NONE)
        .write(&mut pool.bytes_mut(frame)[..PACKET_BYTES]);
    let packet = Queued { frame, length: PACKET_BYTES as u32, to: receiver.local };
    Outgoing::new(&sender.local)
        .send(sender.descriptor.as_fd(), &pool, &[packet; PACKETS], true)
        .map_err(|(error, _)| error)?;

    let mut incoming = Incoming::new(true);
    let mut burst = Burst::new(PACKETS);
    let mut counters = PortCounters::default();
    while burst.len() < PACKETS {
        let mut readable = [PollFd::new(&receiver.descriptor, PollFlags::IN)];
        let patience = Timespec { tv_sec: 1, tv_nsec: 0 };
        if poll(&mut readable, Some(&patience))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        incoming.receive(receiver.descriptor.as_fd(), &mut burst, &mut counters);
        if counters.receive_foreign != 0 {
            // It came in one piece without a word on its parts.
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
    }
    let whole = burst.views().iter().all(|view| view.length as usize == PACKET_BYTES);
    if whole { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)) }
}
