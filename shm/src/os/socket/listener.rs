//! Where an engine is found.

use super::control::{ControlSocket, unconnected};
use super::errors::{AcceptError, BindError};
use super::lock::PathLock;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, chmod, fchmod, statat, unlink};
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, SocketFlags, accept_with, bind, listen};
use std::io;
use std::path::{Path, PathBuf};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A socket at a path, with a lock file beside it (the path with ".lock" added) that tells a living
/// owner from a dead one. Both are removed when it is dropped; after a kill they stay, and the next
/// `bind` reclaims them.
#[derive(Debug)]
pub struct ControlListener {
    fd: OwnedFd,
    path: PathBuf,
    /// Let go after the socket's path is removed, so that a successor's path is never removed.
    _lock: PathLock,
}

impl ControlListener {
    /// Listens at `path`, whose permission bits become `mode` (such as 0o600: only this user).
    pub fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        let failed = |errno: Errno| match errno {
            Errno::NAMETOOLONG => {
                BindError::PathTooLong { path: path.to_path_buf(), found: path.as_os_str().len() }
            }
            errno => BindError::Bind { path: path.to_path_buf(), source: errno.into() },
        };
        let address = SocketAddrUnix::new(path).map_err(failed)?;
        let lock = PathLock::acquire(path)?;
        remove_stale(path)
            .map_err(failed)?
            .then_some(())
            .ok_or_else(|| BindError::NotSocket { path: path.to_path_buf() })?;

        let fd = unconnected().map_err(failed)?;
        let mode = Mode::from_raw_mode(mode & 0o777);
        // The path inherits the socket's mode less the umask, so that it is at no moment open to
        // more users than it shall be; setting it again adds what the umask took away.
        fchmod(&fd, mode).map_err(failed)?;
        bind(&fd, &address).map_err(failed)?;
        let listener = Self { fd, path: path.to_path_buf(), _lock: lock };
        chmod(path, mode).map_err(failed)?;
        listen(&listener.fd, BACKLOG).map_err(failed)?;
        Ok(listener)
    }

    /// The next connection; `None` if there is none and the listener does not block. The connection
    /// blocks, whatever the listener does.
    pub fn accept(&self) -> Result<Option<ControlSocket>, AcceptError> {
        loop {
            match accept_with(&self.fd, SocketFlags::CLOEXEC) {
                Ok(fd) => return Ok(Some(ControlSocket::from_fd(fd))),
                // A peer that gave up while it waited is nobody's fault here.
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(AcceptError::Accept(errno.into())),
            }
        }
    }

    /// Whether [`accept`](Self::accept) waits for a connection (as at first) or gives `None`.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.fd, nonblocking)?)
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for ControlListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        // The lock is still held: what lies there is ours, or somebody removed it.
        let _ = unlink(&self.path);
    }
}

/// Removes a dead owner's socket; false if something else lies there. Under the lock.
fn remove_stale(path: &Path) -> Result<bool, Errno> {
    let found = match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(true),
        Err(errno) => return Err(errno),
    };
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Ok(false);
    }
    unlink(path)?;
    Ok(true)
}
