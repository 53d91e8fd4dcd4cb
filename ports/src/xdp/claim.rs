//! An ordinary UDP socket at the port's address.
//!
//! It keeps the UDP port from others, answers "in use" when others have it, and spares peers the
//! kernel's "port unreachable" for what the steering program lets pass (fragments, and packets of
//! the moments before and after). Nothing is read from it, so its buffer is as small as can be.
//! Empty datagrams through it make the kernel find neighbours, which needs no privilege.

use std::ffi::CString;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::XdpError;
use super::neighbours::Link;
use super::socket::patiently;

/// Claims a UDP port on the device that has its address.
pub(super) fn claim(mut address: SocketAddr, network: &Link) -> Result<OwnedFd, XdpError> {
    let family = match &mut address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(address) => {
            // An address of the link alone is none without its link.
            address.set_scope_id(network.index);
            AddressFamily::INET6
        }
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(family, SocketType::DGRAM, flags, None)
        .map_err(XdpError::system("socket(2)"))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true).map_err(XdpError::system("IPV6_V6ONLY"))?;
    }
    // The kernel makes it the least that it allows.
    sockopt::set_socket_recv_buffer_size(&socket, 0).map_err(XdpError::system("SO_RCVBUF"))?;
    patiently("the UDP port", || Ok(net::bind(&socket, &address)?)).map_err(|error| {
        match Errno::from_io_error(&error) {
            Some(Errno::ADDRINUSE) => XdpError::AddressInUse { address },
            Some(Errno::ACCESS | Errno::PERM) => XdpError::Privilege {
                step: "a UDP port below 1024",
                capabilities: "CAP_NET_BIND_SERVICE",
            },
            Some(Errno::ADDRNOTAVAIL) => {
                XdpError::NotOnDevice { address: address.ip(), device: network.name.clone() }
            }
            _ => XdpError::System { step: "bind(2) of a UDP socket", source: error },
        }
    })?;
    use_device(socket.as_fd(), &network.name).map_err(XdpError::system("SO_BINDTODEVICE"))?;
    Ok(socket)
}

/// Has the socket send through this device alone, as the port does.
fn use_device(socket: BorrowedFd<'_>, name: &str) -> std::io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: the kernel reads as many bytes as said from a live string.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            name.count_bytes() as libc::socklen_t,
        )
    };
    if answer < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
