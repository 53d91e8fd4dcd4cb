//! Opening a UDP socket and raising it to what an engine needs.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::UdpError;

/// An open socket: non-blocking, bound, its buffers raised.
pub(crate) struct Socket {
    pub(crate) descriptor: OwnedFd,
    /// The address that it has, with the port that the kernel chose if 0 was asked for.
    pub(crate) local: SocketAddr,
    /// What the kernel lets wait in the receive buffer, in bytes of its own accounting.
    pub(crate) receive_buffer_bytes: usize,
}

impl Socket {
    /// Opens a socket at `address` with buffers of `buffer_bytes`, or as near to it as the limits
    /// of an unprivileged process allow.
    pub(crate) fn open(address: SocketAddr, buffer_bytes: usize) -> Result<Self, UdpError> {
        let failed = |step| {
            move |error: rustix::io::Errno| UdpError::Socket { address, step, source: error.into() }
        };
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let descriptor = net::socket_with(family, SocketType::DGRAM, flags, None)
            .map_err(failed("socket(2)"))?;
        if address.is_ipv6() {
            // One family per port: an IPv4 peer would otherwise have two names.
            sockopt::set_ipv6_v6only(&descriptor, true).map_err(failed("IPV6_V6ONLY"))?;
        }
        forbid_fragments(descriptor.as_fd(), address).map_err(|source| UdpError::Socket {
            address,
            step: "forbidding fragments",
            source,
        })?;
        // The kernel cuts what is too much down to its limit, so these do not fail.
        sockopt::set_socket_recv_buffer_size(&descriptor, buffer_bytes)
            .map_err(failed("SO_RCVBUF"))?;
        sockopt::set_socket_send_buffer_size(&descriptor, buffer_bytes)
            .map_err(failed("SO_SNDBUF"))?;
        let receive_buffer_bytes =
            sockopt::socket_recv_buffer_size(&descriptor).map_err(failed("SO_RCVBUF"))?;
        net::bind(&descriptor, &address).map_err(|error| refused(address, error))?;
        let local = net::getsockname(&descriptor)
            .and_then(SocketAddr::try_from)
            .map_err(failed("getsockname(2)"))?;
        Ok(Socket { descriptor, local, receive_buffer_bytes })
    }
}

/// What a refused bind means.
pub(crate) fn refused(address: SocketAddr, error: rustix::io::Errno) -> UdpError {
    use rustix::io::Errno;
    match error {
        Errno::ADDRINUSE => UdpError::AddressInUse { address },
        Errno::ADDRNOTAVAIL => UdpError::NoSuchAddress { address },
        Errno::ACCESS | Errno::PERM => UdpError::Permission { address },
        _ => UdpError::Socket { address, step: "bind(2)", source: error.into() },
    }
}

/// Sets "do not fragment" and ignores what others claim of the path's MTU: flows find it out by
/// probing, and a packet that is too long must not arrive in pieces.
fn forbid_fragments(socket: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => {
            set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
        }
        SocketAddr::V6(_) => set_option(
            socket,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_PROBE,
        ),
    }
}

/// Asks the kernel to hand over runs of packets in one piece.
pub(crate) fn coalesce(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// Sets a socket option that rustix has no name for.
pub(crate) fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the kernel reads one C int from the address of a live one.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
