//! The wake-up of a sleeping party: an eventfd.

use alloc::string::{String, ToString};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, OFlags, fcntl_getfl, fcntl_setfl, readlinkat};
use rustix::io::{Errno, read, write};
use std::io;
use thiserror::Error;

/// How /proc shows an eventfd.
const EVENTFD_LINK: &str = "anon_inode:[eventfd]";

/// Why there is no doorbell.
#[derive(Debug, Error)]
pub enum DoorbellError {
    /// The kernel made no eventfd: see the cause (too many descriptors).
    #[error("the kernel made no eventfd: {0}")]
    Create(#[source] io::Error),
    /// The descriptor received cannot be looked at: see the cause.
    #[error("the doorbell's descriptor cannot be examined: {0}")]
    Examine(#[source] io::Error),
    /// The descriptor received is something else, which could block whoever rings: refuse it.
    #[error("the doorbell's descriptor is {found}; expected {EVENTFD_LINK}")]
    NotEventfd {
        /// What it is, as /proc shows it.
        found: String,
    },
    /// Ringing or draining failed: the descriptor is broken, so close what it belongs to.
    #[error("the doorbell cannot be used: {0}")]
    Use(#[source] io::Error),
}

/// A doorbell: ringing it makes its descriptor readable until it is drained.
///
/// Neither call blocks, as long as all who hold the descriptor are honest: its non-blocking mode
/// belongs to the file that they share, and one of them can switch it off and fill the counter.
/// Towards those who are not trusted there are [`WakeSender`](crate::WakeSender), to ring for them,
/// and [`DoorbellSet`](crate::DoorbellSet), to hear them ring.
#[derive(Debug)]
pub struct Doorbell {
    fd: OwnedFd,
}

impl Doorbell {
    /// A new doorbell that has not been rung.
    pub fn new() -> Result<Self, DoorbellError> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let fd = eventfd(0, flags).map_err(|errno| DoorbellError::Create(errno.into()))?;
        Ok(Self { fd })
    }

    /// A doorbell out of a received descriptor, after seeing that it is one.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, DoorbellError> {
        let examine = |errno: Errno| DoorbellError::Examine(errno.into());
        let path = std::format!("/proc/self/fd/{}", fd.as_raw_fd());
        let link = readlinkat(CWD, path, alloc::vec::Vec::new()).map_err(examine)?;
        let found = link.to_string_lossy();
        if found != EVENTFD_LINK {
            return Err(DoorbellError::NotEventfd { found: found.to_string() });
        }
        let flags = fcntl_getfl(&fd).map_err(examine)?;
        fcntl_setfl(&fd, flags | OFlags::NONBLOCK).map_err(examine)?;
        Ok(Self { fd })
    }

    /// Rings: one system call. Ringing again before it is drained changes nothing.
    pub fn ring(&self) -> Result<(), DoorbellError> {
        match write(&self.fd, &1_u64.to_ne_bytes()) {
            // A full counter has been rung often enough.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(errno) => Err(DoorbellError::Use(errno.into())),
        }
    }

    /// Silences it: one system call. True if it had been rung since the last time.
    pub fn drain(&self) -> Result<bool, DoorbellError> {
        match read(&self.fd, &mut [0_u8; 8]) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(DoorbellError::Use(errno.into())),
        }
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ready, wait_any};
    use core::time::Duration;

    fn ready(doorbell: &Doorbell) -> Ready {
        wait_any(&[doorbell.as_fd()], Some(Duration::ZERO)).unwrap()
    }

    #[test]
    fn is_readable_from_ring_to_drain() {
        let doorbell = Doorbell::new().unwrap();
        assert!(ready(&doorbell).is_empty());
        assert!(!doorbell.drain().unwrap());

        doorbell.ring().unwrap();
        doorbell.ring().unwrap();
        assert!(ready(&doorbell).contains(0));
        assert!(doorbell.drain().unwrap());
        assert!(!doorbell.drain().unwrap());
        assert!(ready(&doorbell).is_empty());
    }

    #[test]
    fn a_received_descriptor_rings_the_same_bell() {
        let bell = Doorbell::new().unwrap();
        let peer = Doorbell::from_fd(bell.as_fd().try_clone_to_owned().unwrap()).unwrap();
        peer.ring().unwrap();
        assert!(bell.drain().unwrap());
    }

    #[test]
    fn a_full_counter_does_not_block() {
        let bell = Doorbell::new().unwrap();
        write(&bell.fd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        bell.ring().unwrap();
        assert!(bell.drain().unwrap());
    }

    #[test]
    fn a_blocking_eventfd_is_made_non_blocking() {
        let blocking = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        assert!(!Doorbell::from_fd(blocking).unwrap().drain().unwrap());
    }

    #[test]
    fn what_is_no_eventfd_is_refused() {
        let (pipe, _other_end) = rustix::pipe::pipe().unwrap();
        let refused = Doorbell::from_fd(pipe).unwrap_err();
        assert!(matches!(&refused, DoorbellError::NotEventfd { found } if found.contains("pipe")));
    }
}
