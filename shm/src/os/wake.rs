//! Waking across a border of trust: an engine and an application that may mean it harm.
//!
//! What two processes share of a descriptor includes its flags: a stranger can make a non-blocking
//! eventfd block, and fill or empty it. So an engine neither reads nor writes one that an
//! application holds. It watches theirs through a [`DoorbellSet`] of its own, and rings for them
//! through a [`WakeSender`], whose end of the connection only the engine has.

use super::doorbell::DoorbellError;
use alloc::sync::Arc;
use core::mem::MaybeUninit;
use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown,
    socketpair, sockopt,
};
use std::io;

/// Doorbells looked at by one [`DoorbellSet::clear`]. Those beyond make the next wait a short one.
const CLEARED_MAX: usize = 64;

/// Rings for an application that is not trusted. It never blocks, whatever the holder of the other
/// end does to it: what does not fit is not sent, as that end is readable then anyway.
#[derive(Debug)]
pub struct WakeSender {
    socket: OwnedFd,
}

impl AsFd for WakeSender {
    /// To be passed on to whoever is to ring.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What that application waits on: readable from a ring until it is drained, and for ever once the
/// sender is gone.
#[derive(Debug)]
pub struct WakeReceiver {
    socket: OwnedFd,
}

impl WakeSender {
    /// Both ends.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn pair() -> io::Result<(WakeSender, WakeReceiver)> {
        // A stream: it has no filters of the receiver's that would run in the sender's call.
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Nothing comes back, so that nobody can leave descriptors with us to close.
        shutdown(&ours, Shutdown::Read)?;
        Ok((WakeSender { socket: ours }, WakeReceiver { socket: theirs }))
    }

    /// The end that was received from the one that is to be woken, where it has made both.
    ///
    /// # Errors
    /// It is something else, on which a call might block: refuse it.
    pub fn from_fd(socket: OwnedFd) -> io::Result<Self> {
        let is_stream = sockopt::socket_domain(&socket)? == AddressFamily::UNIX
            && sockopt::socket_type(&socket)? == SocketType::STREAM;
        if !is_stream {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        shutdown(&socket, Shutdown::Read)?;
        Ok(WakeSender { socket })
    }

    /// Rings: one system call. Nothing is to be done if nobody hears it: the application is gone,
    /// or has let so many rings gather that one more makes no difference.
    pub fn ring(&self) {
        let _ = send(&self.socket, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

impl WakeReceiver {
    /// The end that was received. If it is something else, draining it fails.
    #[must_use]
    pub fn from_fd(socket: OwnedFd) -> Self {
        WakeReceiver { socket }
    }

    /// The end, to be passed on.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.socket
    }

    /// Silences it: one system call. True if it had been rung since the last time.
    ///
    /// # Errors
    /// [`DoorbellError::Use`]: the sender is gone, or the descriptor is no socket.
    pub fn drain(&self) -> Result<bool, DoorbellError> {
        // More than an honest sender lets gather. What is left makes the next wait a short one.
        let mut rings = [0_u8; 64];
        match recv(&self.socket, &mut rings, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Err(DoorbellError::Use(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(DoorbellError::Use(errno.into())),
        }
    }
}

impl AsFd for WakeReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Doorbells that others ring and may spoil, watched without being touched: readable when one of
/// them has been rung since the last [`clear`](DoorbellSet::clear).
#[derive(Debug)]
pub struct DoorbellSet {
    epoll: OwnedFd,
}

/// A doorbell in a [`DoorbellSet`]; dropping it takes it out.
#[derive(Debug)]
pub struct WatchedDoorbell {
    doorbell: OwnedFd,
    set: Arc<DoorbellSet>,
}

impl DoorbellSet {
    /// An empty set.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(DoorbellSet { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? }))
    }

    /// Watches the descriptor of a [`Doorbell`](crate::Doorbell) of which others may have copies.
    ///
    /// # Errors
    /// The system watches no more descriptors for this user.
    pub fn watch(self: &Arc<Self>, doorbell: OwnedFd) -> io::Result<WatchedDoorbell> {
        // Edge-triggered: each ring is one event, whatever the counter holds, so that nobody has to
        // bring it back to zero.
        let when = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &doorbell, epoll::EventData::new_u64(0), when)?;
        Ok(WatchedDoorbell { doorbell, set: Arc::clone(self) })
    }

    /// Forgets the rings up to now: one system call, which does not block.
    pub fn clear(&self) {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); CLEARED_MAX];
        let no_time = Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = epoll::wait(&self.epoll, &mut events, Some(&no_time));
    }
}

impl AsFd for DoorbellSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Drop for WatchedDoorbell {
    fn drop(&mut self) {
        // Copies that others have would otherwise keep it in the set.
        let removed = epoll::delete(&self.set.epoll, &self.doorbell);
        debug_assert!(removed.is_ok(), "taking a doorbell out of its set: {removed:?}");
    }
}

#[cfg(test)]
mod tests;
