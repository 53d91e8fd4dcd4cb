//! One end of a connection.

use super::errors::{ConnectError, ReceiveError, SendError};
use crate::os::process::Pidfd;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use rustix::cmsg_space;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    connect, recvmsg, sendmsg, socket_with, socketpair,
};
use std::io;
use std::path::Path;

/// A message brings at most this many descriptors.
pub const DESCRIPTORS_MAX: usize = 8;

/// What [`ControlSocket::receive`] found.
#[derive(Debug)]
pub enum Incoming {
    /// A message: its bytes are the first `len` of the buffer.
    Message {
        /// Length in bytes, at least 1.
        len: usize,
        /// The descriptors that came with it, close-on-exec, in the order sent.
        descriptors: Vec<OwnedFd>,
    },
    /// Nothing has come yet; only from a socket that does not block.
    Nothing,
    /// The peer has closed and everything it sent has been received.
    EndOfFile,
}

/// Who is at the other end, as the kernel saw it when the connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process number; 0 if the process lies in a PID namespace that is not visible from here.
    pub pid: u32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// One end of a connection that carries whole messages and descriptors.
#[derive(Debug)]
pub struct ControlSocket {
    fd: OwnedFd,
}

impl ControlSocket {
    /// Connects to whoever listens at `path`. The socket blocks.
    pub fn connect(path: &Path) -> Result<Self, ConnectError> {
        let other = |errno: Errno| {
            let path = path.to_path_buf();
            match errno {
                Errno::NOENT => ConnectError::NotFound { path },
                Errno::CONNREFUSED => ConnectError::NotListening { path },
                Errno::ACCESS | Errno::PERM => ConnectError::Denied { path },
                Errno::NAMETOOLONG => {
                    let found = path.as_os_str().len();
                    ConnectError::PathTooLong { path, found }
                }
                errno => ConnectError::Other { path, source: errno.into() },
            }
        };
        let address = SocketAddrUnix::new(path).map_err(other)?;
        let fd = unconnected().map_err(other)?;
        connect(&fd, &address).map_err(other)?;
        Ok(Self { fd })
    }

    /// Two connected ends, both blocking.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self { fd: one }, Self { fd: other }))
    }

    /// An end that was inherited or received. It must be a Unix SEQPACKET socket; if it is not, its
    /// calls fail.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Sends one message of at least one byte with up to [`DESCRIPTORS_MAX`] descriptors.
    pub fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        if message.is_empty() {
            return Err(SendError::Empty);
        }
        if descriptors.len() > DESCRIPTORS_MAX {
            return Err(SendError::TooManyDescriptors { found: descriptors.len() });
        }
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            let fits = control.push(SendAncillaryMessage::ScmRights(descriptors));
            debug_assert!(fits, "the space was made for as many descriptors");
        }
        let parts = [IoSlice::new(message)];
        loop {
            match sendmsg(&self.fd, &parts, &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(SendError::WouldBlock),
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => {
                    return Err(SendError::Closed);
                }
                Err(Errno::MSGSIZE) => return Err(SendError::TooLarge { found: message.len() }),
                Err(errno) => return Err(SendError::Other(errno.into())),
            }
        }
    }

    /// Receives one message. The buffer must have room for the longest one that the protocol has.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Incoming, ReceiveError> {
        let capacity = buffer.len();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(buffer)];
            match recvmsg(&self.fd, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Incoming::Nothing),
                // The peer has closed without having read what we sent: no less an end.
                Err(Errno::CONNRESET) => return Ok(Incoming::EndOfFile),
                Err(errno) => return Err(ReceiveError::Other(errno.into())),
            }
        };
        // Taken out before anything is refused, so that they are closed in any case.
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > DESCRIPTORS_MAX {
            return Err(ReceiveError::DescriptorsTruncated);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(ReceiveError::MessageTruncated { capacity });
        }
        match received.bytes {
            0 => Ok(Incoming::EndOfFile),
            len => Ok(Incoming::Message { len, descriptors }),
        }
    }

    /// Whether calls block (as at first) or give `WouldBlock` and `Nothing`.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.fd, nonblocking)?)
    }

    /// Who connected, or who listened.
    pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        // rustix's type for the answer cannot hold the process number 0, which the kernel gives for
        // a peer in another namespace.
        let nobody = libc::ucred { pid: 0, uid: 0, gid: 0 };
        // SAFETY: the option's value is this plain C struct, for which any bytes are valid.
        let found = unsafe { self.option(libc::SO_PEERCRED, nobody)? };
        let pid = u32::try_from(found.pid).unwrap_or(0);
        Ok(PeerCredentials { pid, uid: found.uid, gid: found.gid })
    }

    /// The supplementary groups of who connected, as the kernel saw them then.
    pub fn peer_groups(&self) -> io::Result<Vec<u32>> {
        let mut groups = alloc::vec![0_u32; 64];
        loop {
            let mut bytes = size_of_val(groups.as_slice()) as libc::socklen_t;
            // SAFETY: the kernel writes at most `bytes` bytes to the numbers, any of which is valid.
            let status = unsafe {
                let into = groups.as_mut_ptr().cast();
                let (level, name) = (libc::SOL_SOCKET, libc::SO_PEERGROUPS);
                libc::getsockopt(self.fd.as_raw_fd(), level, name, into, &mut bytes)
            };
            let found = bytes as usize / size_of::<u32>();
            if status == 0 {
                groups.truncate(found);
                return Ok(groups);
            }
            match io::Error::last_os_error() {
                // The kernel has said how many there are.
                error if error.raw_os_error() == Some(libc::ERANGE) && found > groups.len() => {
                    groups.resize(found, 0);
                }
                error => return Err(error),
            }
        }
    }

    /// A handle on the peer's process, to notice its death by. `NotFound` if it has died already or
    /// its process number is not visible from here.
    ///
    /// Kernels before 6.5 can only open it by number: if the peer dies and its number is given away
    /// before this call, the handle is another process's. End-of-file tells of the death then.
    pub fn peer_process(&self) -> io::Result<Pidfd> {
        // SAFETY: the option's value is an int.
        match unsafe { self.option::<libc::c_int>(libc::SO_PEERPIDFD, -1) } {
            Ok(fd) if fd >= 0 => {
                // SAFETY: the kernel made the descriptor for us just now; nobody else knows it.
                return Ok(Pidfd::from_fd(unsafe { OwnedFd::from_raw_fd(fd) }));
            }
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            // A kernel that does not have the option, or not for such a peer.
            Ok(_) | Err(_) => {}
        }
        match self.peer_credentials()?.pid {
            0 => Err(io::ErrorKind::NotFound.into()),
            pid => Pidfd::open(pid),
        }
    }

    /// Reads a socket option of level SOL_SOCKET over `value`.
    ///
    /// # Safety
    /// `T` must be a plain C type for which any bytes are valid.
    unsafe fn option<T>(&self, name: libc::c_int, mut value: T) -> io::Result<T> {
        let mut len = size_of::<T>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `value`, for which any bytes are valid.
        let status = unsafe {
            let into = (&raw mut value).cast();
            libc::getsockopt(self.fd.as_raw_fd(), libc::SOL_SOCKET, name, into, &mut len)
        };
        if status != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(value)
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A socket of our kind, not yet connected or bound.
pub(super) fn unconnected() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}
